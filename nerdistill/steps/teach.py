"""The teacher: fine-tuned on the labelled sentences, or taken as it is."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from nerdistill.config import Engine, RunConfig
from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.errors import ConfigError, DataError, MissingExtraError
from nerdistill.files import DONE, folder_beside, read_json
from nerdistill.fingerprint import fingerprint, sha256_file
from nerdistill.losses.base import LOSSES, Widths
from nerdistill.steps.context import Context
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.teachers.annotate import OVERLAP, Annotator
from nerdistill.teachers.huggingface import (
    TeacherModel,
    best_precision,
    checkpoint_config,
    checkpoint_tags,
    load_masked_lm,
    load_pieces,
    load_teacher,
    resolve,
    save_teacher,
)
from nerdistill.teachers.masked import MaskedTeacher, masked_teacher
from nerdistill.teachers.onnx_engine import OnnxEngine
from nerdistill.teachers.reconcile import reconcile
from nerdistill.training.loop import StageRun, run_stage
from nerdistill.training.selection import DevF1
from nerdistill.training.stage import Optimisation, Stage, Term


@dataclass(frozen=True)
class Taught:
    """A teacher on disk.

    Attributes:
        model: Checkpoint folder, or hub id where it was taken as it is.
        identity: Fingerprint of its weights' making.
    """

    model: str
    identity: str


def teach(context: Context) -> Taught:
    """Make the run's teacher, or find it made."""
    config = context.config.teacher
    source = resolve(config.model)
    if not config.fine_tune:
        tags = checkpoint_tags(source, config.revision) or ()
        reconcile(tags, context.data.scheme, config.label_map)
        return Taught(source, fingerprint(weights_digest(source), config.revision))
    settings = config.model_dump(exclude={"label_map"})
    identity = context.identity("teach", settings, weights_digest(source), context.labelled_digest, context.config.data.alpha)
    folder = context.step_folder("teacher", identity)
    with context.making(folder):
        if not context.is_made(folder, identity):
            context.log.say(f"teacher: fine-tuning {config.model}")
            _fine_tune(context, source, folder, identity)
    return Taught(str(folder), identity)


def open_teacher(context: Context, taught: Taught, layers: tuple[int, ...] = (), width: int = 0, engine: Engine = "torch") -> Annotator:
    """The finished teacher, ready to read text; arguments as in `SignalsConfig`.

    Raises:
        ConfigError: It has no such layers, or the engine cannot run it.
    """
    config = context.config
    device = context.accelerator.device
    precision = best_precision(config.teacher.precision, device)
    revision = None if Path(taught.model).is_dir() else config.teacher.revision
    model = load_teacher(taught.model, None, precision, config.seed, revision).to(device)
    if layers and max(layers) > model.n_layers:
        raise ConfigError(f"signals.layers = {list(layers)}: the teacher has layers 0 (embeddings) to {model.n_layers}")
    label_map = None if config.teacher.fine_tune else config.teacher.label_map
    targets = reconcile(model.tags, context.data.scheme, label_map)
    encoder = load_pieces(taught.model, revision).encoder(config.teacher.max_pieces)
    annotator = Annotator(model, encoder, context.data.scheme, targets, config.signals.batch, layers, width)
    return annotator if engine == "torch" else replace(annotator, engine=OnnxEngine(model, layers, int8=engine == "onnx-int8"))


def open_general_teacher(context: Context) -> Annotator:
    """The teacher as it was before fine-tuning, ready to read text: its states and attention say something, its tags nothing."""
    config, scheme = context.config, context.data.scheme
    model = load_general_teacher(context, best_precision(config.teacher.precision, context.accelerator.device))
    encoder = load_pieces(resolve(config.teacher.model), config.teacher.revision).encoder(config.teacher.max_pieces)
    return Annotator(model.to(context.accelerator.device), encoder, scheme, tuple(range(len(scheme.tags))), config.signals.batch)


def load_general_teacher(context: Context, precision: str) -> TeacherModel:
    """The teacher as it was before fine-tuning, with a new head."""
    config = context.config
    return load_teacher(resolve(config.teacher.model), context.data.scheme.tags, precision, config.seed, config.teacher.revision)


LEARNS_PIECES = "the recipe learns pieces from the teacher before fine-tuning"
DO_WITHOUT_PIECES = (
    "take a teacher that is one, such as 'bert-base-multilingual-cased', or set the recipe's masked_lm = false and soft_pieces = false, "
    "which leave the teacher's states to learn"
)


def open_masked_teacher(context: Context, vocabulary: Vocabulary) -> MaskedTeacher:
    """The teacher as it was before fine-tuning, as a masked language model over the student's pieces.

    Raises:
        ConfigError: It is none.
    """
    config, device = context.config.teacher, context.accelerator.device
    source = resolve(config.model)
    masked = load_masked_lm(source, LEARNS_PIECES, DO_WITHOUT_PIECES, config.revision)
    masked.network.to(device)
    encoder = load_pieces(source, config.revision).encoder(config.max_pieces)
    return masked_teacher(masked, encoder, vocabulary, best_precision(config.precision, device))


def _fine_tune(context: Context, source: str, folder: Path, identity: str) -> None:
    config, data = context.config.teacher, context.data
    precision = best_precision(config.precision, context.accelerator.device)
    model = load_teacher(source, data.scheme.tags, precision, context.config.seed, config.revision)
    pieces = load_pieces(source, config.revision)
    encoder = pieces.encoder(config.max_pieces)
    if config.freeze_embeddings:
        model.word_embeddings.requires_grad_(False)
    stage = Stage(
        name="fine-tuning",
        text="labelled",
        terms=(Term(loss="hard_tags"),),
        optimisation=Optimisation(
            learning_rate=config.learning_rate, schedule="linear", warmup=config.warmup, weight_decay=config.weight_decay,
            batch=config.batch,
            accumulate=config.accumulate, epochs=config.epochs, patience=config.patience, evaluations=config.evaluations,
        ),
    )  # fmt: skip
    kind = LOSSES.get("hard_tags")
    run = StageRun(
        stage=stage,
        model=model,
        trainable={name: weight for name, weight in model.named_parameters() if weight.requires_grad},
        terms=[(kind.build(kind.options(), Widths((), 0)), 1.0)],
        corpus=EncodedCorpus(data.train, encoder, data.scheme),
        score=DevF1(model, EncodedCorpus(data.dev, encoder, overlap=OVERLAP), data.dev, data.scheme, context.config.signals.batch),
        folder=folder.with_name(f"{folder.name}-checkpoint"),
        identity=identity,
        seed=context.config.seed,
        alpha=context.config.data.alpha,
        log=context.log.named("teacher", identity),
        accelerator=context.accelerator,
    )
    result = run_stage(run)
    if context.main:
        with folder_beside(folder, {"identity": identity, "dev_f1": result.best_score, "seconds": round(result.seconds, 1)}) as target:
            save_teacher(model, pieces, target)
        shutil.rmtree(run.folder, ignore_errors=True)
    context.wait()


def taught_seconds(taught: Taught) -> float | None:
    """Time that fine-tuning took, None for a teacher taken as it is."""
    marker = Path(taught.model) / DONE
    return read_json(marker).get("seconds") if marker.is_file() else None


def teacher_settings(config: RunConfig) -> Any:
    """What `checkpoint_config` says of the configured teacher; None where it is not there to be asked, as when a plan is printed."""
    try:
        return checkpoint_config(resolve(config.teacher.model), config.teacher.revision)
    except (DataError, MissingExtraError):
        return None


def teacher_depth(config: RunConfig) -> int:
    """Layers of the configured teacher; 12 where it is not there to be asked."""
    settings = teacher_settings(config)
    return 12 if settings is None else int(settings.num_hidden_layers)


def weights_digest(source: str) -> str:
    """Fingerprint of a checkpoint's weights; a hub id stands for itself."""
    folder = Path(source)
    if not folder.is_dir():
        return source
    files = [(file, file.stat()) for file in sorted(folder.glob("*.safetensors"))]
    return fingerprint([_file_digest(file, stat.st_size, stat.st_mtime_ns) for file, stat in files] or source)


@cache
def _file_digest(path: Path, size: int, modified: int) -> str:
    """The digest of a file as it was at that time: each step asks for it, and a teacher is read through once."""
    return sha256_file(path)

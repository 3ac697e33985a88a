"""Training beside TextBrewer: the same teacher, student, sentences, losses and threads; and where the time of our own steps goes.

In a round every contestant trains for one epoch from the same first weights, one after the other, so that a busy moment of the machine
meets them all. A first round warms up; what the students are like after it is compared, as a check that all learn the same thing.

Four things could make a difference, and contestants differ by one of them at a time: batches of like length, our loop and network in
float32, the precision that the configuration asks for where the processor does better than that, signals that are stored once in place of
a teacher that reads along.
"""

from __future__ import annotations

import copy
import importlib.metadata
import math
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nerdistill.corpus.encoded import EncodedCorpus, Targets
from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.spread import spread
from nerdistill.evaluation.training_tables import KIND
from nerdistill.losses.base import Widths
from nerdistill.steps.build import student_encoder
from nerdistill.steps.contestants import public_name
from nerdistill.steps.context import Context
from nerdistill.steps.teach import teach
from nerdistill.steps.training_ground import TEMPERATURE, Ground, build_terms, lay_ground
from nerdistill.steps.with_textbrewer import TextBrewerSide, textbrewer
from nerdistill.students.base import Shape, Student, build_student, count_parameters
from nerdistill.teachers.annotate import Annotator, annotate
from nerdistill.teachers.huggingface import best_precision
from nerdistill.teachers.live import read_along, teacher_reader
from nerdistill.teachers.store import SignalStore, shard_path
from nerdistill.training.loop import StageRun, run_stage
from nerdistill.training.runlog import RunLog
from nerdistill.training.selection import HeldOutLoss
from nerdistill.training.stage import Optimisation, Stage, Term
from nerdistill.training.step_clock import time_steps

RATE = 5e-4
PROFILED_EPOCHS = 3.0
PACKAGES = ("nerdistill", "textbrewer", "torch", "transformers", "accelerate", "numpy")
_IDENTITY = "benchmark"


@dataclass(frozen=True)
class TrainingBench:
    """How much is measured.

    Attributes:
        sentences: Of the transfer text, evenly.
        batch: Padded pieces of a batch, at most. TextBrewer's batches that are not by length have as many sentences as make as many steps.
        rounds: Timings of each contestant.
        epochs: Over which the reading of stored signals is spread, beside 1.
    """

    sentences: int = 600
    batch: int = 1024
    rounds: int = 5
    epochs: int = 8

    @property
    def plan(self) -> Optimisation:
        """One epoch at a constant rate, as TextBrewer has it without a schedule."""
        return Optimisation(learning_rate=RATE, schedule="constant", warmup=0.0, batch=self.batch)


@dataclass
class _Contestant:
    """Who trains.

    Attributes:
        about: What the row says of it.
        train: One epoch from the first weights.
        model: What is scored afterwards.
        annotate: Reads the teacher's signals, where they are stored.
        seconds: Of each round's training.
        annotation: Of each round's reading.
    """

    about: dict[str, Any]
    train: Callable[[], object]
    model: nn.Module
    annotate: Callable[[], object] | None = None
    seconds: list[float] = field(default_factory=list)
    annotation: list[float] = field(default_factory=list)

    def round(self, device: torch.device) -> None:
        """One timing of each."""
        if self.annotate is not None:
            self.annotation.append(_timed(self.annotate, device))
        self.seconds.append(_timed(self.train, device))


def measure_training(context: Context, bench: TrainingBench) -> dict[str, Any]:
    """Train with TextBrewer and with ours, in turn; teaches first if need be.

    Args:
        context: The run, from which come teacher and text.
        bench: How much is measured.

    Returns:
        A results object. A row is a contestant: ``system``, ``precision``, ``batches`` (``shuffled``, ``by length``), ``teacher`` (``reads
        along``, ``stored``), ``steps``, ``padding`` (share of the padded pieces), ``words_per_second`` (median) with
        ``words_per_second_quartiles`` and ``pieces_per_second`` of training alone, ``words_per_second_by_epochs``, the same with the
        teacher's reading counted, and ``divergence``, the mean of the loss over tags after one epoch; it was ``data.divergence`` before.
        ``steps`` holds, for each kind of student, ``microseconds`` a word of the parts of our steps.

    Raises:
        ConfigError: TextBrewer is not installed, or does not fit this teacher; see `lay_ground`.
        DataError: There is no text.
    """
    textbrewer()  # first: what is missing is said before a teacher is made
    ground = lay_ground(context, teach(context), bench.sentences)
    with tempfile.TemporaryDirectory() as scratch:
        stores = _stores(ground, Path(scratch))
        contestants = [*_rivals(ground, bench, Path(scratch)), *_ours(ground, bench, stores)]
        context.log.say(f"training: {len(contestants)} contestants, {bench.rounds} rounds")
        judge = _Judge(ground, stores[-1])
        before = judge(ground.make_student())
        for contestant in contestants:
            context.log.show(f"  {_name(contestant)} warms up")
            contestant.train()
            contestant.about["divergence"] = round(judge(contestant.model), 6)
        for number in range(bench.rounds):
            for contestant in contestants:
                context.log.show(f"  round {number + 1}/{bench.rounds}: {_name(contestant)}")
                contestant.round(context.accelerator.device)
        context.log.say("the parts of our steps")
        steps = _steps(ground, stores[-1])
    return _results(ground, bench, contestants, steps, before)


def stage_run(
    ground: Ground, student: Student, terms: Sequence[Term], corpus: EncodedCorpus, widths: Widths, plan: Optimisation, precision: str
) -> StageRun:
    """A stage in which all weights of a student learn; it leaves no checkpoint and chooses no weights."""
    names = tuple(group.name for group in student.groups())
    stage = Stage(name="training", text="transfer", terms=tuple(terms), trainable=names, optimisation=plan, select="last")
    trainable = {f"{group.name}.{key}": weight for group in student.groups() for key, weight in group.module.named_parameters()}
    context = ground.context
    return StageRun(
        stage=stage, model=student, trainable=trainable, terms=build_terms(terms, widths), corpus=corpus, score=None,
        folder=context.folder / "no-checkpoint", identity=_IDENTITY, seed=context.config.seed, log=RunLog(None, quiet=True),
        precision=precision, checkpoint_seconds=math.inf, accelerator=context.accelerator,
    )  # fmt: skip


class _Store:
    """The teacher's signals over the text, read anew each time but for the directions that states are reduced to.

    These are made once from at most a thousand sentences however much text there is, so their time belongs to no epoch.
    """

    def __init__(self, teacher: Annotator, ground: Ground, folder: Path) -> None:
        self.teacher, self.sentences, self.folder = teacher, ground.sentences, folder

    def read(self) -> None:
        for number in range(len(list(self.folder.glob("shard-*")))):
            shard_path(self.folder, number).unlink()
        annotate(self.teacher, self.sentences, self.folder, _IDENTITY, RunLog(None, quiet=True))

    def targets(self) -> Targets:
        return SignalStore(self.folder, _IDENTITY).targets()


def _precisions(ground: Ground) -> list[tuple[str, str]]:
    """Of teacher and student: float32, and what the configuration asks for if that is something else."""
    wanted = ground.teacher.model.precision, best_precision(ground.context.config.student.precision, ground.context.accelerator.device)
    return list(dict.fromkeys([("float32", "float32"), wanted]))


def _stores(ground: Ground, scratch: Path) -> list[_Store]:
    """A store for each of `_precisions`, read once."""
    stores = []
    for number, (precision, _) in enumerate(_precisions(ground)):
        stores.append(_Store(ground.teacher_in(precision), ground, scratch / f"signals-{number}"))
        ground.context.log.show("  the teacher reads the text")
        stores[-1].read()
    return stores


def _rivals(ground: Ground, bench: TrainingBench, scratch: Path) -> list[_Contestant]:
    """TextBrewer with batches as they come, and with batches of like length."""
    pieces = ground.teacher_pieces()
    rng = np.random.default_rng(ground.context.config.seed)
    by_length = ground.text().batches(bench.batch, rng)
    order, size = rng.permutation(len(pieces)), -(-len(pieces) // len(by_length))
    shuffled = [order[start : start + size] for start in range(0, len(order), size)]
    made = []
    for name, batches in (("shuffled", shuffled), ("by length", by_length)):
        side = TextBrewerSide(ground, [batch.tolist() for batch in batches], bench.plan, scratch / "textbrewer")
        about = {"system": "TextBrewer", "precision": "float32", "batches": name, "teacher": "reads along"}
        made.append(_Contestant(about | _shape(pieces, batches), side.train, side.student))
    return made


def _ours(ground: Ground, bench: TrainingBench, stores: Sequence[_Store]) -> list[_Contestant]:
    """The loop with a teacher that reads along and with stored signals, in each of `_precisions`."""
    batches = ground.text().batches(bench.batch, np.random.default_rng(ground.context.config.seed))
    shape = _shape(ground.teacher_pieces(), batches)
    made = []
    for stored in (False, True):
        for (reads, learns), store in zip(_precisions(ground), stores, strict=True):
            student = ground.make_student().to(ground.context.accelerator.device)
            corpus, widths = _corpus(ground, student, reads, store if stored else None)
            run = stage_run(ground, student, ground.terms, corpus, widths, bench.plan, learns)
            precision = learns if learns == reads else f"{learns}, teacher {reads}"
            about = {
                "system": "nerdistill",
                "precision": precision,
                "batches": "by length",
                "teacher": "stored" if stored else "reads along",
            }
            made.append(_Contestant(about | shape, _from_the_start(run, ground), student, store.read if stored else None))
    return made


def _corpus(ground: Ground, student: Student, precision: str, store: _Store | None) -> tuple[EncodedCorpus, Widths]:
    """The student's text, with a teacher reading along where there is no store."""
    if store is not None:
        return ground.text(targets=store.targets()), ground.stored_widths(student)
    reader = teacher_reader(ground.teacher_in(precision), with_attention=False)
    return read_along(reader, ground.text(), ground.sentences), ground.live_widths(student)


def _from_the_start(run: StageRun, ground: Ground) -> Callable[[], object]:
    """A stage from the student's first weights, and with projections as they begin, every time that it is called."""
    first = copy.deepcopy(run.model.state_dict())
    projections = [copy.deepcopy(term.state_dict()) for term, _ in run.terms]

    def train() -> None:
        run.model.load_state_dict(first)
        for (term, _), weights in zip(run.terms, projections, strict=True):
            term.load_state_dict(weights)
        run_stage(run)

    return train


class _Judge:
    """The mean over words of the one loss that all share, the divergence of tags, on the text that they learnt from, without dropout."""

    def __init__(self, ground: Ground, store: _Store) -> None:
        self.term = build_terms(ground.terms[:1], Widths((), 0))
        self.corpus, self.batch = ground.text(targets=store.targets()), ground.teacher.batch
        self.device = ground.context.accelerator.device

    def __call__(self, model: nn.Module) -> float:
        model.to(self.device).eval()
        with torch.inference_mode():
            return -HeldOutLoss(model, self.term, self.corpus, self.batch)()


def _steps(ground: Ground, store: _Store) -> list[dict[str, Any]]:
    """Where the time of our own steps goes, batches as recipes have them: both kinds of student, and a teacher that reads along."""
    config, seed = ground.context.config.student, ground.context.config.seed
    device = ground.context.accelerator.device
    shape = Shape(len(ground.vocabulary.teacher_ids), len(ground.context.data.scheme.tags))
    bilstm = build_student("bilstm", config.options if config.kind == "bilstm" else {}, shape, None, seed).to(device)
    over_words = ground.text(student_encoder(bilstm, replace(ground.vocabulary, ends=None)), store.targets())
    last_state = Term(loss="hidden_mse", options={"state": -1, "layer": ground.layers[-1][1]})
    reads, learns = _precisions(ground)[-1]
    plan = Optimisation(learning_rate=RATE, epochs=PROFILED_EPOCHS)
    student = ground.make_student().to(device)
    parts: list[tuple[str, Student, EncodedCorpus, Widths, tuple[Term, ...]]] = [
        ("BiLSTM, stored signals", bilstm, over_words, ground.stored_widths(bilstm), (ground.terms[0], last_state)),
        ("Transformer, stored signals", student, *_corpus(ground, student, reads, store), ground.terms),
        ("Transformer, teacher reads along", student, *_corpus(ground, student, reads, None), ground.terms),
    ]
    rows = []
    for name, model, corpus, widths, terms in parts:
        run = stage_run(ground, model, terms, corpus, widths, plan, learns)
        seconds, words = time_steps(run)
        rows.append(
            {
                "system": name,
                "precision": learns,
                "parameters": count_parameters(model),
                "microseconds": {part: round(1e6 * spent / words, 3) for part, spent in seconds.items()},
                "words_per_second": round(words / sum(seconds.values())),
            }
        )
    return rows


def _results(
    ground: Ground, bench: TrainingBench, contestants: Sequence[_Contestant], steps: list[dict[str, Any]], before: float
) -> dict[str, Any]:
    context = ground.context
    words, pieces = ground.text().n_words, int(ground.teacher_pieces().sum()) - 2 * len(ground.sentences)
    data = {
        "teacher": public_name(context.config.teacher.model),
        "languages": list(context.config.data.languages),
        "sentences": len(ground.sentences),
        "words": words,
        "pieces": pieces,
        "student_layers": len(ground.layers) - 1,
        "student_parameters": count_parameters(ground.network),
        "student_pieces": len(ground.vocabulary.teacher_ids),
        "teacher_layers": [layer for _, layer in ground.layers],
        "stored_width": ground.teacher.width,
        "temperature": TEMPERATURE,
        "learning_rate": RATE,
        "batch": bench.batch,
        "divergence": round(before, 6),
    }
    rows = [_row(contestant, words, pieces, bench.epochs) for contestant in contestants]
    gpu = torch.cuda.get_device_name() if context.accelerator.device.type == "cuda" else None
    results = results_frame("training throughput", context.command, torch.get_num_threads(), data, rows, gpu)
    versions = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}
    return results | {"kind": KIND, "rounds": bench.rounds, "epochs": bench.epochs, "versions": versions, "steps": steps}


def _row(contestant: _Contestant, words: int, pieces: int, epochs: int) -> dict[str, Any]:
    rates = spread([words / seconds for seconds in contestant.seconds])
    middle = float(np.median(contestant.seconds))
    reading = float(np.median(contestant.annotation)) if contestant.annotation else 0.0
    return contestant.about | {
        "words_per_second": rates["median"],
        "words_per_second_quartiles": rates["quartiles"],
        "pieces_per_second": round(pieces / middle),
        "words_per_second_by_epochs": {str(n): round(n * words / (reading + n * middle)) for n in sorted({1, epochs})},
    }


def _shape(costs: npt.NDArray[np.int64], batches: Sequence[npt.NDArray[np.int64]]) -> dict[str, Any]:
    """Steps of an epoch, and the share of padding in its batches."""
    padded = sum(len(batch) * int(costs[batch].max()) for batch in batches)
    return {"steps": len(batches), "padding": round(1.0 - float(costs.sum()) / padded, 4)}


def _name(contestant: _Contestant) -> str:
    return ", ".join(contestant.about[key] for key in ("system", "precision", "batches", "teacher"))


def _timed(job: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began

"""Contestants of a benchmark, opened: each kind behind the same few functions.

Nothing heavy is imported before a contestant needs it: what a process of a student holds must be what tagging with it takes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nerdistill.errors import ConfigError
from nerdistill.labels import LabelScheme, tags_of
from nerdistill.records import Sentence, WordSpan
from nerdistill.runtime.bundle import TOKENIZER, VARIANTS, Bundle
from nerdistill.steps.benchmark_config import BUNDLE, AnyContestant, BundleContestant, MbertContestant, SpacyContestant, TeacherContestant

if TYPE_CHECKING:
    from spacy.language import Language

    from nerdistill.runtime.backends import Backend

Words = tuple[str, ...]
Tags = tuple[str, ...]

TEACHER_PIECES = 254
"""Pieces that a teacher is given at once, begin and end not counted; longer text is windowed."""

TEACHER_BATCH = 2048
"""Padded pieces in one forward pass of a teacher in torch, as by default in a run's annotation."""


@dataclass(frozen=True)
class Contestant:
    """A system that reads and tags.

    Attributes:
        takes: What it is given when it is timed: texts as ``words``, or as raw ``text``.
        read: Reads texts, so many at a time, or as many as it likes (None).
        read_one: Reads one text.
        tags: Tags of sentences that are split already, one a word, in its own types.
        types: The types that it can find.
        facts: ``parameters``, ``bytes`` (of the files that tagging reads) and what else there is to say of it.
    """

    takes: Literal["words", "text"]
    read: Callable[[Sequence[Any], int | None], object]
    read_one: Callable[[Any], object]
    tags: Callable[[Sequence[Words]], list[Tags]]
    types: tuple[str, ...]
    facts: dict[str, Any]


def open_contestant(settings: AnyContestant, threads: int) -> Contestant:
    """Open a contestant; teachers that ONNX Runtime runs are opened as the bundle that `nerdistill.steps.teacher_networks` made of them.

    Raises:
        BundleError: There is no sound bundle.
        ConfigError: A pipeline is not installed, lacks a pipe or finds no entities; a teacher has no head or other tags than IOB2.
        DataError: A checkpoint cannot be read.
    """
    if isinstance(settings, BundleContestant):
        return _bundle(settings, threads)
    if isinstance(settings, SpacyContestant):
        return _spacy(settings, threads)
    return _teacher(settings, threads)


def public_name(model: str) -> str:
    """A model's name without the folder that it happens to be in."""
    path = Path(model.removeprefix(BUNDLE))
    return path.name if path.is_absolute() or path.is_dir() else model


def one_folder(pattern: str) -> str:
    """The folder that a pattern with ``*`` fits; any other name as it is.

    Raises:
        ConfigError: It fits none or several.
    """
    if "*" not in pattern:
        return pattern
    start = Path(pattern)
    anchor = Path(start.anchor)
    found = sorted(path for path in anchor.glob(str(start.relative_to(anchor))) if path.is_dir())
    if len(found) != 1:
        raise ConfigError(f"'{pattern}' fits {len(found)} folders ({', '.join(map(str, found)) or 'none'}), expected one; name it")
    return str(found[0])


def _in_parts(read: Callable[[Sequence[Any]], object]) -> Callable[[Sequence[Any], int | None], None]:
    def reading(texts: Sequence[Any], size: int | None) -> None:
        step = size or max(1, len(texts))
        for at in range(0, len(texts), step):
            read(texts[at : at + step])

    return reading


def _bundle(settings: BundleContestant, threads: int) -> Contestant:
    from nerdistill.runtime.tagger import Tagger

    tagger = Tagger.load(settings.path, settings.variant, threads, settings.backend)

    def tags(sentences: Sequence[Words]) -> list[Tags]:
        return [tags_of(spans, len(words)) for spans, words in zip(tagger.tag_words(sentences), sentences, strict=True)]

    facts = _facts(tagger.bundle, settings.backend, "student")
    return Contestant("words", _in_parts(tagger.tag_words), lambda words: tagger.tag_words([words]), tags, tagger.labels, facts)


def _facts(bundle: Bundle, backend: Backend, what: str) -> dict[str, Any]:
    read = (VARIANTS[bundle.variant], TOKENIZER)
    return {
        "description": f"{what}, {bundle.variant}{'' if backend == 'onnxruntime' else f', {backend}'}",
        "variant": bundle.variant,
        "backend": backend,
        "parameters": bundle.info.parameters,
        "bytes": sum(len(bundle.files[name]) for name in read),
    }


def _teacher(settings: TeacherContestant | MbertContestant, threads: int) -> Contestant:
    import torch

    from nerdistill.students.base import count_parameters
    from nerdistill.teachers.annotate import Annotator
    from nerdistill.teachers.huggingface import best_precision, load_pieces, load_teacher
    from nerdistill.teachers.reconcile import reconcile

    torch.set_num_threads(threads)
    assert isinstance(settings, TeacherContestant), "the benchmark makes a checkpoint of every other kind first"
    revision = None if Path(settings.model).is_dir() else settings.revision
    model = load_teacher(settings.model, None, best_precision(settings.precision, torch.device("cpu")), seed=0, revision=revision)
    scheme = LabelScheme(tuple(dict.fromkeys(tag[2:] for tag in model.tags if tag != "O")))
    encoder = load_pieces(settings.model, revision).encoder(TEACHER_PIECES)
    annotator = Annotator(model, encoder, scheme, reconcile(model.tags, scheme, None), TEACHER_BATCH)

    def tags(texts: Sequence[Words]) -> list[Tags]:
        return annotator.tag([Sentence(tuple(words)) for words in texts])

    facts = {
        "description": f"{public_name(settings.model)}, torch {model.precision}",
        "precision": model.precision,
        "parameters": count_parameters(model),
        "bytes": _folder_bytes(Path(settings.model), ("*.safetensors", "tokenizer.json")),
    }
    return Contestant("words", _in_parts(tags), lambda words: tags([words]), tags, scheme.types, facts)


def _folder_bytes(folder: Path, patterns: Iterable[str]) -> int | None:
    """Size of a folder's files of these names; None for what is no folder, such as a hub id."""
    return sum(file.stat().st_size for pattern in patterns for file in folder.glob(pattern)) if folder.is_dir() else None


def _spacy(settings: SpacyContestant, threads: int) -> Contestant:
    from spacy.tokens import Doc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spaCy warns of pipelines that an earlier version of it wrote; the benchmark says which one ran
        nlp, facts = _our_pipeline(settings, threads) if settings.model.startswith(BUNDLE) else _their_pipeline(settings)
    finders = [name for name in nlp.pipe_names if "doc.ents" in nlp.get_pipe_meta(name).assigns]
    if not finders:
        raise ConfigError(
            f"spaCy pipeline '{settings.model}': none of its pipes {[*nlp.pipe_names]} finds entities; keep one that does in pipes"
        )
    types = tuple(sorted({label for name in finders for label in getattr(nlp.get_pipe(name), "labels", ())}))

    def read(texts: Sequence[str], size: int | None) -> None:
        for _ in nlp.pipe(texts, batch_size=size):
            pass

    def tags(sentences: Sequence[Words]) -> list[Tags]:
        docs = nlp.pipe(Doc(nlp.vocab, words=list(words)) for words in sentences)
        return [tags_of([WordSpan(span.start, span.end, span.label_) for span in doc.ents], len(doc)) for doc in docs]

    return Contestant("text", read, nlp, tags, types, {**facts, "pipes": [*nlp.pipe_names]})


def _our_pipeline(settings: SpacyContestant, threads: int) -> tuple[Language, dict[str, Any]]:
    """The pipeline that a package of ours holds, with the number of threads and the network that are asked for."""
    import spacy

    from nerdistill.export.spacy_package import COMPONENT
    from nerdistill.pipeline.component import NerDistill

    nlp = spacy.blank("xx", config={"nlp": {"tokenizer": {"@tokenizers": "nerdistill.Splitter.v1"}}})
    chosen = {"bundle": settings.model.removeprefix(BUNDLE), "variant": settings.variant, "backend": settings.backend}
    component = nlp.add_pipe(COMPONENT, config={**chosen, "threads": threads})
    assert isinstance(component, NerDistill)
    return nlp, _facts(component.bundle, settings.backend, "student in spaCy")


def _their_pipeline(settings: SpacyContestant) -> tuple[Language, dict[str, Any]]:
    import spacy

    if settings.variant or settings.backend != "onnxruntime":
        raise ConfigError(f"spaCy pipeline '{settings.model}': variant and backend are for {BUNDLE}PATH only; leave them out")
    about = _meta(settings.model)
    there = about["components"]
    if strangers := [name for name in settings.pipes if name not in there]:
        raise ConfigError(f"spaCy pipeline '{settings.model}' has no pipe {', '.join(strangers)}; it has {', '.join(there)}")
    left = [name for name in there if name not in settings.pipes] if settings.pipes else []
    try:
        nlp = spacy.load(settings.model, exclude=left)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ConfigError(f"spaCy pipeline '{settings.model}': cannot be loaded ({str(error).strip().splitlines()[0]})") from error
    return nlp, {
        "description": f"{about.get('lang')}_{about.get('name')} {about.get('version')}",
        "parameters": _weights(nlp),
        "bytes": _pipeline_bytes(nlp.path, left),
    }


def _meta(model: str) -> dict[str, Any]:
    """What a pipeline says of itself, read before it is loaded, so that pipes which are left out never take memory."""
    from spacy.util import get_package_path, is_package

    folder = get_package_path(model) if is_package(model) else Path(model)
    try:
        about = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"spaCy pipeline '{model}': neither installed nor a folder with a meta.json; pip install it, name its folder, or leave it out "
            "with --only"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"spaCy pipeline '{model}': {folder / 'meta.json'} cannot be read ({error})") from error
    if not isinstance(about, dict) or not isinstance(about.get("components"), list):
        raise ConfigError(f"spaCy pipeline '{model}': {folder / 'meta.json'} names no components; expected a pipeline of spaCy 3")
    return about


def _weights(nlp: Language) -> int:
    """Weights of all pipes, one that pipes share counted once, and the table of vectors."""
    from thinc.model import Model

    sizes: dict[tuple[int, str], int] = {}
    for _, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        for node in model.walk() if isinstance(model, Model) else ():
            sizes.update({(node.id, name): node.get_param(name).size for name in node.param_names if node.has_param(name)})
    return int(sum(sizes.values()) + nlp.vocab.vectors.data.size)


def _pipeline_bytes(folder: Path | None, left: Sequence[str]) -> int | None:
    if folder is None:
        return None
    files = (file for file in folder.rglob("*") if file.is_file() and file.relative_to(folder).parts[0] not in left)
    return sum(file.stat().st_size for file in files)

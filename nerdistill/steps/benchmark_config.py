"""What a benchmark measures: TOML read into frozen models, as for runs.

Contestants and texts are tables with names, ``[contestants.NAME]`` and ``[texts.NAME]``, so that ``--set contestants.teacher.model=PATH``
reaches each of them. Paths of models start from the working folder, paths of texts from ``root``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from nerdistill.config import Engine, SourceFormat, override
from nerdistill.corpus.labelmap import LabelMap
from nerdistill.corpus.readers import ReadOptions, read
from nerdistill.corpus.splits import evenly
from nerdistill.errors import ConfigError, faults_of
from nerdistill.records import Sentence
from nerdistill.runtime.backends import Backend
from nerdistill.runtime.bundle import Variant

BUNDLE = "bundle:"
"""Beginning of a spaCy contestant's ``model`` that is a bundle, packed as `nerdistill.export.spacy_package` packs it."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BenchmarkText(SourceFormat):
    """Labelled text that contestants are timed and scored on.

    Attributes:
        languages: Codes put for ``{lang}``.
        path: Path with ``{lang}`` where the language code goes.
        limit: Sentences taken of each language, evenly over the file; 0 takes all.
    """

    languages: tuple[str, ...] = Field(min_length=1)
    path: str
    limit: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _each_has_a_file(self) -> BenchmarkText:
        if len(self.languages) > 1 and "{lang}" not in self.path:
            raise ValueError(f"with several languages the path needs {{lang}} in it, found '{self.path}'")
        return self


class _Contestant(_Part):
    """What all contestants have.

    Attributes:
        languages: It reads only texts all of whose languages are among these; empty for every text.
        texts: Names of the only texts that it reads, for a slow one; empty for all that are in its languages.
        label_map: Its type to a type of the benchmark, or to ``O``; needed for every type that the benchmark has not.
    """

    languages: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    label_map: dict[str, str] = Field(default_factory=dict)


class BundleContestant(_Contestant):
    """A student, given words.

    Attributes:
        path: The bundle's folder.
        variant: Of its networks; None for the bundle's own choice.
        backend: What runs it; see `nerdistill.runtime.backends`.
    """

    kind: Literal["bundle"]
    path: str
    variant: Variant | None = None
    backend: Backend = "onnxruntime"


class TeacherContestant(_Contestant):
    """A Hugging Face token classifier, given words.

    Attributes:
        model: Folder or hub id; a pattern with ``*`` must fit one folder.
        revision: Commit of a hub model.
        engine: As in `nerdistill.config.SignalsConfig`.
        precision: Of torch; ``auto`` takes bfloat16 where there is hardware for it.
    """

    kind: Literal["teacher"]
    model: str
    revision: str | None = None
    engine: Engine = "torch"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class MbertContestant(_Contestant):
    """A network of multilingual BERT's shape with random weights, given words: for its speed where its weights are not at hand.

    Attributes:
        pieces_of: The model whose tokenizer, cut to as many pieces as multilingual BERT has, cuts its words.
        engine: As in `TeacherContestant`.
        precision: The same.
    """

    kind: Literal["mbert"]
    pieces_of: str = "bundled:multilingual-e5-small"
    engine: Engine = "torch"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class SpacyContestant(_Contestant):
    """A spaCy pipeline, given raw text through ``nlp.pipe``; scored on the words of the text.

    Attributes:
        model: Name of an installed pipeline, its folder, or ``bundle:PATH`` for a student in a pipeline of ours.
        pipes: Names of those that stay; all if empty.
        variant: For a student, as in `BundleContestant`.
        backend: The same.
    """

    kind: Literal["spacy"]
    model: str
    pipes: tuple[str, ...] = ()
    variant: Variant | None = None
    backend: Backend = "onnxruntime"


AnyContestant: TypeAlias = BundleContestant | TeacherContestant | MbertContestant | SpacyContestant


class Benchmark(_Part):
    """A benchmark.

    Attributes:
        name: Of the benchmark.
        root: Folder that the paths of texts start from, itself relative to the configuration file; ``--data-root`` wins.
        types: Entity types that count.
        repeats: Timings of each kind.
        seconds: What one timing should take, about.
        threads: Threads of the networks. The first is used for everything, the others for words per second alone.
        batches: Texts handed over at a time.
        lengths: Words of the single documents whose latency is measured.
        texts: By name.
        contestants: By name; the first one is what the others are compared with.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    root: str = "."
    types: tuple[str, ...] = Field(min_length=1)
    repeats: int = Field(default=5, ge=5)
    seconds: float = Field(default=1.0, gt=0)
    threads: tuple[PositiveInt, ...] = Field(default=(1, 2), min_length=1)
    batches: tuple[PositiveInt, ...] = (1, 16, 256)
    lengths: tuple[PositiveInt, ...] = Field(default=(20, 100, 1000), min_length=1)
    texts: dict[str, BenchmarkText] = Field(min_length=1)
    contestants: dict[str, Annotated[AnyContestant, Field(discriminator="kind")]] = Field(min_length=1)

    @model_validator(mode="after")
    def _everyone_reads_something(self) -> Benchmark:
        for name, one in self.contestants.items():
            if strangers := [text for text in one.texts if text not in self.texts]:
                raise ValueError(f"contestant '{name}' reads {', '.join(strangers)}, but the texts are {', '.join(self.texts)}")
        if idle := [name for name in self.contestants if not any(self.reads(name, text) for text in self.texts)]:
            raise ValueError(f"no text is in the languages of {', '.join(idle)}; add one, or change their languages")
        return self

    def reads(self, contestant: str, text: str) -> bool:
        """Whether a contestant is timed and scored on a text, by their names."""
        one = self.contestants[contestant]
        known = not one.languages or set(self.texts[text].languages) <= set(one.languages)
        return known and (not one.texts or text in one.texts)


def load_benchmark(path: Path, overrides: Sequence[str] = (), data_root: Path | None = None, only: Sequence[str] = ()) -> Benchmark:
    """Read a benchmark.

    Args:
        path: TOML file.
        overrides: As in `nerdistill.config.load_config`.
        data_root: Replaces ``root``.
        only: Names of the contestants that take part; all if empty.

    Returns:
        The benchmark, ``root`` made absolute.

    Raises:
        ConfigError: The file cannot be read or is wrong, or has no contestant of that name.
    """
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a benchmark in TOML, see configs/benchmark.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    for text in overrides:
        override(content, text)
    if isinstance(root := data_root or content.get("root", "."), str | Path):
        content["root"] = str((data_root or path.parent / root).resolve())
    found = content.get("contestants")
    if only and isinstance(found, dict):
        if strangers := [name for name in only if name not in found]:
            raise ConfigError(f"{path}: no contestant is called {', '.join(strangers)}; there are {', '.join(found)}")
        content["contestants"] = {name: one for name, one in found.items() if name in only}
    try:
        return Benchmark.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n  ".join([f"{path}: not a benchmark", *faults_of(error)])) from error


def read_text(benchmark: Benchmark, text: BenchmarkText) -> list[Sentence]:
    """The sentences of a text, with the benchmark's types.

    Raises:
        ConfigError: The label map leads elsewhere.
        DataError: A file is missing or malformed, or has a type that is not mapped.
    """
    label_map = LabelMap(benchmark.types, text.label_map, text.unannotated)
    sentences: list[Sentence] = []
    for language in text.languages:
        options = ReadOptions(language=language, columns=text.columns, encoding=text.encoding, scheme=text.scheme, tag_names=text.tag_names)
        place = text.path.replace("{lang}", language)
        found = read(place if text.format == "hub" else Path(benchmark.root) / place, text.format, options)
        sentences += [label_map.apply(sentence) for sentence in evenly(found, text.limit)]
    return sentences

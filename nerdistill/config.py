"""The configuration: TOML read into frozen models that refuse unknown keys and report every error at once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nerdistill.errors import ConfigError, faults_of


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SourceFormat(_Section):
    """How the files of a source are read; see `nerdistill.corpus.readers.ReadOptions`.

    Attributes:
        format: A reader's name, or ``auto`` for the file's suffix.
        columns: Columns of word and tag in CoNLL files.
        encoding: Of text files.
        scheme: Tag scheme, or ``auto``.
        tag_names: Names of numeric tags.
        label_map: Source type to type, or to ``O`` to drop it.
        unannotated: Types that this source does not mark.
        languages: Languages of this source; all of the run's if empty.
    """

    format: str = "auto"
    columns: tuple[int, int] = (0, -1)
    encoding: str = "utf-8"
    scheme: str = "auto"
    tag_names: tuple[str, ...] | None = None
    label_map: dict[str, str] = Field(default_factory=dict)
    unannotated: frozenset[str] = frozenset()
    languages: tuple[str, ...] = ()


class LabelledSource(SourceFormat):
    """Labelled sentences.

    Attributes:
        train: Path with ``{lang}`` where the language code goes.
        dev: The same for held-out sentences that choose between weights; without it a tenth of train is held out.
        train_limit: Sentences taken of each language, evenly over the file; 0 takes all.
        dev_limit: The same for dev.
    """

    train: str
    dev: str = ""
    train_limit: int = Field(default=0, ge=0)
    dev_limit: int = Field(default=0, ge=0)


class TransferSource(SourceFormat):
    """Unlabelled text; tags in its files are not read.

    Attributes:
        path: Path with ``{lang}``; without it where `language_id` is ``route``.
        limit: Sentences taken of each language, evenly over the file; 0 takes all.
        language_id: ``filter`` drops sentences that are not in the language of their file; ``route`` reads a file of many languages and
            finds each sentence's own; ``off`` believes the path.
    """

    path: str
    limit: int = Field(default=0, ge=0)
    language_id: Literal["off", "filter", "route"] = "off"


class LanguageIdConfig(_Section):
    """How the language of transfer text is told, for sources that ask for it; see `nerdistill.corpus.language_id`.

    Attributes:
        model: Path of a fastText model (``.ftz`` or ``.bin``); empty takes lid.176.ftz out of a Python package.
        min_probability: A sentence is in a language if the probabilities of the language's codes add up to at least this.
        also: Language to further codes of the model that count as it, beside `nerdistill.corpus.language_id.ALIASES`. A code that
            is one of the run's languages never counts as another.
    """

    model: str = ""
    min_probability: float = Field(default=0.5, gt=0, le=1)
    also: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class SwapConfig(_Section):
    """More transfer text: labelled training sentences with their entities swapped for others of the same type and language.

    Attributes:
        copies: New sentences for each one that has an entity.
        names: Path, with ``{lang}``, of a file of further names, ``TYPE<tab>name`` a line; empty for none.
    """

    copies: int = Field(default=0, ge=0)
    names: str = ""


class ReplaceConfig(_Section):
    """More transfer text: labelled training sentences with words outside entities replaced; see `nerdistill.corpus.replace`.

    Where `SwapConfig.copies` is above 0, each of these has its entities swapped once as well.

    Attributes:
        copies: New sentences for each one.
        probability: That a word is replaced.
        candidates: K; a word is replaced by one of so many.
        source: ``neighbours``, the nearest words in a model's table, or ``masked_lm``, those that a masked language model finds most
            probable: far slower.
        model: The model, folder or hub id; empty for the teacher before fine-tuning.
    """

    copies: int = Field(default=0, ge=0)
    probability: float = Field(default=0.4, gt=0, le=1)
    candidates: int = Field(default=15, ge=1)
    source: Literal["neighbours", "masked_lm"] = "neighbours"
    model: str = ""


class DataConfig(_Section):
    """What to learn from.

    Attributes:
        root: Folder that relative paths start from, itself relative to the configuration file; ``--data-root`` wins.
        languages: Codes put for ``{lang}``.
        types: Entity types to learn.
        labelled: Labelled sources.
        transfer: Unlabelled sources.
        language_id: How the language of transfer text is told.
        swap: Entity swapping.
        replace: Replacing words outside entities.
        alpha: Languages are sampled by size^alpha; 1 takes the text as it is.
    """

    root: str = "."
    languages: tuple[str, ...] = Field(min_length=1)
    types: tuple[str, ...] = Field(min_length=1)
    labelled: tuple[LabelledSource, ...] = Field(min_length=1)
    transfer: tuple[TransferSource, ...] = ()
    language_id: LanguageIdConfig = LanguageIdConfig()
    swap: SwapConfig = SwapConfig()
    replace: ReplaceConfig = ReplaceConfig()
    alpha: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _consistent(self) -> DataConfig:
        for name, values in (("languages", self.languages), ("types", self.types)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} repeats an entry: {list(values)}")
        routed = [source.path for source in self.transfer if source.language_id == "route"]
        if bad := [path for path in routed if "{lang}" in path]:
            raise ValueError(f'a routed path names one file of all languages, without {{lang}}, found {bad}; or set language_id = "filter"')
        if len(self.languages) > 1:
            paths = [path for source in self.labelled for path in (source.train, source.dev)]
            paths += [source.path for source in self.transfer if source.language_id != "route"]
            bad = [path for path in paths if path and "{lang}" not in path]
            if bad:
                raise ValueError(f"with several languages every path needs {{lang}} in it, found {bad}")
        return self


class TeacherConfig(_Section):
    """The teacher.

    Attributes:
        model: Folder or hub id of an encoder or token classifier, or ``bundled:multilingual-e5-small``.
        revision: Commit of a hub model.
        fine_tune: Train it on the labelled sentences; False takes its own head as it is.
        label_map: Teacher type to data type, or to ``O``; needed where its own head's types differ from the data's.
        freeze_embeddings: Leave the table of pieces as it is: most of the memory, little of the quality.
        precision: ``auto`` takes bfloat16 where there is hardware for it.
        max_pieces: Longest input in training; longer sentences are cut. Reading uses windows of the same size.
        learning_rate: At its peak; linear decay after the warm-up.
        warmup: Fraction of the steps.
        weight_decay: Of AdamW.
        epochs: Passes over the labelled sentences, at most.
        patience: Evaluations on dev without a better F1 before stopping; 0 never stops early.
        evaluations: Evaluations in one epoch.
        batch: Padded pieces in one forward pass.
        accumulate: Forward passes in one step.
    """

    model: str
    revision: str | None = None
    fine_tune: bool = True
    label_map: dict[str, str] | None = None
    freeze_embeddings: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    max_pieces: int = Field(default=128, ge=16, le=510)
    learning_rate: float = Field(default=5e-5, gt=0)
    warmup: float = Field(default=0.06, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    epochs: int = Field(default=3, ge=1)
    patience: int = Field(default=0, ge=0)
    evaluations: int = Field(default=1, ge=1)
    batch: int = Field(default=2048, ge=16)
    accumulate: int = Field(default=1, ge=1)


Engine: TypeAlias = Literal["torch", "onnx", "onnx-int8"]


class SignalsConfig(_Section):
    """The teacher's reading of the transfer text, and what is kept of it.

    Attributes:
        layers: Layers whose states are kept, 0 for the embeddings.
        width: Dimensions that each is reduced to; 0 keeps none.
        batch: Padded pieces in one forward pass.
        engine: What the teacher reads with. ``onnx`` and ``onnx-int8`` run BERT and RoBERTa teachers on the CPU, in float32 and with 8-bit
            weights, whatever `TeacherConfig.precision` says; ``nerdistill engines`` measures which is fastest and what it changes.
        ray_actors: How many actors of a Ray cluster share the reading; 0 reads in this process. The signals are the same.
        actor_cpus: Cores of each, which are its threads.
        actor_gpus: GPUs of each; a part of one lets several share it.
    """

    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(6,), min_length=1)
    width: int = Field(default=128, ge=0, le=4096)
    batch: int = Field(default=2048, ge=16)
    engine: Engine = "torch"
    ray_actors: int = Field(default=0, ge=0)
    actor_cpus: int = Field(default=1, ge=1)
    actor_gpus: float = Field(default=0.0, ge=0)


class StudentConfig(_Section):
    """The student.

    Attributes:
        kind: A registered student.
        pieces: Size of its vocabulary, at most.
        embeddings: First values of its table: ``svd`` of the teacher's, the teacher's own rows at ``full`` width, ``fasttext``, or
            ``random``. ``distilled``, for a student with a DeFINE unit: table and unit first learn to give the teacher's rows.
        embeddings_from: For ``svd``, ``full`` and ``distilled``, another model whose table is taken, such as the teacher's before
            fine-tuning; for ``fasttext``, a ``.bin`` or ``.vec`` file of vectors. Empty: the teacher; vectors trained on the transfer text.
        layers_from: First weights of a Transformer student's layers: those of the ``teacher``, with its classifier, of the ``general``
            teacher, which is not yet fine-tuned, or ``random`` ones. The layers' shape must be the teacher's. With ``svd`` and ``full``
            embeddings of the same model its positions come too.
        taken_layers: Which of the teacher's layers these are, from 1, input side first; empty: evenly from the first to the last.
        precision: Of its training; ``auto`` takes bfloat16 where there is hardware for it.
        options: Of the kind.
    """

    kind: str = "bilstm"
    pieces: int = Field(default=30_000, ge=64)
    embeddings: Literal["svd", "full", "distilled", "fasttext", "random"] = "svd"
    embeddings_from: str = ""
    layers_from: Literal["random", "teacher", "general"] = "random"
    taken_layers: tuple[Annotated[int, Field(ge=1)], ...] = ()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _taken_from_somewhere(self) -> StudentConfig:
        if self.taken_layers and self.layers_from == "random":
            raise ValueError("taken_layers says which layers, layers_from whose: set layers_from = 'teacher' or 'general'")
        return self

    @model_validator(mode="after")
    def _something_to_distil_into(self) -> StudentConfig:
        if self.embeddings == "distilled" and not self.options.get("define"):
            raise ValueError("embeddings = 'distilled' is for a DeFINE unit (options.define); without one 'svd' is the best such beginning")
        return self


class RecipeConfig(_Section):
    """The recipe.

    Attributes:
        name: A registered recipe.
        options: Of the recipe.
    """

    name: str = "xtremedistil"
    options: dict[str, Any] = Field(default_factory=dict)


class AssistantConfig(_Section):
    """A student of the teacher that is itself a teacher of the student, for recipes that ask for one (`Stage.teacher`).

    What is not said here is as the student's, such as first embeddings and precision.

    Attributes:
        kind: A registered student.
        pieces: Size of its vocabulary, at most; None for the student's.
        options: Of the kind.
        recipe: How it learns from the teacher.
        hand_down: Names of parameter groups, such as ``embeddings`` and ``head``, whose weights the student begins with.
    """

    kind: str = "inverted_bottleneck"
    pieces: int | None = Field(default=None, ge=64)
    options: dict[str, Any] = Field(default_factory=dict)
    recipe: RecipeConfig = RecipeConfig(name="xtremedistil_transformers", options={"attention": False})
    hand_down: tuple[str, ...] = ()


class EvaluationConfig(_Section):
    """What finished systems are scored on; training never opens it.

    Attributes:
        test: Path with ``{lang}``.
        limit: Sentences taken of each language, evenly over the file; 0 takes all.
        baseline: Also train the same student on the labels alone, from random embeddings, and score it beside.
        baseline_options: Options of the recipe ``labels_only`` for it.
        examples: Test sentences of each language shown in the report.
    """

    test: str
    limit: int = Field(default=0, ge=0)
    baseline: bool = True
    baseline_options: dict[str, Any] = Field(default_factory=dict)
    examples: int = Field(default=2, ge=0)


class PackageConfig(_Section):
    """The finished student.

    Attributes:
        name: Of the pipeline, without the language: ``ner`` becomes ``xx_ner``.
        version: Of the package.
        language: spaCy language code of the package.
        licence: Of the weights, which follows from data and teacher.
        fold: Serve a piece table that is as wide as its vectors, in place of the linear map or DeFINE unit that makes them so: nothing is
            computed for a piece, and the bundle is larger.
        int8_tolerance: F1 that any language may lose to 8-bit weights on dev before they are refused.
        sentences: Tagged at the end of a run, to see it work.
    """

    name: str = Field(default="ner", pattern=r"^[a-z][a-z0-9_]*$")
    version: str = "0.1.0"
    language: str = "xx"
    licence: str = "other"
    fold: bool = False
    int8_tolerance: float = Field(default=0.005, ge=0, le=1)
    sentences: tuple[str, ...] = ()


class RunConfig(_Section):
    """A whole run.

    Attributes:
        name: Of the run; its folder is ``runs/<name>``.
        seed: Of everything random.
        data: What to learn from.
        teacher: The teacher.
        signals: What is kept of its reading.
        student: The student.
        recipe: How the student learns.
        assistant: Another student that it learns from; None for none.
        evaluation: What systems are scored on.
        package: The finished student.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = 1
    data: DataConfig
    teacher: TeacherConfig
    signals: SignalsConfig = SignalsConfig()
    student: StudentConfig = StudentConfig()
    recipe: RecipeConfig = RecipeConfig()
    assistant: AssistantConfig | None = None
    evaluation: EvaluationConfig
    package: PackageConfig = PackageConfig()


def load_config(path: Path, overrides: Sequence[str] = (), data_root: Path | None = None) -> RunConfig:
    """Read a configuration.

    Args:
        path: TOML file.
        overrides: ``section.key=value`` with the value in TOML, such as ``teacher.epochs=2``; later ones win.
        data_root: Replaces ``data.root``.

    Returns:
        The configuration, ``data.root`` made absolute.

    Raises:
        ConfigError: The file cannot be read, or is wrong; the message lists every fault with its key.
    """
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a TOML file, see configs/ for examples") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    for text in overrides:
        override(content, text)
    data = content.setdefault("data", {})
    if isinstance(data, dict) and isinstance(root := data_root or data.get("root", "."), (str, Path)):
        data["root"] = str((data_root or path.parent / root).resolve())
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        faults = faults_of(error)
        raise ConfigError("\n  ".join([f"{path}: {len(faults)} fault{'s' * (len(faults) > 1)}", *faults])) from error


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some changed: tables are merged, everything else is replaced."""
    result = dict(settings)
    for key, value in changes.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return result


def override(content: dict[str, Any], text: str) -> None:
    """Set one value of a file's content.

    Args:
        content: What was read of the file; changed in place.
        text: ``section.key=value``, the value in TOML.

    Raises:
        ConfigError: It is no such text, or leads through something that is not a section.
    """
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    *path, last = key.strip().split(".")
    section: Any = content
    for part in path:
        section = section.setdefault(part, {}) if isinstance(section, dict) else None
    if not isinstance(section, dict):
        raise ConfigError(f"--set {text}: '{'.'.join(path)}' is not a section")
    section[last] = value

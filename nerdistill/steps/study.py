"""A study: many students that differ from a base configuration in one thing each, side by side in one table.

Rows share a run folder, so what they have in common (teacher, signals, stages that begin alike) is made once. Each row runs in a worker
process; a row that is done is not run again, so a study can be interrupted and extended.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nerdistill.config import RunConfig, load_config, merged
from nerdistill.corpus.splits import evenly
from nerdistill.errors import ConfigError, faults_of
from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.scores import Scores, score
from nerdistill.evaluation.speed import mixed, words_per_second
from nerdistill.files import DONE, finished, folder_beside, read_json, write_json
from nerdistill.fingerprint import fingerprint
from nerdistill.records import Sentence
from nerdistill.runtime.bundle import VARIANTS, Variant
from nerdistill.runtime.session import cores
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps.build import vocabulary_facts
from nerdistill.steps.context import Context, locked
from nerdistill.steps.distill import distill, tagger_tags, train_baseline
from nerdistill.steps.evaluate import without_labels
from nerdistill.steps.prepare import RunData, prepare, read_test
from nerdistill.steps.teach import open_teacher, teach
from nerdistill.students.base import count_parameters
from nerdistill.training.processes import only_one

SPEED_SENTENCES = 4000

ROW_VERSION = 3
"""Part of every row's fingerprint; counts up when a row comes to hold something else."""


class StudyRow(BaseModel):
    """One student.

    Attributes:
        name: Unique in its study.
        like: An earlier row that this one starts from, in place of the base.
        set: What differs from that: a nested table of settings.
        separate: Train one student for each language, and put their scores together.
        paper: What the paper reports for it: ``f1_mean``, ``f1_std`` and so on, 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    like: str = ""
    set: dict[str, Any] = Field(default_factory=dict)
    separate: bool = False
    paper: dict[str, float] = Field(default_factory=dict)


class Study(BaseModel):
    """A table to be filled.

    Attributes:
        name: Of its results file.
        title: Of the table.
        base: Configuration that the rows start from, relative to the study's file.
        set: What differs from it in all rows, as a row's own.
        source: Where the paper's figures stand.
        teacher: Score the base's teacher too.
        teacher_paper: What the paper reports for its teacher.
        columns: Of the table; all that have a value if empty.
        rows: The students.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str
    base: str
    set: dict[str, Any] = Field(default_factory=dict)
    source: str = ""
    teacher: bool = True
    teacher_paper: dict[str, float] = Field(default_factory=dict)
    columns: tuple[str, ...] = ()
    rows: tuple[StudyRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Study:
        names = [row.name for row in self.rows]
        if len(set(names)) != len(names):
            raise ValueError(f"two rows have one name: {names}")
        for at, row in enumerate(self.rows):
            if row.like and row.like not in names[:at]:
                raise ValueError(f"row '{row.name}' is like '{row.like}', expected one of the rows before it: {names[:at]}")
        return self


def load_study(path: Path, overrides: Sequence[str] = (), data_root: Path | None = None) -> tuple[Study, RunConfig, list[RunConfig]]:
    """Read a study.

    Args:
        path: TOML file.
        overrides: As in `nerdistill.config.load_config`, for the base and all rows.
        data_root: The same.

    Returns:
        The study, the base's configuration, and each row's.

    Raises:
        ConfigError: A file cannot be read or is wrong; rows are named.
    """
    try:
        study = Study.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a study in TOML, see configs/study/") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError("\n  ".join([f"{path}: not a study", *faults_of(error)])) from error
    base = _with(load_config(path.parent / study.base, overrides, data_root), study.set, f"{path}: set")
    configs: dict[str, RunConfig] = {"": base}
    for row in study.rows:
        configs[row.name] = _with(configs[row.like], row.set, f"{path}: row '{row.name}'")
    return study, base, [configs[row.name] for row in study.rows]


def _with(config: RunConfig, differences: Mapping[str, Any], where: str) -> RunConfig:
    try:
        return RunConfig.model_validate(merged(config.model_dump(), differences))
    except ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(faults_of(error))}") from error


def run_study(
    study: Study, base: RunConfig, configs: Sequence[RunConfig], folder: Path, workers: int, command: str, cpu: bool
) -> dict[str, Any]:
    """Make every row that is not made yet, time the students side by side, and return the results.

    Args:
        study: The table.
        base: What all start from.
        configs: One for each row.
        folder: Shared by rows, and by studies of the same base.
        workers: Processes at a time; each gets its share of the cores.
        command: How it was called, for the results.
        cpu: Stay off any accelerator.
    """
    only_one("a study")
    context = Context(base, folder, command=command, cpu=cpu)
    threads = max(1, cores() // workers)
    rows = [{**_teacher_row(context), "paper": study.teacher_paper}] if study.teacher else []
    done: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(threads,)) as pool:
        jobs = {
            pool.submit(_make_row, config.model_dump(), folder, row.name, row.separate, cpu): row
            for row, config in zip(study.rows, configs, strict=True)
        }
        for job in as_completed(jobs):
            row = jobs[job]
            done[row.name] = job.result()
            context.log.say(f"  {row.name:<32} mean F1 {done[row.name]['f1_mean']:.4f}  ({len(done)}/{len(jobs)})")
    rows += [{**done[row.name], "paper": row.paper} for row in study.rows]
    _time(rows, context, threads)
    data = {"languages": list(base.data.languages), "types": list(base.data.types), **context.data.counts}
    results = results_frame(study.name, command, threads, data, rows)
    results |= {"title": study.title, "source": study.source, "seed": base.seed, "columns": list(study.columns)}
    write_json(folder / f"{study.name}.json", results)
    return results


def _start_worker(threads: int) -> None:
    torch.set_num_threads(threads)


def _make_row(settings: dict[str, Any], folder: Path, name: str, separate: bool, cpu: bool) -> dict[str, Any]:
    """One row, in a worker: train, tag the test set, score."""
    config = RunConfig.model_validate(settings)
    identity = fingerprint(ROW_VERSION, config.model_dump(mode="json", exclude_defaults=True), separate)
    target = folder / "rows" / identity[:12]
    with locked(folder / "locks" / target.name, wait=True):
        if not finished(target, identity=identity):
            row = _separate(config, folder, name, cpu) if separate else _together(config, folder, name, cpu)
            with folder_beside(target, {"identity": identity}) as made:
                write_json(made / "row.json", row)
    found: dict[str, Any] = read_json(target / "row.json")
    return {"system": name, **found}


_READ: dict[str, RunData] = {}
"""The text of this worker's last row: most rows of a study share it."""


def _context(config: RunConfig, folder: Path, title: str, cpu: bool) -> Context:
    key = fingerprint(
        config.data.model_dump(mode="json"), config.evaluation.test, config.evaluation.limit, config.seed, config.teacher.model
    )
    if key not in _READ:
        _READ.clear()
        _READ[key] = prepare(config)
    context = Context(config, folder, cpu=cpu, data=_READ[key])
    context.log = context.log.titled(title)
    return context


def _together(config: RunConfig, folder: Path, title: str, cpu: bool) -> dict[str, Any]:
    context = _context(config, folder, title, cpu)
    made = distill(context)
    tagger, small = (Tagger.load(made.bundle, variant, threads=1) for variant in ("fp32", "int8"))
    test = read_test(config)
    dev = list(context.data.dev)
    row = {
        "parameters": tagger.info.parameters,
        "bytes": made.bundle.joinpath(VARIANTS["fp32"]).stat().st_size,
        "bytes_int8": made.bundle.joinpath(VARIANTS["int8"]).stat().st_size,
        "int8_gate": {key: tagger.info.gate[key] for key in ("passed", "worst_language", "worst_loss")},
        "seconds": made.seconds,
        "bundle": str(made.bundle),
        **score(test, tagger_tags(tagger, test)).as_row(),
        "f1_dev": round(score(dev, tagger_tags(tagger, dev)).f1_mean, 5),
        "transfer_sentences": context.data.counts["transfer_sentences"] if made.reading is not None else None,
        "f1_mean_int8": round(score(test, tagger_tags(small, test)).f1_mean, 5),
        **vocabulary_facts(context, tagger),
    }
    if config.evaluation.baseline:
        alone = Tagger.load(train_baseline(context).bundle, "fp32", threads=1)
        row["f1_mean_no_teacher"] = round(score(test, tagger_tags(alone, test)).f1_mean, 5)
    return row | without_labels(context, row["f1_by_language"])


def _separate(config: RunConfig, folder: Path, title: str, cpu: bool) -> dict[str, Any]:
    rows = []
    for language in config.data.languages:
        alone = RunConfig.model_validate(merged(config.model_dump(), {"data": {"languages": [language]}}))
        rows.append(_together(alone, folder, f"{title}, {language}", cpu))
    by_language = {language: score for row in rows for language, score in row["f1_by_language"].items()}
    scores = Scores(by_language, {}, 0.0)
    return {
        "parameters": sum(row["parameters"] for row in rows),
        "bytes": sum(row["bytes"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 2),
        "f1_mean": round(scores.f1_mean, 5),
        "f1_std": round(scores.f1_std, 5),
        "f1_by_language": by_language,
        "f1_dev": round(sum(row["f1_dev"] for row in rows) / len(rows), 5),
    }


def _teacher_row(context: Context) -> dict[str, Any]:
    """The base's teacher, scored once for each test set."""
    taught = teach(context)
    evaluation = context.config.evaluation
    identity = fingerprint(
        ROW_VERSION, taught.identity, context.config.data.model_dump(mode="json", exclude_defaults=True), evaluation.test, evaluation.limit
    )
    target = context.folder / "rows" / f"teacher-{identity[:12]}"
    if not finished(target, identity=identity):
        context.log.say("the teacher reads the test set")
        annotator = open_teacher(context, taught)
        test = read_test(context.config)
        row = {"parameters": count_parameters(annotator.model), **score(test, annotator.tag(test)).as_row()}
        with folder_beside(target, {"identity": identity}) as made:
            write_json(made / "row.json", row)
    return {"system": "teacher", **read_json(target / "row.json")}


SPEEDS: Mapping[Variant, str] = {"fp32": "words_per_second", "int8": "words_per_second_int8"}
"""Where a row keeps how fast each form of its network is; the teacher's rate stands with the first."""


def _time(rows: Sequence[dict[str, Any]], context: Context, threads: int) -> None:
    """Words per second of the teacher and all students in turn on the same text, after everything else is done."""
    torch.set_num_threads(threads)
    systems: dict[tuple[str, str], Callable[[Sequence[Sentence]], object]] = {}
    for row in rows:
        name, bundle = str(row["system"]), row.pop("bundle", None)
        if name == "teacher":
            systems[name, SPEEDS["fp32"]] = open_teacher(context, teach(context)).tag
        elif bundle and (Path(bundle) / DONE).is_file():
            for variant, key in SPEEDS.items():
                tagger = Tagger.load(bundle, variant, threads)
                systems[name, key] = lambda part, tagger=tagger: tagger_tags(tagger, part)  # type: ignore[misc]
    speeds = words_per_second(systems, mixed(evenly(read_test(context.config), SPEED_SENTENCES), SPEED_SENTENCES))
    for row in rows:
        row |= {key: round(speed) for (name, key), speed in speeds.items() if name == row["system"]}

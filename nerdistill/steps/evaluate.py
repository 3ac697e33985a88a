"""Finished systems side by side on the test set: teacher, student, and the same student without a teacher."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch

from nerdistill.corpus.splits import evenly
from nerdistill.evaluation.known_names import known_names, known_names_and_kept
from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.report import write_report
from nerdistill.evaluation.scores import score
from nerdistill.evaluation.speed import mixed, words_per_second
from nerdistill.evaluation.tables import markdown_table
from nerdistill.export.bundle_writer import write_card
from nerdistill.files import read_json, write_atomic, write_json
from nerdistill.records import Sentence
from nerdistill.runtime.bundle import INFO, VARIANTS, read_info
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps.context import Context
from nerdistill.steps.distill import Distilled, distill, public_name, tagger_tags, train_baseline
from nerdistill.steps.prepare import read_test
from nerdistill.steps.teach import Taught, open_teacher, taught_seconds, teach
from nerdistill.students.base import count_parameters

SPEED_SENTENCES = 4000

RESULTS = "results.json"


def evaluate(context: Context) -> dict[str, Any]:
    """Score everything that the run made, write results, table and report into its folder, and return the results."""
    student = distill(context)
    baseline = train_baseline(context) if context.config.evaluation.baseline else None
    taught = teach(context)
    with context.accelerator.main_process_first():
        return _score(context, taught, student, baseline) if context.main else read_json(context.folder / RESULTS)


def _score(context: Context, taught: Taught, student: Distilled, baseline: Distilled | None) -> dict[str, Any]:
    config = context.config
    sentences = read_test(config)
    context.log.say(f"evaluation: {len(sentences):,} test sentences")
    annotator = open_teacher(context, taught)
    threads = torch.get_num_threads()  # for all: speeds beside a teacher on fewer threads would flatter the students
    bundles = {"student": student.bundle} | ({"no_teacher": baseline.bundle} if baseline else {})
    taggers = {name: Tagger.load(bundle, threads=threads) for name, bundle in bundles.items()}
    systems: dict[str, Callable[[Sequence[Sentence]], list[tuple[str, ...]]]] = {"teacher": annotator.tag}
    systems |= {name: lambda part, tagger=tagger: tagger_tags(tagger, part) for name, tagger in taggers.items()}  # type: ignore[misc]
    tags = {name: tag(sentences) for name, tag in systems.items()}
    speeds = words_per_second(systems, mixed(evenly(sentences, SPEED_SENTENCES), SPEED_SENTENCES))
    rows = [
        {
            "system": "teacher",
            "description": public_name(config.teacher.model),
            "parameters": count_parameters(annotator.model),
            "bytes": sum(weight.numel() * weight.element_size() for weight in annotator.model.parameters()),
            "seconds": taught_seconds(taught),
            "precision": annotator.model.precision,
        }
    ]
    rows += [_student_row(context, name, made, taggers[name]) for name, made in (("student", student), ("no_teacher", baseline)) if made]
    scored = {name: score(sentences, found) for name, found in tags.items()}
    for row in rows:
        name = str(row["system"])
        row |= {"words_per_second": round(speeds[name]), "seed": config.seed, **scored[name].as_row()}
        row |= without_labels(context, scored[name].f1_by_language)
    data = {
        "languages": list(config.data.languages),
        "types": list(config.data.types),
        **context.data.counts,
        "test_sentences": len(sentences),
    } | ({"transfer_read_seconds": student.reading} if student.reading is not None else {})
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    results = results_frame(config.name, context.command, threads, data, rows, gpu)
    known = known_names(context.data.train, sentences)
    results["known_names"] = known_names_and_kept(known, *(scored[name].f1_by_language for name in ("teacher", "student")))
    if context.processes > 1:
        results["machine"]["processes"] = context.processes  # which learnt together; speeds are the main one's
    made = {taught.identity, *student.stages, *(baseline.stages if baseline else ())}
    events = _events(context.folder / "metrics.jsonl", made)
    _write(context.folder, results, events, _examples(sentences, tags, config.evaluation.examples))
    _tell_bundle(student, next(row for row in results["rows"] if row["system"] == "student"))
    return results


def without_labels(context: Context, by_language: Mapping[str, float]) -> dict[str, float]:
    """The mean over the languages that have no labelled sentence, under its key; nothing if all have some."""
    labelled = {sentence.language for sentence in context.data.train}
    scores = [score for language, score in by_language.items() if language not in labelled]
    return {"f1_mean_without_labels": round(sum(scores) / len(scores), 5)} if scores else {}


def _student_row(context: Context, name: str, made: Distilled, tagger: Tagger) -> dict[str, Any]:
    what = "trained without a teacher, on the labels alone" if name == "no_teacher" else f"recipe {context.config.recipe.name}"
    network = made.bundle / VARIANTS[tagger.bundle.variant]
    return {
        "system": name,
        "description": f"{context.config.student.kind}, {what}",
        "parameters": tagger.info.parameters,
        "bytes": network.stat().st_size,
        "variant": tagger.bundle.variant,
        "seconds": made.seconds,
    } | ({"int8_gate": {key: tagger.info.gate[key] for key in ("passed", "worst_language", "worst_loss")}} if tagger.info.gate else {})


def _examples(sentences: Sequence[Sentence], tags: Mapping[str, Sequence[Sequence[str]]], each: int) -> list[dict[str, Any]]:
    """Some test sentences of each language, wrong ones first, then right ones, always with an entity in them."""
    chosen: list[dict[str, Any]] = []
    for language in dict.fromkeys(sentence.language for sentence in sentences):
        numbers = [
            i for i, s in enumerate(sentences) if s.language == language and len(s.words) <= 30 and any(tag != "O" for tag in s.tags or ())
        ]
        numbers.sort(key=lambda i: tuple(tags["student"][i]) == sentences[i].tags)
        wrong = sum(tuple(tags["student"][i]) != sentences[i].tags for i in numbers)
        picked = [*numbers[:1], *numbers[wrong : wrong + each - 1]] if each else []
        for i in dict.fromkeys(picked):
            sentence = sentences[i]
            chosen.append(
                {
                    "language": language,
                    "words": list(sentence.words),
                    "gold": list(sentence.tags or ()),
                    **{n: list(t[i]) for n, t in tags.items()},
                }
            )
    return chosen


def _write(folder: Path, results: Mapping[str, Any], events: Sequence[Mapping[str, Any]], examples: Sequence[Mapping[str, Any]]) -> None:
    write_json(folder / RESULTS, results)
    write_atomic(folder / "table.md", markdown_table(results) + "\n")
    write_report(folder / "report.html", results, events, examples)


def _events(path: Path, identities: Set[str]) -> list[dict[str, Any]]:
    """The log's events of these fingerprints; of a stage that was run again after a kill, each step's last."""
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.is_file() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the last line of a killed run may be cut
        if event.get("of") in identities:
            key = (event.get("event"), event.get("run"), event.get("stage"), event.get("step"))
            latest.pop(key, None)
            latest[key] = event
    return list(latest.values())


def _tell_bundle(student: Distilled, row: Mapping[str, Any]) -> None:
    """Put the test scores into the bundle's description and card."""
    info = read_info((student.bundle / INFO).read_bytes(), str(student.bundle))
    metrics = {key: row[key] for key in ("f1_mean", "f1_std", "f1_pooled", "f1_by_language", "f1_by_type")}
    write_card(student.bundle, info.model_copy(update={"metrics": metrics}))

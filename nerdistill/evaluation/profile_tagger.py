"""Where a tagger's time goes, part by part from text to entities, for each backend; and how large its batches should be.

One thread, words met before; parts are timed as `nerdistill.evaluation.parts` says. Run it with
``python -m nerdistill.evaluation.profile_tagger BUNDLE TEXT... [--results FILE]``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nerdistill.errors import MissingExtraError, NerdistillError
from nerdistill.evaluation.ideas import ideas_table, measure_ideas
from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.operators import LSTMS, lstm_alone, operator_seconds
from nerdistill.evaluation.parts import Parts, fastest, with_rest
from nerdistill.evaluation.tables import MISSING, Results, compact, markdown, percent
from nerdistill.evaluation.texts import read_texts
from nerdistill.files import write_json
from nerdistill.runtime.backends import BACKENDS, Backend
from nerdistill.runtime.bundle import BundleInfo, Variant, open_bundle
from nerdistill.runtime.tagger import Tagger
from nerdistill.text.splitter import split_words

KIND = "profile"
BUDGETS = (512, 1024, 2048, 4096)
"""Padded words of one call of the network that are tried."""

SHORT = range(18, 23)
"""Words of the texts whose latency is told."""

MOST_SHORT = 100
PARTS = ("split", "encode", "batch", "network", "decode", "spans", "entities", "rest")
ALONE = {"words": "its words' products alone", "states": "its states' products alone", "activations": "its activations alone"}
MOST_OPERATORS = 3


def profile(path: Path, texts: Sequence[str], systems: Iterable[tuple[Backend, Variant]]) -> list[dict[str, Any]]:
    """Measure a bundle on raw text.

    Args:
        path: The bundle's folder.
        texts: What is read, all of it in each round.
        systems: Backends and variants, of which those that are not installed are left out.

    Returns:
        A row for each: ``system``; ``words``; ``microseconds`` a word of each of `PARTS` (``batch`` is windowing, sorting and padding;
        ``rest`` what the whole takes beyond them); ``words_per_second``; ``words_per_second_by_budget``, by padded words of a call;
        ``padding``, padded words over words; ``latency_ms_p50`` and ``spacy_latency_ms_p50`` of texts of `SHORT` words one by one, through
        the tagger and through ``nlp(text)``; ``texts_changed``, share of the texts in which the entities are others than the first one's.
        With ONNX Runtime also microseconds a word by its own clock, ``operators``, and of an LSTM's parts computed alone, ``lstm_alone``.

    Raises:
        BundleError: There is no sound bundle.
    """
    rows: list[dict[str, Any]] = []
    first: list[list[tuple[int, int, str]]] = []
    for backend, variant in systems:
        try:
            tagger = Tagger.load(path, variant, 1, backend)
        except MissingExtraError:
            continue
        found = [[(entity.start, entity.stop, entity.label) for entity in entities] for entities in tagger.pipe(texts)]
        first = first or found
        changed = sum(one != other for one, other in zip(found, first, strict=True)) / len(texts)
        row = {"system": f"{backend} {variant}", "texts_changed": round(changed, 6)}
        rows.append({**row, **_parts(tagger, texts), **_latencies(tagger, texts), **_budgets(tagger, texts)})
    return rows


def systems_of(info: BundleInfo) -> list[tuple[Backend, Variant]]:
    """Every backend of the CPU with every variant that it runs and the bundle has."""
    small: list[tuple[Backend, Variant]] = [("onnxruntime", "int8")] if "model.int8.onnx" in info.digests else []
    return [("onnxruntime", "fp32"), *small, *((backend, "fp32") for backend in BACKENDS if backend.startswith("openvino"))]


def _parts(tagger: Tagger, texts: Sequence[str]) -> dict[str, Any]:
    parts = Parts(tagger, texts, [split_words(text) for text in texts])
    seconds = fastest({**parts.jobs(), "whole": lambda: [*tagger.pipe(texts, len(texts))]})
    each = with_rest(seconds)
    n_words = len(parts.words)
    inside = {}
    if tagger.backend == "onnxruntime":
        network = tagger.bundle.network
        inside = {"operators": operator_seconds(network, parts.arrays), "lstm_alone": lstm_alone(network, parts.arrays)}
    return {
        "words": n_words,
        "microseconds": {name: round(1e6 * each[name] / n_words, 4) for name in PARTS},
        "words_per_second": round(n_words / seconds["whole"]),
        "padding": round(parts.padded / n_words, 4),
        **{key: {name: round(1e6 * taken / n_words, 4) for name, taken in each.items()} for key, each in inside.items()},
    }


def _budgets(tagger: Tagger, texts: Sequence[str]) -> dict[str, Any]:
    n_words = sum(len(split_words(text)) for text in texts)

    def read(budget: int) -> None:
        tagger.budget = budget
        list(tagger.pipe(texts, len(texts)))

    for budget in BUDGETS:
        read(budget)
    seconds = fastest({str(budget): lambda budget=budget: read(budget) for budget in BUDGETS})  # type: ignore[misc]
    return {"words_per_second_by_budget": {budget: round(n_words / taken) for budget, taken in seconds.items()}}


def _latencies(tagger: Tagger, texts: Sequence[str]) -> dict[str, Any]:
    short = [text for text in texts if len(split_words(text)) in SHORT][:MOST_SHORT]
    if not short:
        return {}
    from nerdistill.evaluation.spacy_pipe import make_pipeline

    nlp = make_pipeline(tagger.bundle, 1, tagger.backend)
    return {"latency_ms_p50": _median_ms(tagger, short), "spacy_latency_ms_p50": _median_ms(nlp, short)}


def _median_ms(read: Callable[[str], object], texts: Sequence[str]) -> float:
    taken = []
    for number in range(2 * len(texts)):
        began = time.perf_counter()
        read(texts[number % len(texts)])
        taken.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(taken[len(texts) :]), 4)


def profile_tables(results: Results, part: str = "") -> str:
    """The results as Markdown.

    Args:
        results: What this program wrote.
        part: ``parts``, ``operators``, ``batches`` or ``ideas``; empty for all of them, an empty line between two.
    """
    rows = results["rows"]
    parts = [
        [
            str(row["system"]),
            *(f"{row['microseconds'][name]:.2f}" for name in PARTS),
            compact(row["words_per_second"]),
            *(f"{row[key]:.2f}" if key in row else MISSING for key in ("latency_ms_p50", "spacy_latency_ms_p50")),
            percent(row["texts_changed"]),
        ]
        for row in rows
    ]
    budgets = [[str(row["system"]), *(compact(row["words_per_second_by_budget"][str(budget)]) for budget in BUDGETS)] for row in rows]
    tables = {
        "parts": markdown(["µs a word", *PARTS, "words/s", "one sentence (ms)", "in spaCy (ms)", "texts changed (%)"], parts),
        "operators": _operators_table(rows),
        "batches": markdown(["words/s by padded words of a call", *map(str, BUDGETS)], budgets),
        "ideas": ideas_table(results),
    }
    return tables[part] if part else "\n".join(tables.values())


def _operators_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """A network's time by operator, an LSTM's beside what its parts take alone."""
    lines = []
    for row in rows:
        if "operators" not in row:
            continue
        layer = sum(taken for name, taken in row["operators"].items() if name in LSTMS)
        others = {name: taken for name, taken in row["operators"].items() if name not in LSTMS}
        most = ", ".join(f"{name} {taken:.2f}" for name, taken in [*others.items()][:MOST_OPERATORS])
        alone = (f"{row['lstm_alone'][name]:.2f}" if name in row["lstm_alone"] else MISSING for name in ALONE)
        lines.append([str(row["system"]), f"{layer:.2f}", *alone, f"{sum(others.values()):.2f}", most])
    return markdown(["µs a word", "LSTM", *ALONE.values(), "other operators", "of them"], lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the results; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m nerdistill.evaluation.profile_tagger", description="Where a tagger's time goes.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="Bundle folder.")
    parser.add_argument("texts", nargs="+", type=Path, metavar="TEXT", help="Files to read, in any format of docs/data.md.")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="Texts of each file; 0 takes all.")
    parser.add_argument("--results", type=Path, metavar="FILE", help="Write a results file.")
    options = parser.parse_args(arguments)
    try:
        texts = read_texts(options.texts, options.limit)
        about = open_bundle(options.bundle).info
        rows = profile(options.bundle, texts, systems_of(about))
    except NerdistillError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    files = [path.name for path in options.texts]
    command = f"python -m nerdistill.evaluation.profile_tagger {options.bundle} ..."
    results = results_frame("where a tagger's time goes", command, 1, {"files": files, "limit": options.limit, "texts": len(texts)}, rows)
    results = {**results, "kind": KIND, "ideas": measure_ideas(Tagger.load(options.bundle, threads=1), texts)}
    if options.results:
        write_json(options.results, results)
    print(profile_tables(results))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

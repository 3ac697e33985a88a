"""Where a tagger's time goes, part by part from text to entities, for each backend; and how large its batches should be.

One thread, words met before. Each part is run alone on what the part before gave, in turn with the others, and the fastest of some rounds
counts; times are those of the processor, so that another process costs little. Run it with
``python -m nerdistill.evaluation.profile_tagger BUNDLE TEXT... [--results FILE]``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nerdistill.errors import MissingExtraError, NerdistillError
from nerdistill.evaluation.ideas import ideas_table, measure_ideas
from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.tables import MISSING, Results, compact, markdown, percent
from nerdistill.files import write_json
from nerdistill.labels import LabelScheme
from nerdistill.runtime.backends import BACKENDS, Backend
from nerdistill.runtime.bundle import BundleInfo, Variant, open_bundle
from nerdistill.runtime.decode import decode_tags, spans_of_tags
from nerdistill.runtime.tagger import Tagger, batches, entities
from nerdistill.text.splitter import split_words
from nerdistill.text.windows import cut

KIND = "profile"
BUDGETS = (512, 1024, 2048, 4096)
"""Padded words of one call of the network that are tried."""

ROUNDS = 7
SHORT = range(18, 23)
"""Words of the texts whose latency is told."""

MOST_SHORT = 100
PARTS = ("split", "encode", "batch", "network", "decode", "spans", "entities", "rest")
T = TypeVar("T")


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
    """Every backend with every variant that it runs and the bundle has."""
    small: list[tuple[Backend, Variant]] = [("onnxruntime", "int8")] if "model.int8.onnx" in info.digests else []
    return [("onnxruntime", "fp32"), *small, *((backend, "fp32") for backend in BACKENDS[1:])]


def _parts(tagger: Tagger, texts: Sequence[str]) -> dict[str, Any]:
    network, info, scheme = tagger._open(), tagger.info, tagger.scheme
    words = [split_words(text) for text in texts]
    flat = [word for inside in words for word in inside]
    rows, table = network.encode(flat)
    costs = np.ones(len(rows), dtype=np.int64) if info.inputs == "words" else table.lengths[rows].astype(np.int64)
    logits, offsets = tagger.logits(words)

    def batch() -> list[Any]:
        parts = batches(cut(costs, offsets, info.window, info.overlap), tagger.budget)
        return [network.collate([rows[window.start : window.stop] for window in part], table) for part in parts]

    arrays = batch()
    tags = decode_tags(logits, offsets, scheme)
    found = spans_of_tags(tags, logits, offsets, scheme)
    seconds = _fastest(
        {
            "split": lambda: [split_words(text) for text in texts],
            "encode": lambda: network.encode([word for inside in words for word in inside]),
            "batch": batch,
            "network": lambda: [network.run(inputs) for inputs in arrays],
            "decode": lambda: decode_tags(logits, offsets, scheme),
            "spans": lambda: spans_of_tags(tags, logits, offsets, scheme),
            "entities": lambda: [*map(entities, texts, words, found)],
            "whole": lambda: [*tagger.pipe(texts, len(texts))],
        }
    )
    whole = seconds.pop("whole")
    seconds["rest"] = max(0.0, whole - sum(seconds.values()))
    padded = sum(next(array.size for name, array in inputs.items() if name in ("word_index", "first_piece")) for inputs in arrays)
    return {
        "words": len(flat),
        "microseconds": {name: round(1e6 * seconds[name] / len(flat), 4) for name in PARTS},
        "words_per_second": round(len(flat) / whole),
        "padding": round(padded / len(flat), 4),
    }


def _budgets(tagger: Tagger, texts: Sequence[str]) -> dict[str, Any]:
    n_words = sum(len(split_words(text)) for text in texts)

    def read(budget: int) -> None:
        tagger.budget = budget
        list(tagger.pipe(texts, len(texts)))

    for budget in BUDGETS:
        read(budget)
    seconds = _fastest({str(budget): lambda budget=budget: read(budget) for budget in BUDGETS})  # type: ignore[misc]
    return {"words_per_second_by_budget": {budget: round(n_words / taken) for budget, taken in seconds.items()}}


def _latencies(tagger: Tagger, texts: Sequence[str]) -> dict[str, Any]:
    short = [text for text in texts if len(split_words(text)) in SHORT][:MOST_SHORT]
    if not short:
        return {}
    import spacy

    from nerdistill.pipeline.component import NerDistill
    from nerdistill.pipeline.tokenizer import SplitterTokenizer

    nlp = spacy.blank("xx")
    nlp.tokenizer = SplitterTokenizer(nlp.vocab)
    component = nlp.add_pipe("nerdistill", config={"threads": 1, "variant": tagger.bundle.variant, "backend": tagger.backend})
    assert isinstance(component, NerDistill)
    component.bundle = tagger.bundle
    return {"latency_ms_p50": _median_ms(tagger, short), "spacy_latency_ms_p50": _median_ms(nlp, short)}


def _median_ms(read: Callable[[str], object], texts: Sequence[str]) -> float:
    taken = []
    for number in range(2 * len(texts)):
        began = time.perf_counter()
        read(texts[number % len(texts)])
        taken.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(taken[len(texts) :]), 4)


def _fastest(jobs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of the processor that each takes at the least; they take turns."""
    seconds = dict.fromkeys(jobs, float("inf"))
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            began = time.process_time()
            job()
            seconds[name] = min(seconds[name], time.process_time() - began)
    return seconds


def profile_tables(results: Results, part: str = "") -> str:
    """The results as Markdown.

    Args:
        results: What this program wrote.
        part: ``parts``, ``batches`` or ``ideas``; empty for all of them, an empty line between two.
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
        "batches": markdown(["words/s by padded words of a call", *map(str, BUDGETS)], budgets),
        "ideas": ideas_table(results),
    }
    return tables[part] if part else "\n".join(tables.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the results; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m nerdistill.evaluation.profile_tagger", description="Where a tagger's time goes.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="Bundle folder.")
    parser.add_argument("texts", nargs="+", type=Path, metavar="TEXT", help="Files to read, in any format of docs/data.md.")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="Texts of each file; 0 takes all.")
    parser.add_argument("--results", type=Path, metavar="FILE", help="Write a results file.")
    options = parser.parse_args(arguments)
    try:
        texts = _read(options.texts, options.limit)
        about = open_bundle(options.bundle).info
        rows = profile(options.bundle, texts, systems_of(about))
    except NerdistillError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    files = [path.name for path in options.texts]
    command = f"python -m nerdistill.evaluation.profile_tagger {options.bundle} ..."
    results = results_frame("where a tagger's time goes", command, 1, {"files": files, "limit": options.limit, "texts": len(texts)}, rows)
    logits, offsets = Tagger.load(options.bundle, "fp32", 1).logits([split_words(text) for text in texts])
    ideas = measure_ideas(texts, logits, offsets, LabelScheme(about.types))
    results = {**results, "kind": KIND, "ideas": ideas}
    if options.results:
        write_json(options.results, results)
    print(profile_tables(results))  # noqa: T201
    return 0


def _read(paths: Iterable[Path], limit: int) -> list[str]:
    """Texts of the files in turn, one of each, so that neighbours are of different files."""
    from nerdistill.corpus.readers import ReadOptions, read

    by_file = []
    for path in paths:
        sentences = [" ".join(sentence.words) for sentence in read(path, options=ReadOptions(labelled=False))]
        by_file.append(sentences[:limit] if limit else sentences)
    longest = max(map(len, by_file), default=0)
    return [texts[at] for at in range(longest) for texts in by_file if at < len(texts)]


if __name__ == "__main__":
    sys.exit(main())

"""A benchmark's tables, its picture, and the guard over its ratios."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from nerdistill.errors import DataError
from nerdistill.evaluation import documents, guard
from nerdistill.evaluation.benchmark_plot import benchmark_plot
from nerdistill.evaluation.benchmark_tables import benchmark_tables, floor_table


def row(system: str, text: str, description: str, rate: float, p50: float, **more: Any) -> dict[str, Any]:
    """A contestant on a text."""
    timed = {"median": rate, "quartiles": [0.9 * rate, 1.1 * rate]}
    return {
        "system": system, "text": text, "kind": "bundle", "takes": "words", "description": description, "parameters": 3_000_000,
        "bytes": 5_300_000, "peak_memory": 132_000_000, "words_per_second": rate, "words_per_second_quartiles": timed["quartiles"],
        "by_threads": {"1": timed, "2": {**timed, "median": 1.5 * rate}}, "by_batch": {"16": timed, "1": {**timed, "median": rate / 2}},
        "latency_ms": {"100": {"p50": 5 * p50, "p95": 9 * p50}, "20": {"p50": p50, "p95": 2 * p50}}, "latency_ms_p50": p50, **more,
    }  # fmt: skip


FLOOR = {
    "system": "student", "text": "de", "machine": {"gemm_float32": 5e10, "gemm_int8": 2e11, "bandwidth": 1e10},
    "per_word": {"operations_float32": 1e6, "operations_int8": 0, "bytes": 3000, "rows": 1.1},
    "microseconds": {"split": [4.0, 4.0], "network": [20.0, 50.0]}, "floor": 24.0, "measured": 54.0,
    "times_floor": 2.25, "largest": "network",
}  # fmt: skip
SCORED = {"f1_mean": 0.8, "f1_by_language": {"de": 0.8}}
RESULTS: dict[str, Any] = {
    "kind": "benchmark",
    "machine": {"cpu": "A"},
    "rows": [
        row("student", "de", "student, int8", 60_000.0, 0.3, **SCORED, words_per_second_new_words={"median": 50_000.0}),
        row("spacy", "de", "core_news", 6_000.0, 2.0, **SCORED),
        row("shape", "de", "multilingual BERT's shape, random weights, torch float32", 300.0, 40.0),
        row("student", "fr", "student, int8", 62_000.0, 0.3, f1_mean=0.7, f1_by_language={"fr": 0.7}),
    ],
    "floor": [FLOOR],
}


def test_speed_has_a_line_a_contestant_and_leaves_out_what_nobody_has() -> None:
    """Fixes the headline table: order, units, the comparison with the first contestant, one table a text."""
    made = benchmark_tables(RESULTS, "speed")
    assert made.split("\n\n")[0] == (
        "| de | given | parameters | on disk | memory | F1 (%) | words/s | quartiles | new words | first is faster |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        "| student | words | 3M | 5.3 MB | 132 MB | 80.0 | 60k | 54k – 66k | 50k | – |\n"
        "| spacy | words | 3M | 5.3 MB | 132 MB | 80.0 | 6k | 5.4k – 6.6k | – | 10.0× |\n"
        "| shape | words | 3M | 5.3 MB | 132 MB | – | 300 | 270 – 330 | – | 200× |"
    )
    assert made.split("\n\n")[1].startswith("| fr | given | parameters | on disk | memory | F1 (%) | words/s | quartiles |\n")


def test_latencies_and_batches_stand_in_the_order_of_their_numbers() -> None:
    """Prevents 100 words before 20 because their names are texts."""
    assert "| de | 20 words, p50 (ms) | 20 words, p95 (ms) | 100 words, p50 (ms) |" in benchmark_tables(RESULTS, "latency")
    assert "| student | 0.3 | 0.6 | 1.5 | 2.7 |" in benchmark_tables(RESULTS, "latency")
    assert "| de, words/s | 1 at a time | 16 at a time | 1 thread | 2 threads |" in benchmark_tables(RESULTS, "batches")
    assert "| student | 30k | 60k | 60k | 90k |" in benchmark_tables(RESULTS, "batches")


def test_floor_says_how_far_and_what_is_in_the_way() -> None:
    """Prevents a floor without the figures that it is made of."""
    assert "| student | 1M | 3k | 50 | 200 | 10.0 | 24 | 54 | 2.2× | network, 30.00 µs |" in benchmark_tables(RESULTS, "floor")
    assert "| network | 20 | 50 |\n| in all | 24 | 54 |\n" in floor_table(FLOOR)


def test_a_page_shows_the_parts_of_a_benchmark(tmp_path: Path) -> None:
    """Prevents a marker that shows another table than it names, a run that answers to a benchmark's part, and a picture nobody draws."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "benchmark.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    (tmp_path / "results" / "run.json").write_text(json.dumps({"rows": [{"system": "student", **SCORED}]}), encoding="utf-8")

    def shown(marker: str) -> str:
        return documents.fill(f"<!-- table: {marker} -->\n<!-- end of table -->", tmp_path, "p.md")

    assert "| F1 (%) | student | spacy |\n" in shown("results/benchmark.json scores")
    assert "GFLOP" not in shown("results/benchmark.json scores")
    assert "GFLOP" in shown("results/benchmark.json")
    for marker in ("results/benchmark.json costs", "results/run.json speed"):
        with pytest.raises(DataError, match=f"has no {marker.split()[1]} to show"):
            shown(marker)
    assert list(documents.figures(tmp_path)) == [tmp_path / documents.BENCHMARK_FIGURE]


def test_the_picture_has_a_panel_a_text_and_every_scored_contestant() -> None:
    """Prevents a picture without the rivals, with points that have no F1, or with names that become markup."""
    hostile = copy.deepcopy(RESULTS)
    hostile["rows"][1]["system"] = "<script>"
    root = ElementTree.fromstring(benchmark_plot(hostile))
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"de", "fr"} <= set(texts)
    assert texts.count("<script>") == 1
    assert not any("shape" in text for text in texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 2
    assert benchmark_plot({"rows": [row("shape", "de", "random", 300.0, 40.0)]}) == ""


def test_the_guard_names_what_moved_and_only_that() -> None:
    """Prevents a slower student from passing unseen, and noise from being told as news."""
    now = copy.deepcopy(RESULTS)
    assert guard.compare(RESULTS, now) == ["none of 4 ratios moved by more than 15 %"]
    now["rows"][0]["words_per_second"] = 48_000.0  # a fifth slower than it was
    now["rows"][1]["latency_ms_p50"] = 2.2  # a tenth
    assert guard.compare(RESULTS, now) == [
        "2 of 4 ratios moved by more than 15 %",
        "student over spacy on de, words/s: 10.0x before, 8.0x now (-20 %)",
        "student over shape on de, words/s: 200x before, 160x now (-20 %)",
    ]


def test_the_guard_says_when_it_compares_nothing_or_other_machines() -> None:
    """Prevents silence that reads as all is well."""
    assert guard.compare({"rows": []}, RESULTS) == ["no ratio of a student to another contestant is in both results; nothing to compare"]
    assert guard.compare({**RESULTS, "machine": {"cpu": "B"}}, RESULTS)[-1] == "measured on different processors: A and B"

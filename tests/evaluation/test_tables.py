"""The Markdown and terminal tables: what they say, and that gaps or hostile names break nothing."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from nerdistill.evaluation import tables

RESULTS: dict[str, Any] = {
    "data": {"languages": ["no", "de"], "types": ["PER", "LOC"]},
    "rows": [
        {"system": "student", "parameters": 3_060_000, "bytes": 3_400_000, "words_per_second": 120_000.0, "f1_pooled": 0.76,
         "f1_mean": 0.75, "f1_std": 0.05, "f1_by_language": {"de": 0.8, "no": 0.7}, "f1_by_type": {"LOC": 0.5, "PER": 0.8}},
        {"system": "teacher", "parameters": 118_000_000, "bytes": 471_000_000, "words_per_second": 1_200.0, "f1_pooled": 0.8,
         "f1_mean": 0.8, "f1_std": 0.0, "f1_by_language": {"de": 0.8, "no": 0.8}, "f1_by_type": {"PER": 1.0}},
        {"system": "no_teacher", "f1_by_language": {"de": 0.625}},
    ],
}  # fmt: skip


def printed(results: dict[str, Any], width: int = 80) -> str:
    """What a terminal without colour shows."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table in tables.terminal_table(results):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_markdown_has_a_row_a_language_then_the_summary_then_costs() -> None:
    """Fixes the whole text: order, rounding, missing values, factors."""
    assert tables.markdown_table(RESULTS) == (
        "| F1 (%) | teacher | student | no teacher | kept (%) |\n|---|---:|---:|---:|---:|\n"
        "| de | 80.0 | 80.0 | 62.5 | 100.0 |\n| no | 80.0 | 70.0 | – | 87.5 |\n"
        "| mean | 80.0 | 75.0 | 62.5 | 93.8 |\n| standard deviation | 0.0 | 5.0 | – | – |\n| pooled | 80.0 | 76.0 | – | 95.0 |\n"
        "\n"
        "| system | parameters | smaller | on disk | words/s | faster |\n|---|---:|---:|---:|---:|---:|\n"
        "| teacher | 118M | – | 471 MB | 1.2k | – |\n| student | 3.06M | 38.6× | 3.4 MB | 120k | 100× |\n"
        "| no teacher | – | – | – | – | – |\n"
    )


def test_the_summary_and_the_time_of_reading_can_be_shown() -> None:
    """Prevents a page that cannot show means alone, and a run that hides what its teacher's reading took."""
    read = {**RESULTS, "data": {**RESULTS["data"], "transfer_read_seconds": 2628.3}}
    assert tables.markdown_scores(read, summary_only=True).splitlines()[2] == "| mean | 80.0 | 75.0 | 62.5 | 93.8 |"
    assert "| de |" not in tables.markdown_scores(read, summary_only=True)
    assert tables.markdown_costs(read).splitlines()[-1] == "| reading | – | – | – | – | – | 43 min 48 s |"
    assert "reading" in printed(read)


def test_terminal_fits_80_columns_and_says_everything_without_colour() -> None:
    """Prevents lines that wrap and meaning that only colour carries."""
    text = printed(RESULTS)
    assert max(map(len, text.splitlines())) <= 80
    for part in ("teacher", "no teacher", "kept", "87.5", "93.8", "std. dev.", "38.6x", "100x"):
        assert part in text


def test_terminal_survives_sixty_languages_and_six_systems() -> None:
    """Prevents cut language names where columns get narrow."""
    scores = {f"l{at:02}": at / 60 for at in range(60)}
    results = {
        "rows": [{"system": name, "f1_by_language": scores} for name in ("teacher", "student", "tiny-4x312", "tiny-6x768", "a", "b")]
    }
    text = printed(results)
    assert max(map(len, text.splitlines())) <= 80
    assert all(language in text for language in scores)


@pytest.mark.parametrize("results", [{}, {"rows": []}, {"rows": None}, {"rows": [{"system": "student"}]}, {"rows": [{"f1_mean": 0.5}]}])
def test_without_numbers_there_are_no_tables(results: dict[str, Any]) -> None:
    """Prevents empty tables."""
    assert tables.markdown_table(results) == ""
    assert tables.terminal_table(results) == []
    assert tables.confusion(results) is None
    assert tables.by_type(results) == []


def test_nan_none_and_zero_are_not_divided_by() -> None:
    """Prevents 'nan' and crashes for what was not measured."""
    rows = [
        {"system": "teacher", "parameters": 0, "words_per_second": math.nan, "f1_by_language": {"de": 0.0, "fr": math.nan}},
        {"system": "student", "parameters": None, "words_per_second": 5, "f1_by_language": {"de": 0.5, "fr": None}},
    ]
    text = tables.markdown_table({"rows": rows})
    assert "| de | 0.0 | 50.0 |" in text
    assert "| fr | – | – |" in text
    assert "nan" not in text.lower()
    assert "| student | – | 5 |" in text


def test_one_system_has_no_kept_column() -> None:
    """Prevents a column of dashes."""
    text = tables.markdown_table({"rows": [{"system": "student", "f1_by_language": {"de": 0.5}}]})
    assert text.startswith("| F1 (%) | student |\n")


def test_hostile_names_cannot_break_out_of_a_cell() -> None:
    """Prevents names from adding cells, markup or rich styles."""
    rows = [{"system": "[red]x|y<script>\nz", "bytes": 1, "f1_by_language": {"a|b": 0.5, "[/bold]": 0.1}}]
    text = tables.markdown_table({"rows": rows})
    assert "<script>" not in text
    assert "x\\|y&lt;script&gt; z" in text
    assert "| a\\|b | 50.0 |" in text
    assert "[/bold]" in printed({"rows": rows})


def test_several_rows_of_one_system_keep_apart() -> None:
    """Prevents two seeds from becoming one column."""
    rows: list[dict[str, Any]] = [
        {"system": "student", "seed": 1},
        {"system": "student", "seed": 2},
        {"system": "student"},
        {"system": "teacher"},
    ]
    assert [name for name, _ in tables.systems({"rows": rows})] == ["teacher", "student", "student, seed 2", "student (2)"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12, "12"), (999.6, "1k"), (1234, "1.23k"), (999_499, "999k"), (999_600, "1M"), (3_060_000, "3.06M"), (118e6, "118M"),
     (0.05, "0.05"), (2.5e12, "2500G"), (None, "–"), (math.inf, "–"), (True, "–"), ("7", "–")],
)  # fmt: skip
def test_compact(value: object, text: str) -> None:
    """Counts have at most three digits."""
    assert tables.compact(value) == text


@pytest.mark.parametrize(("value", "text"), [(12, "12 bytes"), (3_400_000, "3.4 MB"), (471e6, "471 MB"), (2.2e9, "2.2 GB"), (None, "–")])
def test_size(value: object, text: str) -> None:
    """Sizes are in powers of 1000."""
    assert tables.size_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.0 s"), (9.96, "10 s"), (59.7, "1 min 00 s"), (252, "4 min 12 s"), (7500, "2 h 05 min"), ("", "–")]
)
def test_duration(value: object, text: str) -> None:
    """Durations never show 60 seconds or 60 minutes."""
    assert tables.duration(value) == text


@pytest.mark.parametrize(("value", "text"), [(1, "1.0×"), (38.45, "38.5×"), (99.96, "100×"), (1234.5, "1,234×"), (math.nan, "–")])
def test_factor(value: object, text: str) -> None:
    """Factors have a decimal only where it says something."""
    assert tables.factor(value) == text


def test_types_come_in_the_order_of_the_data() -> None:
    """Prevents an order that changes from report to report."""
    assert tables.by_type(RESULTS) == [("PER", [1.0, 0.8, None], 0.8), ("LOC", [None, 0.5, None], None)]


def test_confusion_is_the_students_with_shares_of_each_line() -> None:
    """Prevents shares over the wrong whole, and the count of O as O from drowning the rest."""
    table = {"LOC": {"LOC": 6, "O": 2}, "O": {"PER": 1, "O": 99}, "PER": {}}
    rows = [{"system": "teacher", "confusion": {"PER": {"PER": 1}}}, {"system": "student", "confusion": table}]
    found = tables.confusion({**RESULTS, "rows": rows})
    assert found is not None
    assert (found["system"], found["kinds"]) == ("student", ["PER", "LOC", "O"])
    assert found["lines"][0] == ("LOC", [(None, 0.0), (6.0, 0.75), (2.0, 0.25)], 8.0)
    assert found["lines"][1] == ("O", [(1.0, 1.0), (None, 0.0), (None, 0.0)], 1.0)


def test_facts_take_whatever_the_data_holds() -> None:
    """Free keys are shown, empty ones are not."""
    results = {
        "command": "x",
        "machine": {"cpu": "c", "gpu": None, "isa": ["avx2", "amx"]},
        "data": {"languages": ["de"], "n": 1200, "free_key": {"a": 1}, "e": ""},
    }
    assert tables.facts(results) == [
        ("command", "x"), ("machine", "cpu c, isa avx2+amx"), ("languages", "1: de"), ("n", "1,200"), ("free key", '{"a": 1}'),
    ]  # fmt: skip

"""The table of a study: one line a student, the paper's figure beside ours where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nerdistill.evaluation.tables import MISSING, Results, compact, duration, first, markdown, mean_f1, number, percent, quotient

Row = Mapping[str, Any]


def _paper(row: Row, key: str) -> object:
    return (row.get("paper") or {}).get(key)


def _decimal(value: object) -> str:
    found = number(value)
    return MISSING if found is None else f"{found:.2f}"


def _megabytes(value: object) -> str:
    found = number(value)
    return MISSING if found is None else f"{found / 1e6:.1f}"


def _times(over: object, under: object) -> str:
    found = quotient(number(over), number(under))
    return MISSING if found is None else f"{found:.1f}x"


COLUMNS: dict[str, Callable[[Row, Row], str]] = {
    "F1": lambda row, teacher: percent(mean_f1(row)),
    "sd": lambda row, teacher: percent(row.get("f1_std")),
    "kept": lambda row, teacher: MISSING if row is teacher else percent(quotient(mean_f1(row), mean_f1(teacher))),
    "labels alone": lambda row, teacher: percent(row.get("f1_mean_no_teacher")),
    "F1 int8": lambda row, teacher: percent(row.get("f1_mean_int8")),
    "without labels": lambda row, teacher: percent(row.get("f1_mean_without_labels")),
    "on dev": lambda row, teacher: percent(row.get("f1_dev")),
    "parameters": lambda row, teacher: compact(row.get("parameters")),
    "smaller": lambda row, teacher: _times(teacher.get("parameters"), row.get("parameters")),
    "MB": lambda row, teacher: _megabytes(row.get("bytes")),
    "MB int8": lambda row, teacher: _megabytes(row.get("bytes_int8")),
    "pieces": lambda row, teacher: compact(row.get("pieces")),
    "pieces a word": lambda row, teacher: _decimal(row.get("pieces_per_word")),
    "unknown": lambda row, teacher: percent(row.get("unknown_share")),
    "sentences": lambda row, teacher: compact(row.get("transfer_sentences")),
    "time": lambda row, teacher: duration(row.get("seconds")),
    "words/s": lambda row, teacher: compact(row.get("words_per_second")),
    "words/s int8": lambda row, teacher: compact(row.get("words_per_second_int8")),
    "faster": lambda row, teacher: _times(row.get("words_per_second"), teacher.get("words_per_second")),
    "faster int8": lambda row, teacher: _times(row.get("words_per_second_int8"), teacher.get("words_per_second")),
    "paper F1": lambda row, teacher: percent(_paper(row, "f1_mean")),
    "paper sd": lambda row, teacher: percent(_paper(row, "f1_std")),
    "paper kept": lambda row, teacher: MISSING if row is teacher else percent(quotient(_paper(row, "f1_mean"), _paper(teacher, "f1_mean"))),
    "paper parameters": lambda row, teacher: compact(_paper(row, "parameters")),
}
"""What a table can show of a row, beside the row ``teacher``; ``kept`` is the share of that row's mean F1."""


def study_table(results: Results) -> str:
    """A study's results as Markdown; columns without any value are left out."""
    rows: list[Row] = list(results["rows"])
    teacher = first(results, "teacher") or {}
    cells = {head: [COLUMNS[head](row, teacher) for row in rows] for head in results.get("columns") or COLUMNS}
    kept = [head for head, values in cells.items() if any(value != MISSING for value in values)]
    return markdown(["", *kept], [[str(row["system"]), *(cells[head][at] for head in kept)] for at, row in enumerate(rows)])

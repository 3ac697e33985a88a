"""The table of a study: one line a student, the paper's figure beside ours where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nerdistill.evaluation.tables import MISSING, Results, compact, duration, first, markdown, mean_f1, number, percent, quotient

Row = Mapping[str, Any]


class Beside(NamedTuple):
    """What a row is compared with: the row ``teacher``, and the first student, from which an ablation takes something away."""

    teacher: Row
    whole: Row


def _paper(row: Row, key: str) -> object:
    return (row.get("paper") or {}).get(key)


def _kept(row: Row, teacher: Row, score: Callable[[Row], object]) -> str:
    return MISSING if row is teacher else percent(quotient(score(row), score(teacher)))


def _decimal(value: object) -> str:
    found = number(value)
    return MISSING if found is None else f"{found:.2f}"


def _signed(value: object) -> str:
    found = number(value)
    return MISSING if found is None else f"{100 * found:+.1f}"


def _points(value: float | None, whole: float | None) -> str:
    return MISSING if value is None or whole is None else _signed(value - whole)


def _megabytes(value: object) -> str:
    found = number(value)
    return MISSING if found is None else f"{found / 1e6:.1f}"


def _times(over: object, under: object) -> str:
    found = quotient(number(over), number(under))
    return MISSING if found is None else f"{found:.1f}x"


COLUMNS: dict[str, Callable[[Row, Beside], str]] = {
    "F1": lambda row, beside: percent(mean_f1(row)),
    "sd": lambda row, beside: percent(row.get("f1_std")),
    "kept": lambda row, beside: _kept(row, beside.teacher, mean_f1),
    "labels alone": lambda row, beside: percent(row.get("f1_mean_no_teacher")),
    "F1 int8": lambda row, beside: percent(row.get("f1_mean_int8")),
    "change": lambda row, beside: MISSING if row in beside else _points(mean_f1(row), mean_f1(beside.whole)),
    "without labels": lambda row, beside: percent(row.get("f1_mean_without_labels")),
    "on dev": lambda row, beside: percent(row.get("f1_dev")),
    "parameters": lambda row, beside: compact(row.get("parameters")),
    "smaller": lambda row, beside: _times(beside.teacher.get("parameters"), row.get("parameters")),
    "MB": lambda row, beside: _megabytes(row.get("bytes")),
    "MB int8": lambda row, beside: _megabytes(row.get("bytes_int8")),
    "pieces": lambda row, beside: compact(row.get("pieces")),
    "pieces a word": lambda row, beside: _decimal(row.get("pieces_per_word")),
    "unknown": lambda row, beside: percent(row.get("unknown_share")),
    "sentences": lambda row, beside: compact(row.get("transfer_sentences")),
    "time": lambda row, beside: duration(row.get("seconds")),
    "words/s": lambda row, beside: compact(row.get("words_per_second")),
    "words/s int8": lambda row, beside: compact(row.get("words_per_second_int8")),
    "faster": lambda row, beside: _times(row.get("words_per_second"), beside.teacher.get("words_per_second")),
    "faster int8": lambda row, beside: _times(row.get("words_per_second_int8"), beside.teacher.get("words_per_second")),
    "paper F1": lambda row, beside: percent(_paper(row, "f1_mean")),
    "paper change": lambda row, beside: _signed(_paper(row, "change")),
    "paper sd": lambda row, beside: percent(_paper(row, "f1_std")),
    "paper kept": lambda row, beside: _kept(row, beside.teacher, lambda one: _paper(one, "f1_mean")),
    "paper parameters": lambda row, beside: compact(_paper(row, "parameters")),
}
"""What a table can show of a row; ``kept`` is a share of the teacher's mean F1, ``change`` the points beside the first student."""


def study_table(results: Results) -> str:
    """A study's results as Markdown; columns without any value are left out."""
    rows: list[Row] = list(results["rows"])
    beside = Beside(first(results, "teacher") or {}, next((row for row in rows if row["system"] != "teacher"), {}))
    cells = {head: [COLUMNS[head](row, beside) for row in rows] for head in results.get("columns") or COLUMNS}
    kept = [head for head, values in cells.items() if any(value != MISSING for value in values)]
    return markdown(["", *kept], [[str(row["system"]), *(cells[head][at] for head in kept)] for at, row in enumerate(rows)])

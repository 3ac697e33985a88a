"""The table of a study: one line a student, the paper's figure beside ours where there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nerdistill.evaluation.tables import MISSING, Results, compact, first, markdown, mean_f1, number, percent, quotient

Row = Mapping[str, Any]


def study_table(results: Results) -> str:
    """A study's results as Markdown: F1 in percent with its deviation over languages, what is kept of the teacher, size, speed, the paper.

    Columns without any value are left out; ``kept`` is the share of the mean F1 of the row ``teacher``, for the paper's figures that of
    its own teacher.
    """
    rows: list[Row] = list(results["rows"])
    teacher = first(results, "teacher") or {}
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("F1", lambda row: percent(mean_f1(row))),
        ("sd", lambda row: percent(row.get("f1_std"))),
        ("kept", lambda row: MISSING if row is teacher else percent(quotient(mean_f1(row), mean_f1(teacher)))),
        ("without labels", lambda row: percent(row.get("f1_mean_without_labels"))),
        ("on dev", lambda row: percent(row.get("f1_dev"))),
        ("parameters", lambda row: compact(row.get("parameters"))),
        ("pieces", lambda row: compact(row.get("pieces"))),
        ("pieces a word", lambda row: _decimal(row.get("pieces_per_word"))),
        ("words/s", lambda row: compact(row.get("words_per_second"))),
        ("paper F1", lambda row: percent(_paper(row, "f1_mean"))),
        ("paper sd", lambda row: percent(_paper(row, "f1_std"))),
        ("paper kept", lambda row: MISSING if row is teacher else percent(quotient(_paper(row, "f1_mean"), _paper(teacher, "f1_mean")))),
        ("paper parameters", lambda row: compact(_paper(row, "parameters"))),
    ]
    wanted = results.get("columns") or None
    cells = {head: [cell(row) for row in rows] for head, cell in columns if wanted is None or head in wanted}
    kept = [head for head, values in cells.items() if any(value != MISSING for value in values)]
    lines = [[str(row["system"]), *(cells[head][at] for head in kept)] for at, row in enumerate(rows)]
    return markdown(["", *kept], lines)


def _paper(row: Row, key: str) -> object:
    return (row.get("paper") or {}).get(key)


def _decimal(value: object) -> str:
    found = number(value)
    return MISSING if found is None else f"{found:.2f}"

"""Result tables as Markdown and for the terminal, and the number formats that the HTML report shares with them.

A results object is the plain dictionary of a results file. Every key but a row's ``system`` may be absent, and any number may be None
or NaN; what is absent is shown as a dash, and a column or table without any value is left out.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from nerdistill.labels import OUTSIDE

Results = Mapping[str, Any]
Row = Mapping[str, Any]

MISSING = "–"
_READABLE = {"teacher": "teacher", "student": "student", "no_teacher": "no teacher"}
_SUMMARY = (("mean", "f1_mean"), ("standard deviation", "f1_std"), ("pooled", "f1_pooled"), ("without labels", "f1_mean_without_labels"))


def number(value: object) -> float | None:
    """The value if it is a finite number, else None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def quotient(above: object, below: object) -> float | None:
    """``above / below`` where both are finite numbers and the lower one is positive, else None."""
    over, under = number(above), number(below)
    return None if over is None or under is None or under <= 0 else over / under


def percent(value: object) -> str:
    """A share as a percentage with one decimal, without the sign."""
    share = number(value)
    return MISSING if share is None else f"{100 * share:.1f}"


def compact(value: object) -> str:
    """A count in at most three digits and a unit, such as ``950``, ``12.3k``, ``3.06M`` and ``118M``."""
    count = number(value)
    if count is None:
        return MISSING
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= 0.9995 * size:
            return f"{count / size:.3g}{unit}" if abs(count) < 999.5 * size else f"{count / size:.0f}{unit}"
    return f"{count:.3g}" if abs(count) < 999.5 else f"{count:.0f}"


def factor(value: object, sign: str = "×") -> str:
    """How many times, such as ``38.4×``; whole numbers from 100 up."""
    times = number(value)
    return MISSING if times is None else f"{times:,.0f}{sign}" if times >= 99.95 else f"{times:.1f}{sign}"


def size_text(value: object) -> str:
    """Bytes as kB, MB or GB (powers of 1000)."""
    count = number(value)
    if count is None:
        return MISSING
    size, unit = next(((s, u) for s, u in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= 0.9995 * s), (1.0, "bytes"))
    return f"{count / size:.1f} {unit}" if unit != "bytes" and count / size < 99.95 else f"{count / size:.0f} {unit}"


def duration(seconds: object) -> str:
    """Seconds as ``8.2 s``, ``4 min 12 s`` or ``2 h 05 min``."""
    spent = number(seconds)
    if spent is None:
        return MISSING
    minutes, rest = divmod(round(spent), 60)
    hours, left = divmod(minutes, 60)
    return (
        f"{hours} h {left:02} min"
        if hours
        else f"{minutes} min {rest:02} s"
        if minutes
        else f"{spent:.1f} s"
        if spent < 9.95
        else f"{rest} s"
    )


def mean_f1(row: Row | None) -> float | None:
    """The mean F1 over languages: as stated, else computed from the languages."""
    if row is None:
        return None
    scores = [score for score in map(number, _f1_by_language(row).values()) if score is not None]
    stated = number(row.get("f1_mean"))
    return stated if stated is not None or not scores else sum(scores) / len(scores)


def systems(results: Results) -> list[tuple[str, Row]]:
    """The rows with readable and distinct names: teacher, student, no teacher, then the others as they come."""
    rows: list[Row] = [row for row in results.get("rows") or [] if row.get("system") is not None]
    known = list(_READABLE)
    rows.sort(key=lambda row: known.index(row["system"]) if row["system"] in known else len(known))
    named: list[tuple[str, Row]] = []
    taken: set[str] = set()
    for row in rows:
        name = plain = str(_READABLE.get(str(row["system"]), row["system"]))
        if name in taken and row.get("seed") is not None:
            name = f"{plain}, seed {row['seed']}"
        copy = 2
        while name in taken:
            name, copy = f"{plain} ({copy})", copy + 1
        taken.add(name)
        named.append((name, row))
    return named


def first(results: Results, system: str) -> Row | None:
    """The first row of a system."""
    return next((row for row in results.get("rows") or [] if row.get("system") == system), None)


def having(results: Results, key: str) -> list[tuple[str, Row]]:
    """The systems that have a value for that key, the student before the others."""
    return sorted(((name, row) for name, row in systems(results) if row.get(key)), key=lambda pair: pair[1]["system"] != "student")


def languages(results: Results) -> list[str]:
    """Every language that has a score, sorted."""
    return sorted({str(key) for _, row in systems(results) for key in _f1_by_language(row)})


def _scores(results: Results) -> tuple[list[str], list[tuple[str, list[str], float | None]]]:
    """The first table: heads, then (label, cells, share kept or None) a line; the share's cell is not among the cells."""
    named, teacher, student = systems(results), first(results, "teacher"), first(results, "student")
    lines: list[tuple[str, list[str], float | None]] = []
    for language in languages(results):
        by_system = [_f1_by_language(row).get(language) for _, row in named]
        kept = quotient(*(_f1_by_language(row).get(language) for row in (student, teacher)))
        lines.append((language, [percent(score) for score in by_system], kept))
    for label, key in _SUMMARY:
        values = [mean_f1(row) if key == "f1_mean" else number(row.get(key)) for _, row in named]
        if any(value is not None for value in values):
            pair = (mean_f1(student), mean_f1(teacher)) if key == "f1_mean" else ((student or {}).get(key), (teacher or {}).get(key))
            lines.append((label, [percent(value) for value in values], None if key == "f1_std" else quotient(*pair)))
    return [name for name, _ in named], lines


def _f1_by_language(row: Row | None) -> Mapping[str, Any]:
    return (row or {}).get("f1_by_language") or {}


def known_and_kept(results: Results) -> list[tuple[str, float | None, float | None]]:
    """Language, share of its test names that training names have, and share of its teacher's F1 that the student keeps; least first."""
    teacher, student = (_f1_by_language(first(results, name)) for name in ("teacher", "student"))
    known = (results.get("known_names") or {}).get("by_language") or {}
    found = [(name, number(known.get(name)), quotient(student.get(name), teacher.get(name))) for name in languages(results)]
    return sorted(found, key=lambda line: (line[2] is None, line[2] or 0.0))


def costs(results: Results, sign: str = "×") -> tuple[list[str], list[list[str]]]:
    """The second table: heads and lines of texts; the columns for which no system has a value are left out.

    Its last line is the time that the teacher took to read the transfer text, where the run knows it: it is paid once for all students.
    """
    teacher = first(results, "teacher") or {}
    heads = ["system", "parameters", "smaller", "on disk", "words/s", "faster", "trained in"]
    lines = []
    for name, row in systems(results):
        smaller = quotient(teacher.get("parameters"), row.get("parameters"))
        faster = quotient(row.get("words_per_second"), teacher.get("words_per_second"))
        itself = row is teacher
        lines.append(
            [
                name,
                compact(row.get("parameters")),
                MISSING if itself else factor(smaller, sign),
                size_text(row.get("bytes")),
                compact(row.get("words_per_second")),
                MISSING if itself else factor(faster, sign),
                duration(row.get("seconds")),
            ]
        )
    reading = (results.get("data") or {}).get("transfer_read_seconds")
    if number(reading) is not None:
        lines.append(["reading", *[MISSING] * (len(heads) - 2), duration(reading)])
    kept = [at for at in range(len(heads)) if at == 0 or any(line[at] != MISSING for line in lines)]
    if len(kept) == 1:
        return [], []
    return [heads[at] for at in kept], [[line[at] for at in kept] for line in lines]


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""

    def line(cells: Sequence[str]) -> str:
        escaped = (" ".join(html.escape(cell, quote=False).replace("\\", "\\\\").replace("|", "\\|").split()) for cell in cells)
        return "| " + " | ".join(escaped) + " |"

    rule = "|---|" + "---:|" * (len(heads) - 1)
    return "\n".join([line(heads), rule, *map(line, lines)]) + "\n"


def markdown_scores(results: Results, summary_only: bool = False) -> str:
    """The first Markdown table: F1 in percent by language, then the summary; possibly an empty text."""
    heads, scores = _scores(results)
    share = any(kept is not None for *_, kept in scores)
    shown = scores[len(languages(results)) if summary_only else 0 :]
    lines = [[label, *cells, *([percent(kept)] if share else [])] for label, cells, kept in shown]
    return markdown(["F1 (%)", *heads, *(["kept (%)"] if share else [])], lines) if lines else ""


def markdown_costs(results: Results) -> str:
    """The second Markdown table: size and speed; possibly an empty text."""
    heads, lines = costs(results)
    return markdown(heads, lines) if lines else ""


def markdown_table(results: Results) -> str:
    """Both Markdown tables with an empty line between them; only those that have a value to show, so possibly an empty text."""
    return "\n".join(filter(None, (markdown_scores(results), markdown_costs(results))))


def _style(kept: float | None) -> str:
    """Colour of a share kept: from 95 % green, from 85 % yellow, below that red."""
    return "" if kept is None else "green" if kept >= 0.95 else "yellow" if kept >= 0.85 else "bold red"


def _terminal(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for at, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if at else "left", overflow="fold")
    return table


def terminal_table(results: Results) -> list[Table]:
    """The same two tables for a terminal of 80 columns; colour repeats what the numbers in ``kept`` say.

    Returns:
        Tables to print one after the other with rich, only those that have a value to show.
    """
    heads, scores = _scores(results)
    share = any(kept is not None for *_, kept in scores)
    tables = []
    if scores:
        table = _terminal("F1 by language, percent", ["", *heads, *(["kept %"] if share else [])])
        if share:
            table.caption, table.caption_justify = "kept: the student's F1 as a share of the teacher's", "left"
        summary = {label for label, _ in _SUMMARY}
        ends = len(languages(results)) - 1
        for at, (label, cells, kept) in enumerate(scores):
            last = [Text(percent(kept), style=_style(kept))] if share else []
            name = Text(label.replace("standard deviation", "std. dev."), style="bold" if at > ends and label in summary else "")
            table.add_row(name, *map(Text, cells), *last, end_section=at == ends)
        tables.append(table)
    cost_heads, cost_lines = costs(results, "x")
    if cost_lines:
        table = _terminal("Size and speed", cost_heads)
        for line in cost_lines:
            table.add_row(*map(Text, line))
        tables.append(table)
    return tables


def types_of(results: Results, found: Iterable[str]) -> list[str]:
    """The entity types found, in the order in which the data names them."""
    rest = sorted(set(found))
    known = [str(name) for name in (results.get("data") or {}).get("types") or []]
    return list(dict.fromkeys([*(name for name in known if name in rest), *rest]))


def by_type(results: Results) -> list[tuple[str, list[object], float | None]]:
    """F1 by entity type: the type, the score of each of `systems`, and the share of the teacher's that the student keeps."""
    scores: list[Row] = [row.get("f1_by_type") or {} for _, row in systems(results)]
    student, teacher = ((first(results, system) or {}).get("f1_by_type") or {} for system in ("student", "teacher"))
    kinds = types_of(results, (kind for score in scores for kind in score))
    return [(kind, [score.get(kind) for score in scores], quotient(student.get(kind), teacher.get(kind))) for kind in kinds]


def confusion(results: Results) -> dict[str, Any] | None:
    """The confusion of gold types (lines) and predicted types (columns) of the student, else of the first system that has one.

    Returns:
        ``system``, its name; ``kinds``, the columns; ``lines``: gold type, (count, share of the line) for each column, count in all.
    """
    found = having(results, "confusion")
    if not found:
        return None
    name, row = found[0]
    table: Mapping[str, Mapping[str, object]] = row["confusion"]
    named = {*table, *(kind for line in table.values() for kind in line or {})} - {OUTSIDE}
    kinds, lines = [*types_of(results, named), OUTSIDE], []
    for gold in kinds:
        counts = [None if gold == kind == OUTSIDE else number((table.get(gold) or {}).get(kind)) for kind in kinds]
        whole = sum(count or 0.0 for count in counts)
        if whole > 0:
            lines.append((gold, [(count, quotient(count, whole) or 0.0) for count in counts], whole))
    return {"system": name, "kinds": kinds, "lines": lines} if lines else None


def facts(results: Results) -> list[tuple[str, str]]:
    """Where the numbers come from, as (what, text): command, commit, date, machine, and everything that ``data`` holds."""
    parts = {
        name: "+".join(map(str, value)) if isinstance(value, list) else value for name, value in (results.get("machine") or {}).items()
    }
    machine = ", ".join(f"{name} {value}" for name, value in parts.items() if value not in (None, ""))
    found = [*((name, str(results.get(name) or "")) for name in ("command", "commit", "date")), ("machine", machine)]
    for name, value in (results.get("data") or {}).items():
        if isinstance(value, list):
            text = f"{len(value)}: " + ", ".join(map(str, value))
        else:
            text = f"{value:,}" if isinstance(value, int) else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found.append((str(name).replace("_", " "), text))
    return [(name, text) for name, text in found if text]

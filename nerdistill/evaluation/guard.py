"""A guard over speed: ratios between contestants of two benchmarks, and which of them moved.

Words per second change from machine to machine and from day to day. Ratios of systems that were timed in turn in one run change far less,
so a ratio that moves says that one of the two became slower or faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nerdistill.evaluation.benchmark_tables import by_text
from nerdistill.evaluation.tables import Results, Row, factor, quotient

MOVED = 0.15
"""A ratio that changed by more than this share is told."""


class Ratio(NamedTuple):
    """How many times a student beats another contestant on a text, in words per second or in the latency of one short document."""

    text: str
    student: str
    other: str
    what: str


def ratios(results: Results) -> dict[Ratio, float]:
    """Every student over every contestant that is none, on each text."""
    return {
        ratio: value
        for text, rows in by_text(results).items()
        for student in rows
        if _is_student(student)
        for other in rows
        if not _is_student(other)
        for ratio, value in _pair(text, student, other)
    }


def _is_student(row: Row) -> bool:
    return str(row.get("description")).startswith("student")


def _pair(text: str, student: Row, other: Row) -> Iterator[tuple[Ratio, float]]:
    rates = quotient(student.get("words_per_second"), other.get("words_per_second"))
    waits = quotient(other.get("latency_ms_p50"), student.get("latency_ms_p50"))
    for what, value in (("words/s", rates), ("latency", waits)):
        if value:
            yield Ratio(text, str(student["system"]), str(other["system"]), what), value


def compare(before: Results, now: Results) -> list[str]:
    """What to say of the ratios that both benchmarks have: the ones that moved, or that none did."""
    old, new = ratios(before), ratios(now)
    shared = [ratio for ratio in new if ratio in old]
    if not shared:
        return ["no ratio of a student to another contestant is in both results; nothing to compare"]
    told = [
        f"{ratio.student} over {ratio.other} on {ratio.text}, {ratio.what}: {factor(old[ratio], 'x')} before, "
        f"{factor(new[ratio], 'x')} now ({100 * (new[ratio] / old[ratio] - 1):+.0f} %)"
        for ratio in shared
        if abs(new[ratio] / old[ratio] - 1) > MOVED
    ]
    cpus = {str((results.get("machine") or {}).get("cpu")) for results in (before, now)}
    machines = [f"measured on different processors: {' and '.join(sorted(cpus))}"] if len(cpus) > 1 else []
    counted = f"{len(told)} of {len(shared)} ratios moved by more than {100 * MOVED:.0f} %" if told else (
        f"none of {len(shared)} ratios moved by more than {100 * MOVED:.0f} %"
    )  # fmt: skip
    return [counted, *told, *machines]

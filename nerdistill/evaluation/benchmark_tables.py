"""The tables of a benchmark: one of each kind for every text, a contestant a line, the first of which the others are compared with.

A results object is that of `nerdistill.steps.benchmark.run_benchmark`. What is absent is shown as a dash, and columns and tables without
any value are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nerdistill.evaluation.tables import (
    MISSING,
    Results,
    Row,
    compact,
    factor,
    markdown,
    markdown_table,
    mean_f1,
    number,
    percent,
    quotient,
    size_text,
)

Table = tuple[list[str], list[list[str]]]
"""Heads and lines."""


def is_benchmark(results: Results) -> bool:
    """Whether a results file is a benchmark's."""
    return results.get("kind") == "benchmark"


def by_text(results: Results) -> dict[str, list[Row]]:
    """The rows of each text, in order."""
    rows: dict[str, list[Row]] = {}
    for row in results["rows"]:
        rows.setdefault(str(row.get("text")), []).append(row)
    return rows


def benchmark_tables(results: Results, part: str = "") -> str:
    """Tables as Markdown, an empty line between two of them.

    Args:
        results: Of a benchmark.
        part: ``speed``, ``latency``, ``batches``, ``scores`` (F1 by language) or ``floor``; empty for all but ``scores``. Any other part
            has no table.
    """
    texts = by_text(results)
    if part == "scores":
        return "\n".join(markdown_table({"rows": scored}) for rows in texts.values() if (scored := _scored(rows)))
    chosen = [make for name, make in PARTS.items() if part in ("", name)]
    tables = [make(text, rows) for make in chosen for text, rows in texts.items()]
    if part in ("", "floor"):
        tables.append(_laid_out("floor, one thread", results.get("floor") or [], _FLOOR))
    return "\n".join(markdown(heads, lines) for heads, lines in tables if len(heads) > 1 and lines)


def _scored(rows: Sequence[Row]) -> list[Row]:
    """Rows with F1, and nothing that makes a second table."""
    return [{"system": row["system"], **{key: row[key] for key in row if key.startswith("f1_")}} for row in rows if "f1_mean" in row]


def _laid_out(name: str, rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> Table:
    cells = {head: [show(row) for row in rows] for head, show in columns.items()}
    kept = [head for head, values in cells.items() if any(value != MISSING for value in values)]
    return [name, *kept], [[str(row["system"]), *(cells[head][at] for head in kept)] for at, row in enumerate(rows)]


def _range(quartiles: object) -> str:
    return f"{compact(quartiles[0])} – {compact(quartiles[1])}" if isinstance(quartiles, Sequence) and len(quartiles) == 2 else MISSING


def _speed(text: str, rows: Sequence[Row]) -> Table:
    first = rows[0]
    return _laid_out(
        text,
        rows,
        {
            "given": lambda row: str(row.get("takes") or MISSING),
            "parameters": lambda row: compact(row.get("parameters")),
            "on disk": lambda row: size_text(row.get("bytes")),
            "memory": lambda row: size_text(row.get("peak_memory")),
            "F1 (%)": lambda row: percent(mean_f1(row)),
            "words/s": lambda row: compact(row.get("words_per_second")),
            "quartiles": lambda row: _range(row.get("words_per_second_quartiles")),
            "new words": lambda row: compact((row.get("words_per_second_new_words") or {}).get("median")),
            "first is faster": lambda row: (
                MISSING if row is first else factor(quotient(first.get("words_per_second"), row.get("words_per_second")))
            ),
        },
    )


def _latency(text: str, rows: Sequence[Row]) -> Table:
    lengths = sorted({int(length) for row in rows for length in row.get("latency_ms") or {}})

    def cell(length: int, key: str) -> Callable[[Row], str]:
        return lambda row: _milliseconds(((row.get("latency_ms") or {}).get(str(length)) or {}).get(key))

    heads = {f"{length} words, {key} (ms)": cell(length, key) for length in lengths for key in ("p50", "p95")}
    return _laid_out(text, rows, heads)


def _milliseconds(value: object) -> str:
    found = number(value)
    return MISSING if found is None else f"{found:.3g}" if found < 100 else f"{found:.0f}"


def _batches(text: str, rows: Sequence[Row]) -> Table:
    def cell(key: str, which: int) -> Callable[[Row], str]:
        return lambda row: compact(((row.get(key) or {}).get(str(which)) or {}).get("median"))

    def found(key: str) -> list[int]:
        return sorted({int(which) for row in rows for which in row.get(key) or {}})

    heads = {f"{size} at a time": cell("by_batch", size) for size in found("by_batch")}
    heads |= {f"{count} thread{'s' * (count > 1)}": cell("by_threads", count) for count in found("by_threads")}
    return _laid_out(f"{text}, words/s", rows, heads)


def _floor_machine(key: str, unit: float) -> Callable[[Row], str]:
    return lambda row: MISSING if (rate := number((row.get("machine") or {}).get(key))) is None else f"{rate / unit:.0f}"


def _largest(row: Row) -> str:
    found: Any = (row.get("microseconds") or {}).get(row.get("largest"))
    return MISSING if not found else f"{row['largest']}, {found[1] - found[0]:.2f} µs"


_FLOOR: dict[str, Callable[[Row], str]] = {
    "operations a word": lambda row: compact(
        sum(number(value) or 0.0 for key, value in (row.get("per_word") or {}).items() if key.startswith("operations"))
    ),
    "bytes a word": lambda row: compact((row.get("per_word") or {}).get("bytes")),
    "float32 GFLOP/s": _floor_machine("gemm_float32", 1e9),
    "int8 GOP/s": _floor_machine("gemm_int8", 1e9),
    "GB/s": lambda row: MISSING if (rate := number((row.get("machine") or {}).get("bandwidth"))) is None else f"{rate / 1e9:.1f}",
    "floor (µs)": lambda row: _milliseconds(row.get("floor")),
    "measured (µs)": lambda row: _milliseconds(row.get("measured")),
    "measured / floor": lambda row: factor(row.get("times_floor")),
    "most above its floor": _largest,
}

PARTS: dict[str, Callable[[str, Sequence[Row]], Table]] = {"speed": _speed, "latency": _latency, "batches": _batches}
"""Tables of one text."""


def floor_table(result: Results) -> str:
    """The parts of one bundle's floor as Markdown, microseconds a word."""
    lines = [[name, *map(_milliseconds, pair)] for name, pair in result["microseconds"].items()]
    lines.append(["in all", _milliseconds(result["floor"]), _milliseconds(result["measured"])])
    return markdown(["microseconds a word", "floor", "measured"], lines)

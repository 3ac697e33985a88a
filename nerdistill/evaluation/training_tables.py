"""The tables of a training benchmark, from what `nerdistill.steps.benchmark_training.measure_training` gives."""

from __future__ import annotations

from collections.abc import Callable

from nerdistill.evaluation.tables import MISSING, Results, Row, compact, factor, markdown, percent, quotient

KIND = "training"


def training_tables(results: Results, part: str = "") -> str:
    """Tables as Markdown, an empty line between two of them.

    Args:
        results: Of `measure_training`.
        part: ``rates``, ``split`` (what each difference brings) or ``steps`` (where the time of a step goes); empty for all. Any other part
            has no table.
    """
    tables: dict[str, Callable[[Results], str]] = {"rates": _rates, "split": _split, "steps": _steps}
    return "\n".join(make(results) for name, make in tables.items() if part in ("", name))


def _rates(results: Results) -> str:
    """A contestant a line; over some epochs, how many times the first one's rate it has."""
    rows = results["rows"]
    counted = list(rows[0]["words_per_second_by_epochs"])
    heads = ["system", "teacher", "precision", "batches", "padding (%)", "words/s", "quartiles", "pieces/s"]
    heads += [f"{n} epoch{'s' * (n != '1')}" for n in counted]
    lines = []
    for row in rows:
        low, high = row["words_per_second_quartiles"]
        line = [str(row[key]) for key in ("system", "teacher", "precision", "batches")]
        line += [percent(row["padding"]), compact(row["words_per_second"]), f"{compact(low)} – {compact(high)}"]
        line.append(compact(row["pieces_per_second"]))
        line += [f"{compact(_after(row, n))} ({factor(quotient(_after(row, n), _after(rows[0], n)))})" for n in counted]
        lines.append([*line, str(row["steps"]), f"{row['divergence']:.3f}"])
    return markdown([*heads, "steps", f"divergence (before: {results['data']['divergence']:.3f})"], lines)


def _after(row: Row, epochs: str) -> object:
    return row["words_per_second_by_epochs"].get(epochs)


def _split(results: Results) -> str:
    """What makes the difference, one thing at a time: each line's rate over that of the line before."""
    rows = {(row["system"], row["teacher"], row["batches"], row["precision"]): row for row in results["rows"]}
    other = next((row["precision"] for row in results["rows"] if row["precision"] != "float32"), None)
    rivals = [("TextBrewer", "reads along", batches, "float32") for batches in ("shuffled", "by length")]
    ours = [("nerdistill", "reads along", "by length", "float32")]
    last = f"{results['epochs']}"
    steps = [
        ("TextBrewer, batches as they come", rivals[0], "1"),
        ("batches of like length", rivals[1], "1"),
        ("our loop and network", ours[0], "1"),
    ]
    if other:
        ours.append(("nerdistill", "reads along", "by length", str(other)))
        steps.append((f"{other} in place of float32", ours[1], "1"))
    stored = ("nerdistill", "stored", *ours[-1][2:])
    steps += [("signals stored, the teacher's reading counted for 1 epoch", stored, "1")]
    steps += [(f"the same for {last} epochs", stored, last)] if last != "1" else []
    rates = [_after(rows[key], epochs) for _, key, epochs in steps]
    befores = [None, *rates[:-1]]
    lines = [
        [what, compact(rate), MISSING if before is None else factor(quotient(rate, before)), factor(quotient(rate, rates[0]))]
        for (what, _, _), rate, before in zip(steps, rates, befores, strict=True)
    ]
    return markdown(["what is added", "words/s", "brings", "in all"], lines)


def _steps(results: Results) -> str:
    """Microseconds a word of each part of our steps."""
    rows = results["steps"]
    lines = [
        [
            f"{row['system']}, {row['precision']}",
            *(f"{spent:.2f}" if spent else MISSING for spent in row["microseconds"].values()),
            compact(row["words_per_second"]),
        ]
        for row in rows
    ]
    return markdown(["µs a word", *rows[0]["microseconds"], "words/s"], lines)

"""The table of what a teacher may read with (`nerdistill.steps.engines`)."""

from __future__ import annotations

from nerdistill.evaluation.tables import Results, compact, factor, markdown, percent, quotient

KIND = "engines"


def engine_lines(results: Results) -> tuple[list[str], list[list[str]]]:
    """Heads and lines. Changes are against the first row: words with another tag, total variation distance, error of the kept states."""
    heads = ["engine", "words/s", "pieces/s", "faster", "tags changed (%)", "mean distance", "largest", "states (%)", "dev F1"]
    reference = results["rows"][0]
    lines = [
        [
            str(row["system"]),
            compact(row["words_per_second"]),
            compact(row["pieces_per_second"]),
            factor(quotient(row["words_per_second"], reference["words_per_second"])),
            f"{100 * row['tags_changed']:.2f}",
            f"{row['distance_mean']:.4f}",
            f"{row['distance_max']:.3f}",
            percent(row["states_error"]),
            percent(row["f1_mean"]),
        ]
        for row in results["rows"]
    ]
    return heads, lines


def engine_table(results: Results) -> str:
    """The same as Markdown."""
    return markdown(*engine_lines(results))

"""The table of what choices in a student's shape cost (`nerdistill.steps.shapes`)."""

from __future__ import annotations

from nerdistill.evaluation.tables import Results, compact, markdown, size_text

KIND = "shapes"


def shapes_table(results: Results) -> str:
    """The rows as Markdown, times beside those of a group's first."""
    heads = ["student", "choice", "parameters", "on disk", "in 8 bits", "µs a word", "µs a word, 8 bits"]
    lines = [
        [
            str(row["group"]),
            str(row["name"]),
            compact(row["parameters"]),
            *(size_text(row["bytes"][variant]) for variant in ("fp32", "int8")),
            *(f"{row['microseconds'][variant]:.1f} ({row['times'][variant]:.2f}×)" for variant in ("fp32", "int8")),
        ]
        for row in results["rows"]
    ]
    return markdown(heads, lines)

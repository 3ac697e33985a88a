"""Tests of `nerdistill.steps.shapes`: not of any time, but of what is timed."""

from __future__ import annotations

from dataclasses import replace

from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.shape_tables import shapes_table
from nerdistill.steps.shapes import CHOICES, measure_shapes


def test_every_choice_is_served_and_counted() -> None:
    """Prevents a row that cannot be exported, one held against another group's first, and a folded row that still has its unit."""
    small = {"mobilebert": {"layers": 1}, "transformer": {"layers": 1}, "bilstm": {}}
    choices = [replace(choice, options={**choice.options, **small[choice.kind]}) for choice in CHOICES]
    rows = measure_shapes(choices, n_pieces=200)
    assert [(row["group"], row["name"]) for row in rows] == [(choice.group, choice.name) for choice in choices]
    firsts = {row["group"]: row for row in reversed(rows)}
    assert all(row["times"] == {"fp32": 1.0, "int8": 1.0} for row in firsts.values())
    assert all(min(row["microseconds"].values()) > 0 for row in rows)
    by_name = {(row["group"], row["name"]): row["parameters"] for row in rows}
    assert by_name["BiLSTM", "the same, folded"] == by_name["BiLSTM", "table of 96"]
    table = shapes_table(results_frame("shapes", "a command", 1, {}, rows))
    assert table.count("\n") == len(rows) + 2
    assert "| MobileBERT | NoNorm, ReLU |" in table

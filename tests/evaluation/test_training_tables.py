"""The tables of a training benchmark: every factor is of the two rates that it names."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from nerdistill.errors import DataError
from nerdistill.evaluation import documents
from nerdistill.evaluation.training_tables import training_tables


def row(system: str, teacher: str, batches: str, precision: str, rate: int, first: int | None = None) -> dict[str, Any]:
    """A contestant; `first` is its rate over one epoch, where that is another."""
    return {
        "system": system, "teacher": teacher, "batches": batches, "precision": precision, "steps": 20, "padding": 0.125,
        "words_per_second": rate, "words_per_second_quartiles": [0.9 * rate, 1.1 * rate], "pieces_per_second": 2 * rate,
        "words_per_second_by_epochs": {"1": first or rate, "8": rate}, "divergence": 0.25,
    }  # fmt: skip


RESULTS: dict[str, Any] = {
    "kind": "training",
    "epochs": 8,
    "data": {"divergence": 0.75},
    "rows": [
        row("TextBrewer", "reads along", "shuffled", "float32", 1000),
        row("TextBrewer", "reads along", "by length", "float32", 2000),
        row("nerdistill", "reads along", "by length", "float32", 3000),
        row("nerdistill", "reads along", "by length", "bfloat16", 6000),
        row("nerdistill", "stored", "by length", "float32", 9000, 2500),
        row("nerdistill", "stored", "by length", "bfloat16", 12000, 7500),
    ],
    "steps": [
        {
            "system": "BiLSTM, stored signals", "precision": "bfloat16", "words_per_second": 50_000,
            "microseconds": {"data": 1.0, "teacher": 0.0, "forward": 5.5, "loss": 0.5, "backward": 10.0, "optimiser": 3.0},
        }
    ],
}  # fmt: skip


def test_rates() -> None:
    """Prevents a factor beside the rate of another row, and a reading of the signals that is not counted."""
    lines = training_tables(RESULTS, "rates").splitlines()
    assert "1 epoch | 8 epochs | steps | divergence (before: 0.750) |" in lines[0]
    assert "| 12.5 | 1k | 900 – 1.1k | 2k | 1k (1.0×) | 1k (1.0×) | 20 | 0.250 |" in lines[2]
    assert "| 7.5k (7.5×) | 12k (12.0×) |" in lines[-1]


def test_split() -> None:
    """Prevents a step of the split that is measured against anything but the one before."""
    lines = training_tables(RESULTS, "split").splitlines()[2:]
    assert [[cell.strip() for cell in line.split("|")[2:5]] for line in lines] == [
        ["1k", "–", "1.0×"], ["2k", "2.0×", "2.0×"], ["3k", "1.5×", "3.0×"], ["6k", "2.0×", "6.0×"], ["7.5k", "1.2×", "7.5×"],
        ["12k", "1.6×", "12.0×"],
    ]  # fmt: skip


def test_split_where_there_is_but_float32_and_one_epoch() -> None:
    """Prevents a crash on processors without bfloat16, and a line that says nothing."""
    results = copy.deepcopy(RESULTS)
    results["epochs"] = 1
    results["rows"] = [line for line in results["rows"] if line["precision"] == "float32"]
    lines = training_tables(results, "split").splitlines()[2:]
    assert len(lines) == 4
    assert "| 2.5k | 0.8× | 2.5× |" in lines[-1]


def test_steps() -> None:
    """Prevents a zero where there is no teacher to be timed."""
    assert "| BiLSTM, stored signals, bfloat16 | 1.00 | – | 5.50 | 0.50 | 10.00 | 3.00 | 50k |" in training_tables(RESULTS, "steps")


def test_pages_show_them(tmp_path: Path) -> None:
    """Prevents a marker that the page's own text recommends and the program refuses."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "training.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    for part in ("", " rates", " split", " steps"):
        page = f"<!-- table: results/training.json{part} -->\n<!-- end of table -->\n"
        assert training_tables(RESULTS, part.strip()) in documents.fill(page, tmp_path, "page")
    with pytest.raises(DataError, match="floor"):
        documents.fill("<!-- table: results/training.json floor -->\n<!-- end of table -->\n", tmp_path, "page")

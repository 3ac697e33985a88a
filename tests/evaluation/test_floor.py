"""The floor: operations and bytes as counted by hand, and parts that add up."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from nerdistill.evaluation import floor as module
from nerdistill.evaluation.floor import measure_floor
from nerdistill.evaluation.graph_cost import Positions, count_cost
from nerdistill.students.base import Shape, build_student

WORDS = [("Anna", "Schmidt", "besucht", "Berlin", "."), ("Siemens", "AG"), ()] * 3


@pytest.mark.parametrize(("variant", "precision", "size"), [("model.onnx", "float32", 4), ("model.int8.onnx", "int8", 1)])
def test_a_bilstm_is_counted_as_by_hand(bundle_path: Path, variant: str, precision: str, size: int) -> None:
    """Prevents products that the count misses, or counts for pieces in place of words, in either precision.

    The words of 16 columns (8, first and mean) enter 2 directions of 4 gates of 6; 12 states become 10, then 7 tags: a word takes
    2 * (2 * 24 * (16 + 6) + 12 * 10 + 10 * 7) operations. A row of the table has 8 columns.
    """
    positions = Positions(words=100, units=60, rows=80, context=0.0, calls=2)
    cost = count_cost(onnx.load(bundle_path / variant), "word_index", positions)
    weights = 2 * 24 * (16 + 6) + 12 * 10 + 10 * 7
    head = 10 * 7  # in float32, whatever the network
    operations = {"float32": {"float32": weights, "int8": 0}, "int8": {"float32": head, "int8": weights - head}}[precision]
    assert cost.operations == {kind: 100 * 2 * count for kind, count in operations.items()}
    assert cost.row_bytes == 80 * 8 * size
    assert cost.weight_bytes == 2 * ((weights - head) * size + head * 4)


def test_a_transformer_is_counted_as_by_hand() -> None:
    """Prevents attention that costs nothing, and a head that is counted for every piece.

    A layer of width 8 takes, for a piece, 4 products of 8 x 8, two of 8 x 12, and twice 8 for each piece that it attends to.
    """
    options = {"layers": 2, "width": 8, "heads": 2, "ffn": 12, "positions": 32}
    network = build_student("transformer", options, Shape(50, 7), torch.zeros(50, 8), seed=1).to_onnx()
    positions = Positions(words=10, units=30, rows=30, context=15.0, calls=1)
    cost = count_cost(network, "first_piece", positions)
    layer = 4 * 8 * 8 + 2 * 8 * 12 + 2 * 15 * 8
    assert cost.operations["float32"] == 2 * (30 * 2 * layer + 10 * 8 * 7)


def test_parts_and_their_floors_add_up(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a ratio of sums other than those shown, empty sentences that break the measurement, and a floor above what was measured."""
    monkeypatch.setattr(module, "gemm_rate", lambda backend="", int8=False: 1e15)
    monkeypatch.setattr(module, "bandwidth", lambda: 1e15)
    found = measure_floor(bundle_path, WORDS, "fp32")
    for side, name in enumerate(("floor", "measured")):
        assert found[name] == pytest.approx(sum(pair[side] for pair in found["microseconds"].values()), abs=1e-3)
    assert all(least <= measured for least, measured in found["microseconds"].values())
    assert found["times_floor"] == pytest.approx(found["measured"] / found["floor"], rel=1e-2)
    assert found["microseconds"]["split"][0] == found["microseconds"]["split"][1] > 0
    assert found["largest"] not in ("split", "encode")
    assert found["per_word"]["operations_float32"] == 2 * (2 * 24 * (16 + 6) + 12 * 10 + 10 * 7)

"""What a network must compute and fetch to read some text, counted in its ONNX graph.

Counted are products with and between matrices, two operations for each multiplication and addition, and the rows of tables and the
weights that must come from memory. Not counted is what costs little beside them or can stay in the cache: sums, activations, softmax,
normalisation, everything between operations. Padding costs nothing here. So the count is too low for every real run, as a floor must be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import onnx

_RECURRENT = {"LSTM": "float32", "DynamicQuantizeLSTM": "int8"}
_PRODUCTS = {"MatMul": "float32", "Gemm": "float32", "MatMulInteger": "int8"}

Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class Positions:
    """How often the parts of a network run to read some text.

    Attributes:
        words: Words of the text.
        units: Of what comes before words are looked up: distinct words of each call, or pieces with begin and end.
        rows: Pieces looked up in a table.
        context: Pieces that a piece attends to, in the mean.
        calls: Of the network.
    """

    words: int
    units: int
    rows: int
    context: float
    calls: int


@dataclass
class Cost:
    """What it takes to read the text, in all.

    Attributes:
        operations: Of matrix products, by precision.
        row_bytes: Of the rows looked up.
        weight_bytes: Of the matrices, once a call.
    """

    operations: dict[str, float]
    row_bytes: float = 0.0
    weight_bytes: float = 0.0

    @property
    def bytes(self) -> float:
        """Everything that must come from memory."""
        return self.row_bytes + self.weight_bytes


def count_cost(network: onnx.ModelProto, word_input: str, positions: Positions) -> Cost:
    """Count one network over some text.

    Args:
        network: The graph of a student.
        word_input: Its input that turns what comes before into words: what depends on it runs once a word, what does not once a unit.
        positions: The text.
    """
    import onnx

    graph = onnx.shape_inference.infer_shapes(network).graph
    weights = {weight.name: weight for weight in graph.initializer}
    shapes = {info.name: [axis.dim_value for axis in info.type.tensor_type.shape.dim] for info in graph.value_info}
    by_word = _depending(graph, word_input)
    cost = Cost({"float32": 0.0, "int8": 0.0})
    for node in graph.node:
        times = positions.words if node.output[0] in by_word else positions.units
        constants = [weights[name] for name in node.input if name in weights]
        if node.op_type in _RECURRENT:
            _add(cost, _RECURRENT[node.op_type], times, constants[:2], positions.calls)
        elif node.op_type in _PRODUCTS:
            matrices = [weight for weight in constants if len(weight.dims) == 2]
            if matrices:
                _add(cost, _PRODUCTS[node.op_type], times, matrices[:1], positions.calls)
            else:
                cost.operations["float32"] += 2 * times * positions.context * _width(shapes, node)
        elif node.op_type == "Gather" and len(weights[node.input[0]].dims if node.input[0] in weights else ()) == 2:
            cost.row_bytes += positions.rows * _bytes(weights[node.input[0]]) / weights[node.input[0]].dims[0]
    return cost


def _add(cost: Cost, precision: str, times: int, matrices: list[onnx.TensorProto], calls: int) -> None:
    """Every weight of a matrix takes part in one multiplication and addition for each position."""
    cost.operations[precision] += 2 * times * sum(prod(matrix.dims) for matrix in matrices)
    cost.weight_bytes += calls * sum(map(_bytes, matrices))


def _width(shapes: Mapping[str, list[int]], node: onnx.NodeProto) -> int:
    """Of a product between states ``[B, A, S, d] x [B, A, d, S]`` or ``[B, A, S, S] x [B, A, S, d]``: A times d."""
    sides = [shapes.get(name, []) for name in node.input]
    known = [size for side in sides for size in side[-2:] if size]
    return (sides[0][1] if len(sides[0]) == 4 else 1) * (known[0] if known else 1)


def _bytes(weight: onnx.TensorProto) -> int:
    import onnx

    size: int = prod(weight.dims) * onnx.helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize
    return size


def _depending(graph: onnx.GraphProto, name: str) -> frozenset[str]:
    """Everything that an input has a part in."""

    def found() -> Iterator[str]:
        known = {name}
        for node in graph.node:  # in an order in which each comes after what it needs
            if known.intersection(node.input):
                known.update(node.output)
                yield from node.output

    return frozenset(found())

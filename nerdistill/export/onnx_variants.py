"""The network for serving, in float32 and in 8 bits."""

from __future__ import annotations

from pathlib import Path

import onnx

from nerdistill.students.base import Student
from nerdistill.students.parts.quantise import quantise

# The table of pieces is most of the file; recurrent and dense layers are most of the time.
QUANTISED_OPERATORS = ["Gather", "LSTM", "MatMul"]


def write_fp32(student: Student, path: Path) -> None:
    """Write the student's own graph."""
    path.write_bytes(student.to_onnx().SerializeToString())


def write_int8(fp32: Path, path: Path) -> None:
    """Quantise weights to 8 bits, activations as they come (dynamic quantisation).

    The head, which is the last product, stays in float32: in 8 bits it changes more tags than all the rest, and it takes hardly any time.
    """
    network = onnx.load(fp32)
    head = [node.name for node in network.graph.node if node.op_type == "MatMul"][-1:]
    quantise(network, path, QUANTISED_OPERATORS, left=head)

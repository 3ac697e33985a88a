"""The network for serving, in float32 and in 8 bits."""

from __future__ import annotations

from pathlib import Path

import onnx

from nerdistill.students.base import Student
from nerdistill.students.parts.quantise import quantise


def write_fp32(student: Student, path: Path) -> None:
    """Write the student's own graph."""
    path.write_bytes(student.to_onnx().SerializeToString())


def write_int8(fp32: Path, path: Path) -> None:
    """Quantise weights to 8 bits, activations as they come (dynamic quantisation).

    The table of pieces is most of the file, an LSTM or else the dense layers most of the time. Beside an LSTM dense layers stay as they
    are: in 8 bits they change more tags than all the rest, and take no less time.
    """
    network = onnx.load(fp32)
    recurrent = any(node.op_type == "LSTM" for node in network.graph.node)
    quantise(network, path, ["Gather", "LSTM"] if recurrent else ["Gather", "MatMul"])

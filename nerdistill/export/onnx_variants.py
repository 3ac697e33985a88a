"""The network for serving, in float32 and in 8 bits."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx

from nerdistill.students.base import Student

# The table of pieces is most of the file; recurrent and dense layers are most of the time.
QUANTISED_OPERATORS = ["Gather", "LSTM", "MatMul"]


def write_fp32(student: Student, path: Path) -> None:
    """Write the student's own graph."""
    path.write_bytes(student.to_onnx().SerializeToString())


def write_int8(fp32: Path, path: Path) -> None:
    """Quantise weights to 8 bits, activations as they come (dynamic quantisation)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser advises a pre-processing step through the root logger
    try:
        quantize_dynamic(onnx.load(fp32), path, op_types_to_quantize=QUANTISED_OPERATORS, weight_type=QuantType.QInt8, per_channel=False)
    finally:
        root.setLevel(level)

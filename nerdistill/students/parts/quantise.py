"""A network's weights in 8 bits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import onnx


def quantise(network: onnx.ModelProto, path: Path, operators: Sequence[str], per_channel: bool = False, left: Sequence[str] = ()) -> None:
    """Write a network with the weights of some operations in 8 bits, activations quantised as they come (dynamic quantisation).

    Args:
        network: In float32.
        path: Of the file.
        operators: Kinds of operations.
        per_channel: A scale for each output channel of a weight, not one for all.
        left: Names of operations of these kinds that stay as they are.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser advises a pre-processing step through the root logger
    try:
        quantize_dynamic(
            network, path, op_types_to_quantize=[*operators], weight_type=QuantType.QInt8, per_channel=per_channel, nodes_to_exclude=[*left]
        )
    finally:
        root.setLevel(level)

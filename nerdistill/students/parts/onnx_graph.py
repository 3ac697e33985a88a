"""A small writer of ONNX graphs, for students whose exported form must not depend on how a batch was traced."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 20


class Graph:
    """Nodes and weights added one after the other."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, value: Tensor | npt.NDArray[Any]) -> str:
        """Store a constant tensor and return its name."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        self.weights.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add an operation with one output and return that output's name."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def affine(self, name: str, states: str, weight: Tensor, bias: Tensor) -> str:
        """Add ``states weight^T + bias`` and return its name.

        Args:
            name: Of the result.
            states: ``[..., in]``.
            weight: ``[out, in]``, as torch stores it.
            bias: ``[out]``.
        """
        product = self.node("MatMul", [states, self.weight(f"{name}_w", weight.T)], f"{name}_product")
        return self.node("Add", [product, self.weight(f"{name}_b", bias)], name)

    def linear(self, name: str, states: str, layer: nn.Linear) -> str:
        """Add a linear layer with bias and return its result's name."""
        return self.affine(name, states, layer.weight, layer.bias)

    def layer_norm(self, name: str, states: str, layer: nn.LayerNorm) -> str:
        """Add a normalisation over the last axis and return its result's name."""
        # Not "_scale": the quantiser calls its own tensors by that.
        inputs = [states, self.weight(f"{name}_gain", layer.weight), self.weight(f"{name}_shift", layer.bias)]
        return self.node("LayerNormalization", inputs, name, axis=-1, epsilon=layer.eps)

    def model(self, inputs: dict[str, tuple[str, ...]], output: str, shape: tuple[str | int, ...]) -> onnx.ModelProto:
        """Close the graph.

        Args:
            inputs: Names of int64 inputs with the names of their axes.
            output: Name of the float32 output.
            shape: Its axes.
        """
        graph = helper.make_graph(
            self.nodes,
            "student",
            [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name, axes in inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10, producer_name="nerdistill")
        onnx.checker.check_model(model)
        return model

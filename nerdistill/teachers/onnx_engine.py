"""A teacher that reads through ONNX Runtime, on the CPU, in float32 or in 8 bits.

The graph is that of `nerdistill.students.transformer` with the teacher's weights, and a second output: the states of the chosen layers.

In 8 bits the products with weights are quantised, weights per output channel and activations as they come (dynamic quantisation). Two
things stay in float32, as signals are to be exact before they are fast. One is the second product of each feed-forward network: a few of
its inputs are far larger than all others (Bondarenko et al. 2021 on BERT's outliers), and the scale that they force on the rest made two
thirds of the states' error. The other is the table of pieces, which costs space and no time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from nerdistill.errors import ConfigError
from nerdistill.runtime.session import open_session
from nerdistill.students.base import count_parameters
from nerdistill.students.parts.quantise import quantise
from nerdistill.teachers.as_transformer import as_transformer
from nerdistill.teachers.huggingface import TeacherModel

LARGEST = onnx.checker.MAXIMUM_PROTOBUF
"""Bytes of a network in one file."""


class OnnxEngine:
    """Reads batches in place of a `TeacherModel`, with as many threads as torch has.

    Args:
        teacher: A BERT or RoBERTa token classifier; its precision does not matter.
        layers: Whose states are given; 0 is the embeddings, -1 the last.
        int8: Quantise.

    Attributes:
        int8: Whether it is quantised.

    Raises:
        ConfigError: The teacher is of another architecture, or too large for one file.
    """

    def __init__(self, teacher: TeacherModel, layers: Sequence[int] = (), int8: bool = False) -> None:
        self.int8 = int8
        size = 4 * count_parameters(teacher)
        if size >= LARGEST:
            raise ConfigError(
                f"the teacher's weights take {size / 1e9:.1f} GB, an ONNX file holds less than {LARGEST / 1e9:.1f} GB; "
                'take signals.engine = "torch"'
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "teacher.onnx"
            onnx.save(with_states(as_transformer(teacher).to_onnx(), layers), path)
            if int8:
                quantise_network(path, path.with_name("int8.onnx"))
                path = path.with_name("int8.onnx")
            self._session = open_session(path, torch.get_num_threads())
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def __call__(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Read the arrays of `collate_pieces`: logits ``[B, W, K]`` and, if any layer is chosen, states ``[B, W, L, d]``."""
        outputs = self._session.run(None, {name: batch[name].numpy() for name in self._inputs})
        return tuple(map(torch.from_numpy, outputs))


def with_states(network: onnx.ModelProto, layers: Sequence[int]) -> onnx.ModelProto:
    """Add the output ``states`` ``[B, W, L, d]`` to a Transformer's graph: layers at first pieces, in the order given; nothing for none.

    In BERT a state is what a normalisation gives: the embeddings' the first, and each layer's the second of its two.
    """
    if not layers:
        return network
    graph = network.graph
    states = [node.output[0] for node in graph.node if node.op_type == "LayerNormalization"][::2]
    places = next(node.input[1] for node in graph.node if node.op_type == "GatherND")
    graph.initializer.append(numpy_helper.from_array(np.array([2]), "layer_axis"))
    for number, layer in enumerate(layers):
        graph.node.append(helper.make_node("GatherND", [states[layer], places], [f"state_{number}"], batch_dims=1))
        graph.node.append(helper.make_node("Unsqueeze", [f"state_{number}", "layer_axis"], [f"state_{number}_apart"]))
    parts = [f"state_{number}_apart" for number in range(len(layers))]
    graph.node.append(helper.make_node("Concat", parts, ["states"], axis=2))
    graph.output.append(helper.make_tensor_value_info("states", TensorProto.FLOAT, ("B", "W", len(layers), "d")))
    return network


def quantise_network(path: Path, target: Path) -> None:
    """Write a network's products in 8 bits, but for those that read what a feed-forward layer's activation gives.

    Args:
        path: The float32 network.
        target: Where the other goes.
    """
    network = onnx.load(path)
    nodes = network.graph.node
    active = {node.output[0] for node in nodes if node.op_type in ("Gelu", "Relu")}
    left = [node.name for node in nodes if node.op_type == "MatMul" and node.input[0] in active]
    quantise(network, target, ["MatMul"], per_channel=True, left=left)

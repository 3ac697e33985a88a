"""What each operator of a network takes, by ONNX Runtime's own clock; and what an LSTM's products and activations would take alone.

An LSTM reads a batch word by word: the product of its states with their weights is as high as the batch has sentences, not words, and
cannot begin before the step before it has ended. `lstm_alone` computes the same products and activations without the layer around them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nerdistill.evaluation.machine_rates import product
from nerdistill.runtime.session import open_session, session_options
from nerdistill.text.collate import Arrays

if TYPE_CHECKING:
    import onnx

ROUNDS = 7
LSTMS = {"LSTM": False, "DynamicQuantizeLSTM": True}
"""Operators of ONNX Runtime for the layer, and whether their products are of 8 bits."""


def operator_seconds(network: bytes, inputs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Run a network on one thread and ask ONNX Runtime where the time went.

    Args:
        network: The ONNX model.
        inputs: Arrays of each call.

    Returns:
        Operator type to seconds in all calls, the mean of `ROUNDS` after a first that does not count; the most first.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads=1)
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        session = open_session(network, threads=1, options=options)
        for _ in range(ROUNDS + 1):
            for arrays in inputs:
                session.run(None, arrays)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    taken: dict[str, list[int]] = {}
    for event in sorted((event for event in events if event.get("cat") == "Node"), key=lambda event: event["ts"]):
        if event["name"].endswith("_kernel_time"):
            taken.setdefault(event["args"]["op_name"], []).append(event["dur"])
    seconds = {name: 1e-6 * sum(each[len(each) // (ROUNDS + 1) :]) / ROUNDS for name, each in taken.items()}
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


class Layer(NamedTuple):
    """A network's LSTM.

    Attributes:
        node: The operator.
        width: Of its inputs.
        hidden: Of its states, of each direction.
    """

    node: onnx.NodeProto
    width: int
    hidden: int


def lstm_of(graph: onnx.GraphProto) -> Layer | None:
    """The bidirectional LSTM of a graph, None where there is none."""
    node = next((node for node in graph.node if node.op_type in LSTMS), None)
    if node is None:
        return None
    hidden = next(attribute.i for attribute in node.attribute if attribute.name == "hidden_size")
    weights = next(each for each in graph.initializer if each.name == node.input[1])
    return Layer(node, int(np.prod(weights.dims)) // (2 * 4 * hidden), hidden)


def lstm_alone(network: bytes, inputs: Sequence[Arrays]) -> dict[str, float]:
    """What the parts of a network's bidirectional LSTM take when each is computed alone, in the layer's precision and at its sizes.

    Args:
        network: The ONNX model of a student that takes words.
        inputs: Arrays of each call.

    Returns:
        ``words``, products of its inputs, about a call's words at once; ``states``, products of its states, a step's sentences at once;
        ``activations``, in float32, a step's at once. Seconds in all calls; empty without such a layer.
    """
    import onnx

    layer = lstm_of(onnx.load_from_string(network).graph)
    if layer is None:
        return {}
    int8, hidden = LSTMS[layer.node.op_type], layer.hidden
    shapes = np.array([arrays["word_index"].shape for arrays in inputs])
    steps, positions = 2 * int(shapes[:, 1].sum()), 2 * int(shapes.prod(axis=1).sum())  # of both directions
    sentences = round(positions / steps)

    def multiplied(height: int, inner: int) -> float:
        states = np.ones((height, inner), dtype=np.uint8 if int8 else np.float32)
        return sum(operator_seconds(product(inner, 4 * hidden, int8).SerializeToString(), [{"states": states}] * 8).values()) / 8

    gates = {"open": np.ones((sentences, 3 * hidden), np.float32), "new": np.ones((sentences, 2 * hidden), np.float32)}
    return {
        "words": positions / 1024 * multiplied(1024, layer.width),
        "states": steps * multiplied(sentences, hidden),
        "activations": steps * sum(operator_seconds(_activations().SerializeToString(), [gates] * 8).values()) / 8,
    }


def _activations() -> onnx.ModelProto:
    """The three sigmoids and two hyperbolic tangents of a step."""
    from onnx import TensorProto, helper

    def floats(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, (None, None))

    nodes = [helper.make_node("Sigmoid", ["open"], ["opened"]), helper.make_node("Tanh", ["new"], ["candidate"])]
    graph = helper.make_graph(nodes, "step", [floats("open"), floats("new")], [floats("opened"), floats("candidate")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

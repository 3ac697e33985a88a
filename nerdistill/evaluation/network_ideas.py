"""Ways to make a student's network itself faster that were tried: ONNX Runtime's options, and vectors of words that are remembered.

The figures go into the table of `nerdistill.evaluation.ideas`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nerdistill.evaluation.operators import lstm_of
from nerdistill.runtime.session import open_session, session_options
from nerdistill.text.collate import Arrays

if TYPE_CHECKING:
    import onnx
    import onnxruntime

Ways = tuple[Callable[[], object], Callable[[], object]]
"""The plain way, and the one that was tried."""


def network_ways(network: bytes, inputs: Sequence[Arrays]) -> dict[str, Ways]:
    """Both ways for each idea that a network allows; each computes all calls.

    Args:
        network: The ONNX model of a student that takes words.
        inputs: Arrays of each call.
    """
    import onnxruntime

    as_it_is = open_session(network, threads=1)

    def all_calls(session: onnxruntime.InferenceSession) -> Callable[[], object]:
        return lambda: [session.run(None, arrays) for arrays in inputs]

    def other(threads: int = 1, spinning: bool = False, **settings: Any) -> Callable[[], object]:
        options = session_options(threads, spinning)
        for name, value in settings.items():
            setattr(options, name, value)
        return all_calls(open_session(network, threads, options=options))

    ways = {
        "rewriting": (other(graph_optimization_level=onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL), all_calls(as_it_is)),
        "arena": (all_calls(as_it_is), other(enable_cpu_mem_arena=False)),
        "pattern": (all_calls(as_it_is), other(enable_mem_pattern=False)),
        "sleeping": (other(threads=2, spinning=True), other(threads=2)),
    }
    remembered = without_pooling(network)
    if remembered is not None:
        ways["vectors"] = (all_calls(as_it_is), _with_vectors(remembered, inputs))
    return ways


def without_pooling(network: bytes) -> onnx.ModelProto | None:
    """The part of a network that begins with vectors of distinct words; None where there is no such place."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_from_string(network)
    graph = model.graph
    makers = {made: node for node in graph.node for made in node.output}
    layer = lstm_of(graph)
    if layer is None or makers[layer.node.input[0]].op_type != "Gather":
        return None
    vectors = makers[layer.node.input[0]].input[0]
    needed, asked = set(), [graph.output[0].name]
    while asked:
        name = asked.pop()
        if name != vectors and name in makers and id(makers[name]) not in needed:
            needed.add(id(makers[name]))
            asked += makers[name].input
    nodes = [node for node in graph.node if id(node) in needed]
    taken = {name for node in nodes for name in node.input}
    given = [helper.make_tensor_value_info(vectors, TensorProto.FLOAT, (None, None)), *(each for each in graph.input if each.name in taken)]
    weights = [each for each in graph.initializer if each.name in taken]
    part = helper.make_graph(nodes, "without pooling", given, graph.output, weights)
    return helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)


def _with_vectors(network: onnx.ModelProto, inputs: Sequence[Arrays]) -> Callable[[], object]:
    """All calls with rows of a table of vectors; every call's distinct words are spread over it, as words met before are."""
    session = open_session(network.SerializeToString(), threads=1)
    vectors, *others = (each.name for each in network.graph.input)
    layer = lstm_of(network.graph)
    assert layer is not None
    rng = np.random.default_rng(0)
    table = rng.normal(size=(100_000, layer.width)).astype(np.float32)
    rows = [rng.integers(0, len(table), len(arrays["word_pieces"])) for arrays in inputs]

    def run() -> None:
        for arrays, wanted in zip(inputs, rows, strict=True):
            session.run(None, {vectors: table[wanted], **{name: arrays[name] for name in others}})

    return run

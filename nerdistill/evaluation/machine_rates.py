"""How fast one core of this machine multiplies matrices and fetches memory: what a network's speed is measured against."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nerdistill.runtime.backends import Backend
from nerdistill.runtime.session import open_session

if TYPE_CHECKING:
    import onnx

SHAPES = ((1024, 1024, 1024), (256, 768, 768), (1024, 320, 640))
"""Rows, inner and outer width of the products that are tried; the fastest counts."""

_SECONDS = 0.2
_COPIED = 1 << 27  # bytes, beyond the caches of most processors


def gemm_rate(backend: Backend = "onnxruntime", int8: bool = False) -> float:
    """Operations per second of the fastest matrix product with one thread.

    Args:
        backend: What computes it, in the precision that it computes float32 networks in.
        int8: Unsigned activations with signed weights of 8 bits, in place of float32; ONNX Runtime only.
    """
    rates = []
    for rows, inner, outer in SHAPES:
        run = _opened(product(inner, outer, int8).SerializeToString(), backend)
        states = np.ones((rows, inner), dtype=np.uint8 if int8 else np.float32)
        rates.append(2 * rows * inner * outer / _fastest(lambda: run(states)))  # noqa: B023
    return max(rates)


def _opened(network: bytes, backend: Backend) -> Callable[[Any], object]:
    """A product, ready to be computed for some states."""
    if backend == "onnxruntime":
        session = open_session(network, threads=1)
        return lambda states: session.run(None, {"states": states})
    from openvino import Core

    precision = "bf16" if backend == "openvino-bf16" else "f32"  # a hint: a processor without bfloat16 computes in float32
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1}
    core = Core()
    request = core.compile_model(core.read_model(io.BytesIO(network)), "CPU", settings).create_infer_request()
    return lambda states: request.infer({"states": states}, share_inputs=True)


def bandwidth() -> float:
    """Bytes per second that one thread reads from and writes to memory, added up, in a copy larger than the caches."""
    source = np.ones(_COPIED // 8)
    target = np.empty_like(source)
    return 2 * _COPIED / _fastest(lambda: np.copyto(target, source))


def product(inner: int, outer: int, int8: bool) -> onnx.ModelProto:
    """A network that multiplies ``states``, ``[rows, inner]``, with fixed weights ``[inner, outer]``, in float32 or in 8 bits."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights: Any = rng.integers(-127, 127, (inner, outer)).astype(np.int8) if int8 else rng.normal(size=(inner, outer)).astype(np.float32)
    node = helper.make_node("MatMulInteger" if int8 else "MatMul", ["states", "weights"], ["product"])
    given, made = (TensorProto.UINT8, TensorProto.INT32) if int8 else (TensorProto.FLOAT, TensorProto.FLOAT)
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("states", given, ("rows", inner))],
        [helper.make_tensor_value_info("product", made, ("rows", outer))],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _fastest(do: Callable[[], object]) -> float:
    """Seconds of the processor in the fastest of several runs: whatever else the machine does can only slow one down."""
    do()
    best, end = float("inf"), time.process_time() + _SECONDS
    while (began := time.process_time()) < end:
        do()
        best = min(best, time.process_time() - began)
    return best

"""A bundle's float32 network in OpenVINO, which on some processors is several times as fast as ONNX Runtime.

Two things are done to networks and inputs here, because of how OpenVINO's CPU plugin works:

- It reads padding in recurrent layers, whatever the lengths say: a network with a bidirectional LSTM would give other tags for a sentence
  that stands beside a longer one. `_without_padding` turns each sentence around inside its own length for the backward direction, so that
  padding comes last in both and reaches nothing that is kept.
- It prepares itself for every new shape of its inputs, which takes longer than to run them, and keeps what it prepared. So inputs are
  padded to one of few shapes; see `_size`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nerdistill.errors import BundleError, MissingExtraError

if TYPE_CHECKING:
    import openvino

Precision = Literal["f32", "bf16"]

_RECURRENT = ("LSTMSequence", "GRUSequence", "RNNSequence")
_PIECES = ("word_pieces", "input_ids")
"""Inputs that are padded with the piece of padding, others with 0."""


class OpenVINOSession:
    """An open network. Any number of threads may run it at once.

    Args:
        network: The ONNX model, float32.
        threads: Threads of the network.
        precision: ``bf16`` computes in bfloat16 where the processor does so natively, and in float32 elsewhere; ``f32`` always in float32.
        pad_id: Piece id of padding.
        longest: Columns of the longest input; padding goes no further, as a network may have no more positions.

    Attributes:
        precision: What it computes in.
        width: Scores that it gives a word, K.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BundleError: The network has a recurrent layer of another kind.
        RuntimeError: OpenVINO cannot read or compile the model.
    """

    def __init__(self, network: bytes, threads: int, precision: Precision, pad_id: int, longest: int) -> None:
        try:
            from openvino import Core
        except ImportError as error:
            raise MissingExtraError("the OpenVINO backend", "openvino", "openvino") from error
        core = Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision: Precision = "bf16" if precision == "bf16" and native else "f32"
        model = core.read_model(io.BytesIO(network))
        _without_padding(model)
        self._pad_id, self._longest = pad_id, longest
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": self.precision,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._inputs = [port.any_name for port in self._compiled.inputs]  # a Transformer needs no lengths
        self._idle: list[openvino.InferRequest] = []
        self.width: int = model.output("logits").get_partial_shape()[2].get_length()

    def run(self, arrays: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """Logits ``[B, W, K]`` of the arrays that `nerdistill.text.collate` makes."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        outputs = request.infer({name: self._padded(name, arrays[name]) for name in self._inputs}, share_inputs=True)
        self._idle.append(request)
        n_sentences, n_words = arrays["word_index" if "word_index" in arrays else "first_piece"].shape
        logits: npt.NDArray[np.float32] = outputs["logits"][:n_sentences, :n_words]
        return logits

    def _padded(self, name: str, array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        n_rows, *columns = array.shape
        wide = (max(n, min(_size(n, 2), self._longest)) for n in columns)
        shape = [_size(n_rows, 16 if name == "word_pieces" else 8), *wide]
        padded = np.full(shape, self._pad_id if name in _PIECES else 0)
        padded[(slice(n_rows), *map(slice, columns))] = array
        padded[n_rows:] = padded[0]  # a sentence of nothing would be no sentence
        return padded


def _size(n: int, step: int) -> int:
    """The size that an axis of n is padded to: up to 8 as it is, then a multiple of `step`, or of what is about a sixteenth of it."""
    return n if n <= 8 else n + -n % max(step, 1 << max(0, (n - 1).bit_length() - 5))


def _without_padding(model: Any) -> None:
    """Replace every bidirectional LSTM by two that read forwards, one of them sentences that are turned around."""
    from openvino import opset14 as ops

    zero, one = ops.constant(np.int32(0)), ops.constant(np.int32(1))
    for layer in model.get_ops():
        kind = layer.get_type_name()
        if kind not in _RECURRENT:
            continue
        form = layer.get_attributes()
        if (kind, form["direction"]) != ("LSTMSequence", "bidirectional"):
            raise BundleError(
                f"found a {form['direction']} {kind}, expected a bidirectional LSTMSequence; open the network with ONNX Runtime"
            )
        words, hidden, cell, lengths, *weights = (entry.get_source_output() for entry in layer.inputs())
        states = [ops.split(part, one, 2).outputs() for part in (hidden, cell)]
        by_direction = [ops.split(part, zero, 2).outputs() for part in weights]
        last = ops.unsqueeze(ops.subtract(ops.convert(lengths, "i32"), one), one)
        steps = ops.range(zero, ops.gather(ops.shape_of(words, "i32"), one, zero), one, "i32")
        turned = ops.relu(ops.subtract(last, steps))  # [B, W]: the word that is read in each step; on padding any

        def read(direction: int, inputs: Any) -> Any:
            parts = [part[direction] for part in states], [part[direction] for part in by_direction]  # noqa: B023
            return ops.lstm_sequence(inputs, *parts[0], lengths, *parts[1], form["hidden_size"], "forward").output(0)  # noqa: B023

        forwards = read(0, words)  # [B, 1, W, H]
        backwards = ops.squeeze(read(1, ops.gather(words, turned, one, 1)), one)
        both = ops.concat([forwards, ops.unsqueeze(ops.gather(backwards, turned, one, 1), one)], 1)
        for target in layer.output(0).get_target_inputs():
            target.replace_source_output(both.output(0))
    model.validate_nodes_and_infer_types()

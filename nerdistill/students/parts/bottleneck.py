"""A Transformer block that works at another width than it is given and gives (MobileBERT, Sun et al. 2020, sections 3.1 and 3.2)."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from nerdistill.students.parts.dropout import Dropout
from nerdistill.students.parts.norm import Norm, make_norm, write_normed
from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.self_attention import attended
from nerdistill.students.parts.transformer_layer import Activation

AttentionInput: TypeAlias = Literal["shared", "bottleneck", "block"]
"""What queries and keys are made of, and what values: shared bottleneck and block's input; main bottleneck; block's input."""


class TwoInputAttention(nn.Module):
    """Multi-head self-attention whose queries and keys are made of other states than its values.

    As in `nerdistill.students.parts.self_attention.SelfAttention`, the probabilities have no dropout.

    Args:
        query_width: Of the states that queries and keys are made of; they are one linear layer, in this order.
        value_width: Of those that values are made of.
        width: Of the result.
        heads: A; divides `width`.
    """

    def __init__(self, query_width: int, value_width: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key = nn.Linear(query_width, 2 * width)
        self.value = nn.Linear(value_width, width)
        self.output = nn.Linear(width, width)

    def forward(self, asking: Tensor, told: Tensor, real: Tensor) -> Tensor:
        """Read every real piece of the sentence.

        Args:
            asking: ``[B, S, query_width]``.
            told: ``[B, S, value_width]``.
            real: ``[B, 1, 1, S]``, True where a piece may be read.

        Returns:
            ``[B, S, width]``.
        """
        query, key = (self._by_head(part) for part in self.query_key(asking).chunk(2, dim=-1))
        value = self._by_head(self.value(told))
        read: Tensor = self.output(attended(query, key, value, real).transpose(1, 2).flatten(2))
        return read

    def scores(self, asking: Tensor) -> Tensor:
        """``Q K^T / sqrt(d_k)`` before mask and softmax: ``[B, N, query_width]`` to ``[B, A, N, N]`` float32, queries before keys."""
        query, key = (self._by_head(part).float() for part in self.query_key(asking).chunk(2, dim=-1))
        with torch.autocast(asking.device.type, enabled=False):
            scores: Tensor = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        return scores

    def _by_head(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)

    def write(self, graph: Graph, name: str, asking: str, told: str, mask: str) -> str:
        """Add the nodes up to the heads' joined results ``[B, S, width]``, before `output`.

        The query carries the scale of the scores.

        Args:
            graph: The graph.
            name: Beginning of the nodes' names.
            asking: ``[B, S, query_width]``.
            told: ``[B, S, value_width]``.
            mask: ``[B, 1, 1, S]`` float32, 0 for real pieces and far below for padding.
        """
        width = self.output.in_features
        scale = math.sqrt(self.heads / width)
        (query_w, key_w), (query_b, key_b) = self.query_key.weight.chunk(2), self.query_key.bias.chunk(2)
        split = graph.weight(f"{name}_split", np.array([0, 0, self.heads, width // self.heads]))

        def by_head(part: str, states: str, weight: Tensor, bias: Tensor, axes: list[int]) -> str:
            flat = graph.affine(f"{name}_{part}", states, weight, bias)
            return graph.node(
                "Transpose", [graph.node("Reshape", [flat, split], f"{name}_{part}_split")], f"{name}_{part}_by_head", perm=axes
            )

        query = by_head("query", asking, query_w * scale, query_b * scale, [0, 2, 1, 3])
        key = by_head("key", asking, key_w, key_b, [0, 2, 3, 1])
        value = by_head("value", told, self.value.weight, self.value.bias, [0, 2, 1, 3])
        masked = graph.node("Add", [graph.node("MatMul", [query, key], f"{name}_scores"), mask], f"{name}_masked")
        context = graph.node("MatMul", [graph.node("Softmax", [masked], f"{name}_probabilities", axis=-1), value], f"{name}_context")
        by_piece = graph.node("Transpose", [context], f"{name}_by_piece", perm=[0, 2, 1, 3])
        return graph.node("Reshape", [by_piece, graph.weight(f"{name}_join", np.array([0, 0, width]))], f"{name}_joined")


class FeedForward(nn.Module):
    """``norm(W_2 f(W_1 x) + x)``, for each piece.

    Args:
        width: Of the states.
        units: Of the layer between.
        activation: f.
        norm: ``none`` or ``layer``.
    """

    def __init__(self, width: int, units: int, activation: Activation, norm: Norm) -> None:
        super().__init__()
        self.inner = nn.Linear(width, units)
        self.activation = nn.ReLU() if activation == "relu" else nn.GELU()
        self.outer = nn.Linear(units, width)
        self.norm = make_norm(norm, width)

    def forward(self, states: Tensor) -> Tensor:
        """``[B, S, width]`` to the same shape."""
        made: Tensor = self.norm(self.outer(self.activation(self.inner(states))) + states)
        return made

    def write(self, graph: Graph, name: str, states: str) -> str:
        """Add the nodes to a graph."""
        operator = "Relu" if isinstance(self.activation, nn.ReLU) else "Gelu"
        active = graph.node(operator, [graph.linear(f"{name}_inner", states, self.inner)], f"{name}_active")
        return write_normed(graph, name, active, self.outer, self.norm, states)


class BottleneckBlock(nn.Module):
    """Into another width, attention and some feed-forward networks there, and back.

    With x the input and n the normalisation::

        u = n(W_in x)                   the main bottleneck, and what the block's own residual sums begin with
        s = n(W_s x)                    the shared bottleneck, read by queries and keys; only where they share one
        a = n(attention + u)
        a = n(W_2 f(W_1 a) + a)         as often as there are networks
        y = n(W_out a + x)

    Args:
        width: Of x and y.
        inner_width: Of u, s and a; a multiple of `heads`.
        heads: Of the attention.
        ffn: Units of a feed-forward network.
        ffns: How many there are, one behind the other.
        reads: What the attention reads.
        norm: ``none`` or ``layer``.
        activation: Of the feed-forward networks.
        dropout: Probability, on ``W_out a``.
    """

    def __init__(
        self,
        width: int,
        inner_width: int,
        heads: int,
        ffn: int,
        ffns: int,
        reads: AttentionInput,
        norm: Norm,
        activation: Activation,
        dropout: float,
    ) -> None:
        super().__init__()
        self.reads = reads
        self.enter, self.enter_norm = nn.Linear(width, inner_width), make_norm(norm, inner_width)
        shared = reads == "shared"
        self.shared = nn.Linear(width, inner_width) if shared else None
        self.shared_norm = make_norm(norm, inner_width) if shared else None
        query_width, value_width = width if reads == "block" else inner_width, inner_width if reads == "bottleneck" else width
        self.attention = TwoInputAttention(query_width, value_width, inner_width, heads)
        self.attention_norm = make_norm(norm, inner_width)
        self.networks = nn.ModuleList(FeedForward(inner_width, ffn, activation, norm) for _ in range(ffns))
        self.leave, self.leave_norm = nn.Linear(inner_width, width), make_norm(norm, width)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """``[B, S, width]`` to the same shape; ``real`` as in `TwoInputAttention.forward`."""
        inner: Tensor = self.enter_norm(self.enter(states))
        read = self.attention(self._asking(states, inner), inner if self.reads == "bottleneck" else states, real)
        inner = self.attention_norm(read + inner)
        for network in self.networks:
            inner = network(inner)
        made: Tensor = self.leave_norm(self.dropout(self.leave(inner)) + states)
        return made

    def scores(self, states: Tensor) -> Tensor:
        """Scores of the attention, ``[B, N, width]`` to ``[B, A, N, N]``: a score depends on its two positions and on no other."""
        inner = self.enter_norm(self.enter(states)) if self.reads == "bottleneck" else states
        return self.attention.scores(self._asking(states, inner))

    def _asking(self, states: Tensor, inner: Tensor) -> Tensor:
        """What queries and keys are made of."""
        if self.shared is not None and self.shared_norm is not None:
            made: Tensor = self.shared_norm(self.shared(states))
            return made
        return inner if self.reads == "bottleneck" else states

    def write(self, graph: Graph, name: str, states: str, mask: str) -> str:
        """Add the nodes to a graph; ``mask`` as in `TwoInputAttention.write`."""
        inner = write_normed(graph, f"{name}_enter", states, self.enter, self.enter_norm)
        asking = told = inner if self.reads == "bottleneck" else states
        if self.shared is not None and self.shared_norm is not None:
            asking = write_normed(graph, f"{name}_shared", states, self.shared, self.shared_norm)
        read = self.attention.write(graph, f"{name}_attention", asking, told, mask)
        inner = write_normed(graph, f"{name}_attention_sum", read, self.attention.output, self.attention_norm, inner)
        networks = [network for network in self.networks if isinstance(network, FeedForward)]
        for number, network in enumerate(networks, start=1):
            inner = network.write(graph, f"{name}_network_{number}", inner)
        return write_normed(graph, name, inner, self.leave, self.leave_norm, states)

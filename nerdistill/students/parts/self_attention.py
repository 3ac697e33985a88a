"""Multi-head self-attention (Vaswani et al. 2017, section 3.2)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nerdistill.students.parts.onnx_graph import Graph

_PARTS = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
"""In the order of the layer, with the order of ``[B, S, A, d_k]``'s axes in the exported products."""


def attended(query: Tensor, key: Tensor, value: Tensor, real: Tensor) -> Tensor:
    """What each piece reads of the others: ``[B, A, S, d]`` each to the same shape; ``real`` ``[B, 1, 1, S]``, True where it may be."""
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=real)
    with torch.autocast("cpu", enabled=False):  # the kernel's backward pass in bfloat16 takes five times as long there as in float32
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=real)


class SelfAttention(nn.Module):
    """Every piece reads every real piece of its sentence.

    Query, key and value are one linear layer, in this order: one product in place of three.

    Deviation from BERT: the attention probabilities have no dropout. Fused kernels on CPUs have none, and the layer drops out its result.

    Args:
        width: Of the states.
        heads: A; divides the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """``[B, S, width]`` to the same shape; ``real`` ``[B, 1, 1, S]``, True where a piece may be read."""
        query, key, value = (self._by_head(part) for part in self.query_key_value(states).chunk(3, dim=-1))
        read: Tensor = self.output(attended(query, key, value, real).transpose(1, 2).flatten(2))
        return read

    def scores(self, states: Tensor) -> Tensor:
        """``Q K^T / sqrt(d_k)`` before mask and softmax: ``[B, N, width]`` to ``[B, A, N, N]`` float32, queries before keys.

        The states may be those of some positions only: a score depends on its two positions and on no other. The softmax over some keys
        then gives the probability of each, given that one of them is read.
        """
        size = 2 * states.shape[-1]
        query, key = F.linear(states, self.query_key_value.weight[:size], self.query_key_value.bias[:size]).chunk(2, dim=-1)
        queries, keys = self._by_head(query).float(), self._by_head(key).float()
        with torch.autocast(states.device.type, enabled=False):
            scores: Tensor = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
        return scores

    def _by_head(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)

    def write(self, graph: Graph, name: str, states: str, mask: str) -> str:
        """Add the nodes to a graph.

        Query, key and value are three products here, so that in 8 bits each has a scale of its own, and the query carries the scale of the
        scores.

        Args:
            graph: The graph.
            name: Beginning of the nodes' names.
            states: ``[B, S, width]``.
            mask: ``[B, 1, 1, S]`` float32, 0 for real pieces and far below for padding.
        """
        by_head = graph.weight(f"{name}_split", np.array([0, 0, self.heads, self.output.in_features // self.heads]))
        joined = graph.weight(f"{name}_join", np.array([0, 0, self.output.in_features]))
        query, key, value = self._write_parts(graph, name, states, by_head)
        masked = graph.node("Add", [graph.node("MatMul", [query, key], f"{name}_scores"), mask], f"{name}_masked")
        probabilities = graph.node("Softmax", [masked], f"{name}_probabilities", axis=-1)
        context = graph.node("MatMul", [probabilities, value], f"{name}_context")
        by_piece = graph.node("Transpose", [context], f"{name}_by_piece", perm=[0, 2, 1, 3])
        return graph.linear(f"{name}_output", graph.node("Reshape", [by_piece, joined], f"{name}_joined"), self.output)

    def _write_parts(self, graph: Graph, name: str, states: str, by_head: str) -> list[str]:
        """Query and value ``[B, A, S, d_k]``, key ``[B, A, d_k, S]``."""
        weights, biases = self.query_key_value.weight.chunk(3), self.query_key_value.bias.chunk(3)
        scales = (math.sqrt(self.heads / self.output.in_features), 1.0, 1.0)
        made = []
        for (part, axes), weight, bias, scale in zip(_PARTS.items(), weights, biases, scales, strict=True):
            flat = graph.affine(f"{name}_{part}", states, weight * scale, bias * scale)
            split = graph.node("Reshape", [flat, by_head], f"{name}_{part}_split")
            made.append(graph.node("Transpose", [split], f"{name}_{part}_by_head", perm=axes))
        return made

"""Pieces to words, before any context is read."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nerdistill.students.parts.define import DefineOptions
from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.piece_table import PAD, PieceTable

Pooling: TypeAlias = Literal["mean", "first_mean", "first_mean_last"]

_PARTS = {"mean": 1, "first_mean": 2, "first_mean_last": 3}


class PieceEmbedding(PieceTable):
    """One vector for a word from the embeddings of its pieces.

    ``mean`` is their mean. ``first_mean`` puts the first piece's embedding before it: twice as wide, and the beginning of a word, where
    case and stem are, is told from the rest. ``first_mean_last`` also puts the last one behind it, where endings are: a word of three
    pieces is then known to the order of its pieces. The table is the same size in all.

    Pooling before the recurrent layer makes sequences as short as the words, and a word's vector can be computed once however often the
    word occurs in a batch.

    Args:
        n_pieces: Rows; row 0 is padding.
        width: Columns of a piece's vector.
        pooling: ``mean``, ``first_mean`` or ``first_mean_last``.
        table: Initial ``[n_pieces, n]`` values; None draws them from a normal distribution of standard deviation 0.1.
        table_width: n; None for `width`.
        define: A unit between table and vectors, and n; see `PieceTable`.

    Attributes:
        word_width: Columns of a word's vector.
    """

    def __init__(
        self,
        n_pieces: int,
        width: int,
        pooling: Pooling,
        table: Tensor | None,
        table_width: int | None = None,
        define: DefineOptions | None = None,
    ) -> None:
        super().__init__(n_pieces, width, 0.1, table, table_width, define)
        self.pooling = pooling
        self.word_width = _PARTS[pooling] * width

    def forward(self, word_pieces: Tensor) -> Tensor:
        """Pool ``[U, P]`` piece ids to ``[U, word_width]``."""
        counts = (word_pieces != PAD).sum(dim=1, keepdim=True).clamp(min=1)
        vectors = self.vectors(word_pieces)
        parts: list[Tensor] = [vectors.sum(dim=1) / counts]
        if self.pooling != "mean":
            parts.insert(0, vectors[:, 0])
        if self.pooling == "first_mean_last":
            parts.append(vectors.gather(1, (counts - 1)[..., None].expand(-1, 1, vectors.shape[2]))[:, 0])
        return torch.cat(parts, dim=1)

    def write_words(self, graph: Graph, name: str, word_pieces: str) -> str:
        """Add the nodes of `forward` to a graph."""
        vectors = self.write_vectors(graph, name, word_pieces)
        axis, one = graph.weight(f"{name}_pool_axis", np.array([1])), graph.weight(f"{name}_pool_one", np.array(1))
        is_pad = graph.node("Equal", [word_pieces, graph.weight(f"{name}_pool_pad", np.array(PAD))], f"{name}_pool_is_pad")
        is_piece = graph.node("Cast", [graph.node("Not", [is_pad], f"{name}_pool_is_piece")], f"{name}_pool_ones", to=7)
        counts = graph.node(
            "Max", [graph.node("ReduceSum", [is_piece, axis], f"{name}_pool_found", keepdims=1), one], f"{name}_pool_counts"
        )
        divisor = graph.node("Cast", [counts], f"{name}_pool_divisor", to=1)
        parts = [
            graph.node("Div", [graph.node("ReduceSum", [vectors, axis], f"{name}_pool_sums", keepdims=0), divisor], f"{name}_pool_means")
        ]
        if self.pooling != "mean":
            parts.insert(0, graph.node("Gather", [vectors, graph.weight(f"{name}_pool_begin", np.array(0))], f"{name}_pool_first", axis=1))
        if self.pooling == "first_mean_last":
            parts.append(
                graph.node("GatherND", [vectors, graph.node("Sub", [counts, one], f"{name}_pool_end")], f"{name}_pool_last", batch_dims=1)
            )
        return parts[0] if len(parts) == 1 else graph.node("Concat", parts, f"{name}_pool_words", axis=1)

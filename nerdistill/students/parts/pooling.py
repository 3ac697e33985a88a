"""Pieces to words, before any context is read."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nerdistill.students.parts.define import DefineOptions
from nerdistill.students.parts.piece_table import PAD, PieceTable

Pooling: TypeAlias = Literal["mean", "first_mean"]


class PieceEmbedding(PieceTable):
    """One vector for a word from the embeddings of its pieces.

    ``mean`` is their mean. ``first_mean`` puts the first piece's embedding before it: twice as wide, and the beginning of a word, where
    case and stem are, is told from the rest. Either way the table is the same size.

    Pooling before the recurrent layer makes sequences as short as the words, and a word's vector can be computed once however often the
    word occurs in a batch.

    Args:
        n_pieces: Rows; row 0 is padding.
        width: Columns of a piece's vector.
        pooling: ``mean`` or ``first_mean``.
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
        self.word_width = width if pooling == "mean" else 2 * width

    def forward(self, word_pieces: Tensor) -> Tensor:
        """Pool ``[U, P]`` piece ids to ``[U, word_width]``."""
        counts = (word_pieces != PAD).sum(dim=1, keepdim=True).clamp(min=1)
        vectors = self.vectors(word_pieces)
        mean: Tensor = vectors.sum(dim=1) / counts
        return mean if self.pooling == "mean" else torch.cat([vectors[:, 0], mean], dim=1)

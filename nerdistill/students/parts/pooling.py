"""Pieces to words, before any context is read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAD = 0
"""Row of the padding piece; it stays zero."""


class PieceEmbedding(nn.Module):
    """The mean of a word's piece embeddings.

    Pooling before the recurrent layer makes sequences as short as the words, and a word's vector can be computed once however often the
    word occurs in a batch.

    Args:
        n_pieces: Rows; row 0 is padding.
        width: Columns.
        table: Initial ``[n_pieces, width]`` values; None draws them from a normal distribution of standard deviation 0.1.
    """

    def __init__(self, n_pieces: int, width: int, table: Tensor | None) -> None:
        super().__init__()
        weight = torch.randn(n_pieces, width) * 0.1 if table is None else table.clone()
        weight[PAD] = 0.0
        self.table = nn.Embedding(n_pieces, width, padding_idx=PAD, _weight=weight)

    def forward(self, word_pieces: Tensor) -> Tensor:
        """Pool ``[U, P]`` piece ids to ``[U, width]``."""
        counts = (word_pieces != PAD).sum(dim=1, keepdim=True).clamp(min=1)
        pooled: Tensor = self.table(word_pieces).sum(dim=1) / counts
        return pooled

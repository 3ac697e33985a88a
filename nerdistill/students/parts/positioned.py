"""Pieces and their places, before any context is read."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from nerdistill.students.parts.dropout import Dropout
from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.pooling import PAD
from nerdistill.students.parts.transformer_layer import NORM_EPSILON

INITIAL_DEVIATION = 0.02
"""Standard deviation of first weights; BERT's."""


class PositionedEmbedding(nn.Module):
    """The sum of a piece's and a position's learnt vector, normalised, as in BERT; there are no token types.

    With a table narrower than the states a linear map stands between them (ALBERT, Lan et al. 2020, section 3.1): it gives a table of any
    width to states of any width, and most of the parameters are the table's.

    Deviations: the map has no bias, which the positions hold already. Positions are drawn on the scale of the given table and the map keeps
    a row's length on average, so that neither drowns the other in their sum; at BERT's 0.02 positions could not be told beside a table
    of unit variance. A random table has BERT's scale, and so have the positions.

    Args:
        n_pieces: Rows; row 0 is padding.
        table_width: Columns of the table.
        width: Of the states.
        positions: Most pieces in a sequence.
        dropout: Probability, on the result.
        table: Initial ``[n_pieces, table_width]`` values, or None.
    """

    def __init__(self, n_pieces: int, table_width: int, width: int, positions: int, dropout: float, table: Tensor | None) -> None:
        super().__init__()
        weight = torch.randn(n_pieces, table_width) * INITIAL_DEVIATION if table is None else table.clone()
        scale = INITIAL_DEVIATION if table is None else float(table.square().mean().sqrt())
        weight[PAD] = 0.0
        self.table = nn.Embedding(n_pieces, table_width, padding_idx=PAD, _weight=weight)
        self.widen = None if table_width == width else nn.Linear(table_width, width, bias=False)
        if self.widen is not None:
            nn.init.normal_(self.widen.weight, std=table_width**-0.5)
        self.positions = nn.Embedding(positions, width, _weight=torch.randn(positions, width) * scale)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.dropout = Dropout(dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        """``[B, S]`` piece ids to ``[B, S, width]``."""
        vectors = self.table(input_ids)
        wide = vectors if self.widen is None else self.widen(vectors)
        made: Tensor = self.dropout(self.norm(wide + self.positions.weight[: input_ids.shape[1]]))
        return made

    def write(self, graph: Graph, name: str, input_ids: str) -> str:
        """Add the nodes to a graph."""
        vectors = graph.node("Gather", [graph.weight(f"{name}_table", self.table.weight), input_ids], f"{name}_vectors")
        if self.widen is not None:
            vectors = graph.node("MatMul", [vectors, graph.weight(f"{name}_widen", self.widen.weight.T)], f"{name}_wide")
        size = graph.node("Shape", [input_ids], f"{name}_size", start=1, end=2)
        begin = graph.weight(f"{name}_begin", np.array([0]))
        positions = graph.node("Slice", [graph.weight(f"{name}_positions", self.positions.weight), begin, size, begin], f"{name}_places")
        summed = graph.node("Add", [vectors, positions], f"{name}_sum")
        return graph.layer_norm(f"{name}_norm", summed, self.norm)

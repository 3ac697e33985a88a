"""Pieces and their places, before any context is read."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from nerdistill.students.parts.define import DefineOptions
from nerdistill.students.parts.dropout import Dropout
from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.piece_table import PieceTable
from nerdistill.students.parts.transformer_layer import NORM_EPSILON

INITIAL_DEVIATION = 0.02
"""Standard deviation of first weights; BERT's."""


class PositionedEmbedding(PieceTable):
    """The sum of a piece's and a position's learnt vector, normalised, as in BERT; there are no token types.

    A table narrower than the states is widened by a linear map or a DeFINE unit (`PieceTable`), which need no bias: the positions hold one.

    Deviation: positions are drawn on the scale of the given table and the map keeps a row's length on average, so that neither drowns the
    other in their sum; at BERT's 0.02 positions could not be told beside a table of unit variance. A random table has BERT's scale, and
    so have the positions; before a unit both have 1.

    Args:
        n_pieces: Rows; row 0 is padding.
        table_width: Columns of the table.
        width: Of the states.
        positions: Most pieces in a sequence.
        dropout: Probability, on the result.
        table: Initial ``[n_pieces, table_width]`` values, or None.
        define: A unit in place of the linear map, which then says the table's width.
    """

    def __init__(
        self,
        n_pieces: int,
        table_width: int,
        width: int,
        positions: int,
        dropout: float,
        table: Tensor | None,
        define: DefineOptions | None = None,
    ) -> None:
        super().__init__(n_pieces, width, INITIAL_DEVIATION, table, table_width, define)
        self.positions = nn.Embedding(positions, width, _weight=torch.randn(positions, width) * self.scale)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.dropout = Dropout(dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        """``[B, S]`` piece ids to ``[B, S, width]``."""
        made: Tensor = self.dropout(self.norm(self.vectors(input_ids) + self.positions.weight[: input_ids.shape[1]]))
        return made

    def write(self, graph: Graph, name: str, input_ids: str) -> str:
        """Add the nodes to a graph."""
        vectors = self.write_vectors(graph, name, input_ids)
        size = graph.node("Shape", [input_ids], f"{name}_size", start=1, end=2)
        begin = graph.weight(f"{name}_begin", np.array([0]))
        positions = graph.node("Slice", [graph.weight(f"{name}_positions", self.positions.weight), begin, size, begin], f"{name}_places")
        summed = graph.node("Add", [vectors, positions], f"{name}_sum")
        return graph.layer_norm(f"{name}_norm", summed, self.norm)

"""Narrow pieces, widened by what stands beside them (MobileBERT, Sun et al. 2020, section 3.4)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nerdistill.students.parts.define import DefineOptions
from nerdistill.students.parts.dropout import Dropout
from nerdistill.students.parts.norm import Norm, make_norm, write_normed
from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.piece_table import PieceTable


class TrigramEmbedding(PieceTable):
    """A convolution over three neighbouring pieces makes narrow vectors as wide as the states; a learnt position is added.

    The vector at position t is ``W [e_{t+1}; e_t; e_{t-1}] + b + p_t``, then normalised as the network is; e is zero before the first and
    behind the last piece of a sentence.

    Deviations: the vector of padding is zero here, so that a sentence's last piece does not read what batch it stands in; the published
    code reads the padding piece's row. No token types. First states have the size 1 whatever the size of a given table, and a random table
    is drawn with that size: without normalisation, nothing else would bring them there.

    Args:
        n_pieces: Rows of the table; row 0 is padding.
        vector_width: Columns of e.
        width: Of the states.
        positions: Most pieces in a sequence.
        norm: ``none`` or ``layer``.
        dropout: Probability, on the result.
        table: Initial values of the table, or None.
        table_width: Columns of the table, see `PieceTable`; None for those of e.
        define: A unit that makes e of the table's rows, see `PieceTable`; None for none.
    """

    def __init__(
        self,
        n_pieces: int,
        vector_width: int,
        width: int,
        positions: int,
        norm: Norm,
        dropout: float,
        table: Tensor | None,
        table_width: int | None = None,
        define: DefineOptions | None = None,
    ) -> None:
        super().__init__(n_pieces, vector_width, 1.0, table, table_width, define)
        self.convolution = nn.Linear(3 * vector_width, width)
        nn.init.normal_(self.convolution.weight, std=(3 * vector_width) ** -0.5 / (self.scale or 1.0))
        nn.init.zeros_(self.convolution.bias)
        self.positions = nn.Embedding(positions, width, _weight=torch.randn(positions, width))
        self.norm = make_norm(norm, width)
        self.dropout = Dropout(dropout)

    def forward(self, input_ids: Tensor, real: Tensor) -> Tensor:
        """``[B, S]`` piece ids to ``[B, S, width]``; ``real`` ``[B, S]``, True for pieces that are no padding."""
        vectors = self.vectors(input_ids) * real[..., None]
        framed = F.pad(vectors, (0, 0, 1, 1))
        trigrams = torch.cat([framed[:, 2:], vectors, framed[:, :-2]], dim=-1)
        made: Tensor = self.dropout(self.norm(self.convolution(trigrams) + self.positions.weight[: input_ids.shape[1]]))
        return made

    def write(self, graph: Graph, name: str, input_ids: str, attention_mask: str) -> str:
        """Add the nodes to a graph; ``attention_mask`` ``[B, S]`` int64 is 1 for real pieces."""
        last = graph.weight(f"{name}_last_axis_of_pieces", np.array([-1]))
        real = graph.node("Cast", [graph.node("Unsqueeze", [attention_mask, last], f"{name}_by_piece")], f"{name}_real", to=1)
        vectors = graph.node("Mul", [self.write_vectors(graph, name, input_ids), real], f"{name}_heard")
        framed = graph.node("Pad", [vectors, graph.weight(f"{name}_frame", np.array([0, 1, 0, 0, 1, 0]))], f"{name}_framed")
        size = graph.node("Shape", [input_ids], f"{name}_size", start=1, end=2)
        zero, two, axis = (graph.weight(f"{name}_{word}", np.array([number])) for word, number in (("begin", 0), ("two", 2), ("axis", 1)))
        end = graph.node("Add", [size, two], f"{name}_end")
        behind = graph.node("Slice", [framed, two, end, axis], f"{name}_behind")
        before = graph.node("Slice", [framed, zero, size, axis], f"{name}_before")
        trigrams = graph.node("Concat", [behind, vectors, before], f"{name}_trigrams", axis=-1)
        places = graph.node("Slice", [graph.weight(f"{name}_positions", self.positions.weight), zero, size, zero], f"{name}_places")
        return write_normed(graph, name, trigrams, self.convolution, self.norm, places)

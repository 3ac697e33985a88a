"""A vector for each piece: rows of a table, which may be narrower than what the network reads."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from nerdistill.students.base import Options
from nerdistill.students.parts.define import Define, DefineOptions
from nerdistill.students.parts.onnx_graph import Graph

PAD = 0
"""Row of the padding piece; it stays zero."""

_AT_ONCE = 8192
"""Pieces that are folded at once; the widest layer of a unit is held for each."""


class NarrowTableOptions(Options):
    """What a student with a `PieceTable` can be asked for beside its own options.

    Attributes:
        define: The table is as wide as this says and a DeFINE unit makes its rows wide (`nerdistill.students.parts.define`); None for none.
    """

    define: DefineOptions | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not asked for, so that a run from before there was such an option keeps its fingerprint."""
        dumped: dict[str, Any] = dump(self)
        return {key: value for key, value in dumped.items() if key not in ("define", "table_width") or value is not None}


class TableWidthOptions(NarrowTableOptions):
    """The same for a student that has a setting for the table's width beside that of the vectors.

    Attributes:
        embedding_width: Columns of a piece's vector, and of the piece table unless the next two say otherwise.
        table_width: Columns of the piece table; None for as many as the vectors have. A linear map makes vectors of its rows.
        define: The unit that makes vectors of rows instead, and the table's columns.
    """

    embedding_width: int = Field(ge=1, le=4096)
    table_width: int | None = Field(default=None, ge=1, le=4096)

    @model_validator(mode="after")
    def _one_width(self) -> Self:
        if self.define and self.table_width:
            found = f"define.width = {self.define.width} and table_width = {self.table_width}"
            raise ValueError(f"{found} both say the table's width; leave one out")
        return self

    @property
    def columns(self) -> int:
        """Of the piece table."""
        return self.define.width if self.define else self.table_width or self.embedding_width


class PieceTable(nn.Module):
    """The part of an embedding that depends on the piece alone: ``[V, n]`` values, and a map from n to ``width`` columns.

    There is no map if the table is as wide as the vectors; if it is narrower it is linear without bias (ALBERT, Lan et al. 2020, section
    3.1) or, where asked for, a `Define` unit. Either way most of the parameters are the table's. First maps keep a row's length on
    average. The padding piece's vector is zero, whatever a unit makes of its row.

    Args:
        n_pieces: V; row 0 is padding.
        width: Columns of the vectors.
        deviation: Standard deviation of a table that is not given. Before a unit it is 1, the size of the unit's own states, which are
            normalised: a row much smaller would not be heard beside them.
        table: Initial ``[V, n]`` values, or None.
        table_width: n; None for `width`.
        define: Shape of the unit, and n; None for a linear map.

    Attributes:
        scale: Root mean square of the first vectors, roughly.
    """

    def __init__(
        self, n_pieces: int, width: int, deviation: float, table: Tensor | None, table_width: int | None, define: DefineOptions | None
    ) -> None:
        super().__init__()
        columns = define.width if define else table_width or width
        drawn = 1.0 if define else deviation
        weight = torch.randn(n_pieces, columns) * drawn if table is None else table.clone()
        self.scale = drawn if table is None else float(table.square().mean().sqrt())
        weight[PAD] = 0.0
        self.table = nn.Embedding(n_pieces, columns, padding_idx=PAD, _weight=weight)
        self.widen = None if define or columns == width else nn.Linear(columns, width, bias=False)
        self.define = Define(define, width) if define else None
        if self.widen is not None:
            nn.init.normal_(self.widen.weight, std=columns**-0.5)

    def all_vectors(self, ids: Tensor) -> Tensor:
        """``[N]`` piece ids, best without repetition, to ``[N, width]``, each computed for itself; for losses over pieces."""
        rows: Tensor = self.table(ids)
        if self.define is not None:
            made: Tensor = self.define(rows) * (ids != PAD)[:, None]
            return made
        return rows if self.widen is None else self.widen(rows)

    def vectors(self, ids: Tensor) -> Tensor:
        """Piece ids of any shape to vectors ``[..., width]``; a unit reads each distinct piece once."""
        if self.define is None:
            return self.all_vectors(ids)
        distinct, places = torch.unique(ids, return_inverse=True)
        return F.embedding(places, self.all_vectors(distinct))

    def folded(self) -> Self:
        """An equal part of its own weights that reads a plain table ``[V, width]``: nothing is left to compute, and nothing is saved."""
        plain = copy.deepcopy(self)
        n_pieces = self.table.num_embeddings
        with torch.no_grad():
            ids = torch.arange(n_pieces, device=self.table.weight.device)
            weight = torch.cat([self.all_vectors(part) for part in torch.split(ids, _AT_ONCE)])
        plain.table = nn.Embedding(n_pieces, weight.shape[1], padding_idx=PAD, _weight=weight.clone())
        plain.widen = plain.define = None
        return plain

    def write_vectors(self, graph: Graph, name: str, ids: str) -> str:
        """Add the nodes of `vectors` to a graph.

        A unit reads every id here, as often as it stands in the input, without a sort for the distinct ones: for a BiLSTM these are the
        pieces of a batch's distinct words, for a Transformer all pieces of its sentences, padding included. A default unit with 96 columns
        multiplies 75,008 times for an id, where a plain table is looked up; `folded` does away with that.
        """
        table = graph.weight(f"{name}_table", self.table.weight)
        if self.define is None:
            vectors = graph.node("Gather", [table, ids], f"{name}_vectors")
            if self.widen is None:
                return vectors
            return graph.node("MatMul", [vectors, graph.weight(f"{name}_widen", self.widen.weight.T)], f"{name}_wide")
        flat = graph.node("Reshape", [ids, graph.weight(f"{name}_flat_shape", np.array([-1]))], f"{name}_flat")
        made = self.define.write(graph, f"{name}_define", graph.node("Gather", [table, flat], f"{name}_rows"))
        is_pad = graph.node("Equal", [flat, graph.weight(f"{name}_pad", np.array(PAD))], f"{name}_is_pad")
        is_pad = graph.node("Unsqueeze", [is_pad, graph.weight(f"{name}_last_axis", np.array([-1]))], f"{name}_pad_rows")
        made = graph.node("Where", [is_pad, graph.weight(f"{name}_zero", np.array(0.0, np.float32)), made], f"{name}_masked")
        shape = graph.node("Shape", [ids], f"{name}_shape")
        shape = graph.node("Concat", [shape, graph.weight(f"{name}_rest", np.array([-1]))], f"{name}_wide_shape", axis=0)
        return graph.node("Reshape", [made, shape], f"{name}_vectors")

"""A thin BERT over pieces (Devlin et al. 2019): embeddings with positions, a few layers, a linear head on each word's first piece.

The shapes of the Transformer students of the literature are settings: 4 layers of 312 with 12 heads and 1200 units is TinyBERT's (Jiao et
al. 2020), and 6 layers of 384 with 12 heads and 1536 units MiniLM's (Wang et al. 2020) and XtremeDistilTransformers' (Mukherjee et al.
2021). Heads may be narrow, so a student can have as many as its teacher.

Deviations from BERT: no token types, which words of one text do not need; no dropout inside the attention (`SelfAttention`); first weights
of the embeddings follow the given table (`PositionedEmbedding`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor, nn

from nerdistill.students.base import STUDENTS, ModelOutput, ParamGroup, Shape, Student, StudentKind
from nerdistill.students.parts.dropout import Dropout
from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.piece_table import NarrowTableOptions
from nerdistill.students.parts.positioned import INITIAL_DEVIATION, PositionedEmbedding
from nerdistill.students.parts.transformer_layer import Activation, TransformerLayer

if TYPE_CHECKING:
    import onnx

ENDS = 2
"""The begin and the end piece of a sequence."""

_FAR_BELOW = -1e9
"""Added to the score of a padded piece: its probability is exactly 0."""


class TransformerOptions(NarrowTableOptions):
    """Shape of the Transformer student.

    Attributes:
        layers: L.
        width: Of the states.
        heads: Attention heads of a layer; a divisor of the width.
        ffn: Units of a layer's feed-forward network.
        positions: Most pieces read at once, begin and end included; longer text is windowed. A word has up to 16.
        embedding_width: Columns of the piece table; None for as many as the states have. Fewer are widened by a linear map.
        define: The unit that widens them instead, and the table's columns; see `NarrowTableOptions`.
        dropout: Probability, on the embeddings, on the results of each layer's two parts and before the head.
        activation: Of the feed-forward networks.
    """

    layers: int = Field(default=4, ge=1, le=48)
    width: int = Field(default=312, ge=1, le=4096)
    heads: int = Field(default=12, ge=1, le=256)
    ffn: int = Field(default=1200, ge=1, le=16384)
    positions: int = Field(default=258, ge=16 + ENDS, le=8192)
    embedding_width: int | None = Field(default=None, ge=1, le=4096)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    activation: Activation = "gelu"

    @model_validator(mode="after")
    def _heads_divide(self) -> TransformerOptions:
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} cannot be shared by heads = {self.heads}; take a divisor of it")
        return self

    @model_validator(mode="after")
    def _one_width(self) -> TransformerOptions:
        if self.define and self.embedding_width:
            found = f"define.width = {self.define.width} and embedding_width = {self.embedding_width}"
            raise ValueError(f"{found} both say the table's width; leave one out")
        return self

    @property
    def table_width(self) -> int:
        """Columns of the piece table."""
        return self.define.width if self.define else self.embedding_width or self.width


class Transformer(Student):
    """See the module's docstring.

    Args:
        options: Its shape.
        shape: What it must fit.
        embeddings: Initial table ``[n_pieces, table_width]``, or None.
    """

    inputs: ClassVar[Literal["words", "pieces"]] = "pieces"

    def __init__(self, options: TransformerOptions, shape: Shape, embeddings: Tensor | None) -> None:
        super().__init__()
        width = options.width
        self.embeddings = PositionedEmbedding(
            shape.n_pieces, options.table_width, width, options.positions, options.dropout, embeddings, options.define
        )
        self.layers = nn.ModuleList(
            TransformerLayer(width, options.heads, options.ffn, options.activation, options.dropout) for _ in range(options.layers)
        )
        self.dropout = Dropout(options.dropout)
        self.head = nn.Linear(width, shape.n_tags)
        for module in (*self.layers.modules(), self.head):
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
                nn.init.zeros_(module.bias)
        self.state_widths = (width,) * (options.layers + 1)
        self.limit = options.positions - ENDS
        self.heads = options.heads

    def forward(self, batch: Mapping[str, Tensor]) -> ModelOutput:
        """Tag a batch of `collate_pieces` arrays; ``hidden`` is the embeddings and each layer at first pieces."""
        first = batch["first_piece"][..., None].expand(-1, -1, self.head.in_features)
        real = batch["attention_mask"].bool()[:, None, None]
        states: Tensor = self.embeddings(batch["input_ids"])
        hidden, attention = [states.gather(1, first)], []
        for layer in self._in_order():
            if self.with_attention:
                attention.append(layer.attention.scores(hidden[-1]))
            states = layer(states, real)
            hidden.append(states.gather(1, first))
        return ModelOutput(self.head(self.dropout(hidden[-1])).float(), tuple(hidden), tuple(attention))

    def groups(self) -> tuple[ParamGroup, ...]:
        """Head, layers from the last to the first, embeddings."""
        layers = [ParamGroup(f"layer_{number}", layer) for number, layer in enumerate(self.layers, start=1)]
        return (ParamGroup("head", self.head), *reversed(layers), ParamGroup("embeddings", self.embeddings))

    def folded(self) -> Transformer:
        """The same network over a plain piece table, to be served: a table as wide as the states, and no more work than a look-up."""
        plain = copy.deepcopy(self)
        plain.embeddings = self.embeddings.folded()
        return plain

    def to_onnx(self) -> onnx.ModelProto:
        """The graph, written node by node; ``lengths`` is an input that it does not read."""
        graph = Graph()
        mask = _write_mask(graph, "attention_mask")
        states = self.embeddings.write(graph, "embeddings", "input_ids")
        for number, layer in enumerate(self._in_order(), start=1):
            states = layer.write(graph, f"layer_{number}", states, mask)
        graph.node("Unsqueeze", ["first_piece", graph.weight("last_axis", np.array([-1]))], "places")
        graph.node("GatherND", [states, "places"], "words", batch_dims=1)
        graph.linear("logits", "words", self.head)
        inputs = {"input_ids": ("B", "S"), "attention_mask": ("B", "S"), "first_piece": ("B", "W"), "lengths": ("B",)}
        return graph.model(inputs, "logits", ("B", "W", self.head.out_features))

    def _in_order(self) -> list[TransformerLayer]:
        """The layers, input side first, by their type, which a list of modules forgets."""
        return [layer for layer in self.layers if isinstance(layer, TransformerLayer)]


def _write_mask(graph: Graph, attention_mask: str) -> str:
    """``[B, S]`` int64, 1 for a real piece, to ``[B, 1, 1, S]`` float32, 0 for it and far below for padding."""
    graph.node("Unsqueeze", [attention_mask, graph.weight("mask_axes", np.array([1, 2]))], "mask_by_key")
    graph.node("Cast", ["mask_by_key"], "mask_real", to=1)
    graph.node("Sub", [graph.weight("mask_one", np.array(1.0, np.float32)), "mask_real"], "mask_padding")
    return graph.node("Mul", ["mask_padding", graph.weight("mask_far_below", np.array(_FAR_BELOW, np.float32))], "mask")


STUDENTS.register("transformer")(
    StudentKind(TransformerOptions, Transformer, lambda options: options.table_width, "thin BERT over pieces (TinyBERT, MiniLM)")
)

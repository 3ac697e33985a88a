"""A student for which a sentence is a bag of words: each word and the mean of all, one layer, a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from nerdistill.students.base import STUDENTS, ModelOutput, Options, ParamGroup, Shape, Student, StudentKind
from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.pooling import PieceEmbedding

if TYPE_CHECKING:
    import onnx


class ToyBagOptions(Options):
    """Its one width."""

    width: int = Field(default=8, ge=1)


class ToyBag(Student):
    """See the module's docstring."""

    inputs: ClassVar[Literal["words", "pieces"]] = "words"

    def __init__(self, options: ToyBagOptions, shape: Shape, embeddings: Tensor | None) -> None:
        super().__init__()
        self.embeddings = PieceEmbedding(shape.n_pieces, options.width, "mean", embeddings)
        self.body = nn.Linear(self.embeddings.word_width, options.width)
        self.head = nn.Linear(options.width, shape.n_tags)
        self.state_widths = (self.embeddings.word_width, options.width)

    def forward(self, batch: Mapping[str, Tensor]) -> ModelOutput:
        """Tag a batch of `collate_words` arrays."""
        words = self.embeddings(batch["word_pieces"])[batch["word_index"]]
        lengths = batch["lengths"][:, None, None]
        real = torch.arange(words.shape[1], device=words.device)[None, :, None] < lengths
        state = self.body(words + (words * real).sum(1, keepdim=True) / lengths).relu()
        return ModelOutput(self.head(state), (words, state))

    def groups(self) -> tuple[ParamGroup, ...]:
        """Head, layer, embeddings."""
        return ParamGroup("head", self.head), ParamGroup("body", self.body), ParamGroup("embeddings", self.embeddings)

    def to_onnx(self) -> onnx.ModelProto:
        """The graph, written node by node."""
        graph = Graph()
        zero, one = graph.weight("zero", np.array(0)), graph.weight("one", np.array(1))
        words, last = graph.weight("words_axis", np.array([1])), graph.weight("last_axes", np.array([1, 2]))
        distinct = self.embeddings.write_words(graph, "embeddings", "word_pieces")
        graph.node("Gather", [distinct, "word_index"], "words")
        graph.node("Gather", [graph.node("Shape", ["word_index"], "shape"), one], "width")
        graph.node("Unsqueeze", [graph.node("Range", [zero, "width", one], "places"), last], "column")
        graph.node("Transpose", ["column"], "places_of_all", perm=[1, 0, 2])
        graph.node("Unsqueeze", ["lengths", last], "lengths_of_all")
        graph.node("Cast", [graph.node("Less", ["places_of_all", "lengths_of_all"], "is_real")], "real", to=1)
        graph.node("ReduceSum", [graph.node("Mul", ["words", "real"], "real_words"), words], "sum", keepdims=1)
        graph.node("Div", ["sum", graph.node("Cast", ["lengths_of_all"], "count", to=1)], "mean")
        graph.node("Add", ["words", "mean"], "with_mean")
        graph.node("Relu", [graph.linear("before", "with_mean", self.body)], "state")
        graph.linear("logits", "state", self.head)
        inputs = {"word_pieces": ("U", "P"), "word_index": ("B", "W"), "lengths": ("B",)}
        return graph.model(inputs, "logits", ("B", "W", self.head.out_features))


STUDENTS.register("toy_bag")(StudentKind(ToyBagOptions, ToyBag, lambda options: options.width, "a bag of words"))

"""The BiLSTM student of XtremeDistil (Mukherjee and Awadallah, ACL 2020, section 3): embedding, one BiLSTM, projection, linear head.

Deviations from the paper:

- Pieces are pooled to words before the LSTM (`PieceEmbedding`). The paper runs over pieces with a technical tag for continuations. Words
  make sequences shorter, hence training and tagging faster, and every position carries a tag.
- The projection's width is free; the paper's is the teacher's, 768. The head sits on the projection, as in the published code; the
  paper's formulas put it on the BiLSTM.
- Dropout is applied to embeddings, LSTM output and projection; inside the LSTM, where the published code has another on the inputs and
  one on the recurrence, there is none.
- Projection and head start as torch starts them; the paper's framework draws them from Glorot's distribution.
- Padding is never read, in either direction.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from nerdistill.students.base import STUDENTS, ModelOutput, ParamGroup, Shape, Student, StudentKind
from nerdistill.students.parts.dropout import Dropout
from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.piece_table import TableWidthOptions
from nerdistill.students.parts.pooling import PieceEmbedding, Pooling
from nerdistill.students.parts.recurrent import BidirectionalLSTM

if TYPE_CHECKING:
    import onnx


class BiLSTMOptions(TableWidthOptions):
    """Shape of the BiLSTM student.

    Attributes:
        embedding_width: Columns of a piece's vector, and of the piece table unless the next two say otherwise; most of the parameters.
        table_width: Columns of the piece table; None for as many as the vectors have. A linear map makes vectors of its rows.
        define: The unit that makes vectors of rows instead, and the table's columns; see `TableWidthOptions`.
        pooling: How pieces become words, ``mean``, ``first_mean`` or ``first_mean_last``; see `PieceEmbedding`.
        hidden_width: LSTM units per direction; most of the time.
        projection_width: Width of the layer between LSTM and head.
        dropout: Probability, in three places.
    """

    embedding_width: int = Field(default=96, ge=1, le=4096)
    pooling: Pooling = "first_mean"
    hidden_width: int = Field(default=160, ge=1, le=4096)
    projection_width: int = Field(default=128, ge=1, le=4096)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)


class BiLSTM(Student):
    """See the module's docstring.

    Args:
        options: Its shape.
        shape: What it must fit.
        embeddings: Initial table ``[n_pieces, columns]``, or None.
    """

    inputs: ClassVar[Literal["words", "pieces"]] = "words"

    def __init__(self, options: BiLSTMOptions, shape: Shape, embeddings: Tensor | None) -> None:
        super().__init__()
        self.embeddings = PieceEmbedding(
            shape.n_pieces, options.embedding_width, options.pooling, embeddings, options.table_width, options.define
        )
        self.lstm = BidirectionalLSTM(self.embeddings.word_width, options.hidden_width)
        self.projection = nn.Linear(2 * options.hidden_width, options.projection_width)
        self.head = nn.Linear(options.projection_width, shape.n_tags)
        self.dropout = Dropout(options.dropout)
        self.activation = nn.GELU(approximate="tanh")
        self.state_widths = (self.embeddings.word_width, 2 * options.hidden_width, options.projection_width)

    def forward(self, batch: Mapping[str, Tensor]) -> ModelOutput:
        """Tag a batch of `collate_words` arrays."""
        words = self.embeddings(batch["word_pieces"])[batch["word_index"]]
        context = self.dropout(self.lstm(self.dropout(words), batch["lengths"]))
        state = self.activation(self.projection(context))
        return ModelOutput(self.head(self.dropout(state)), (words, context, state))

    def groups(self) -> tuple[ParamGroup, ...]:
        """Head, projection, BiLSTM, embeddings: the paper's order of unfreezing."""
        return (
            ParamGroup("head", self.head),
            ParamGroup("projection", self.projection),
            ParamGroup("bilstm", self.lstm),
            ParamGroup("embeddings", self.embeddings),
        )

    def folded(self) -> BiLSTM:
        """The same network over a plain piece table, to be served: a table as wide as the vectors, and no more work than a look-up."""
        plain = copy.deepcopy(self)
        plain.embeddings = self.embeddings.folded()
        return plain

    def to_onnx(self) -> onnx.ModelProto:
        """The graph, written node by node: the LSTM operator is given the lengths, so padding is never read."""
        graph = Graph()
        distinct = self.embeddings.write_words(graph, "embeddings", "word_pieces")
        graph.node("Transpose", ["word_index"], "index_by_time", perm=[1, 0])
        graph.node("Gather", [distinct, "index_by_time"], "words")
        graph.node("Cast", ["lengths"], "lengths_32", to=6)
        lstm = ["words", *(graph.weight(f"lstm_{name}", value) for name, value in self.lstm.onnx_weights().items()), "lengths_32"]
        graph.node("LSTM", lstm, "by_direction", direction="bidirectional", hidden_size=self.lstm.hidden)
        graph.node("Transpose", ["by_direction"], "by_sentence", perm=[2, 0, 1, 3])
        graph.node("Reshape", ["by_sentence", graph.weight("joined", np.array([0, 0, 2 * self.lstm.hidden]))], "context")
        graph.node("MatMul", ["context", graph.weight("projection_w", self.projection.weight.T)], "projected")
        graph.node("Add", ["projected", graph.weight("projection_b", self.projection.bias)], "biased")
        graph.node("Gelu", ["biased"], "state", approximate="tanh")
        graph.node("MatMul", ["state", graph.weight("head_w", self.head.weight.T)], "scores")
        graph.node("Add", ["scores", graph.weight("head_b", self.head.bias)], "logits")
        inputs = {"word_pieces": ("U", "P"), "word_index": ("B", "W"), "lengths": ("B",)}
        return graph.model(inputs, "logits", ("B", "W", self.head.out_features))


STUDENTS.register("bilstm")(
    StudentKind(BiLSTMOptions, BiLSTM, lambda options: options.columns, "word-pooled BiLSTM with projection (XtremeDistil)")
)

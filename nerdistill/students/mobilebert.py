"""MobileBERT (Sun et al., ACL 2020, arXiv 2004.02984): deep and thin. Narrow pieces, wide states between blocks, narrow blocks.

Piece vectors are widened by a convolution over three neighbours (`TrigramEmbedding`). Each block (`BottleneckBlock`) takes the states to a
narrower width, has its attention and several feed-forward networks there, and adds the result to its input. Nothing is normalised
(`NoNorm`), and the activation is ReLU: on processors without fused kernels, what they replace takes more time than its share of the work.
The states between blocks, the feature maps, are as wide as those of an inverted-bottleneck teacher
(`nerdistill.students.inverted_bottleneck`), so recipes can compare the two without a map between them.

The published shapes as options; all have 24 blocks and 4 heads:

================  ===============  =====  ===========  ====  ====  ==========  =====  ==========
shape             embedding_width  width  inner_width  ffn   ffns  attention   norm   activation
================  ===============  =====  ===========  ====  ====  ==========  =====  ==========
MobileBERT        128              512    128          512   4     shared      none   relu
MobileBERT-tiny   128              512    128          512   2     bottleneck  none   relu
IB-BERT           128              512    1024         4096  1     block       layer  gelu
================  ===============  =====  ===========  ====  ====  ==========  =====  ==========

The defaults are MobileBERT with half the widths and a quarter of the blocks, for a few languages' pieces. ``norm = "layer"`` and
``activation = "gelu"`` give the paper's MobileBERT without operational optimisations, slower and a little better.

Deviations:

- Padding is hidden from attention altogether; the published mask adds -6 to a padded piece's score, which leaves it a small weight.
- No token types, no dropout inside the attention, and no dense layer over the first piece, which tagging does not need.
- Tags are read from words' first pieces, after dropout.
- First weights are normal with deviation 0.02, not truncated ones; those of the embeddings see `TrigramEmbedding`.
- By default there is no dropout: published are 0 for states and 0.1 inside the attention, which has none here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from nerdistill.students.base import STUDENTS, ModelOutput, ParamGroup, Shape, Student, StudentKind
from nerdistill.students.parts.bottleneck import AttentionInput, BottleneckBlock
from nerdistill.students.parts.dropout import Dropout
from nerdistill.students.parts.norm import Norm
from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.piece_sequence import at_words, write_at_words, write_mask
from nerdistill.students.parts.piece_table import TableWidthOptions
from nerdistill.students.parts.positioned import INITIAL_DEVIATION
from nerdistill.students.parts.transformer_layer import Activation
from nerdistill.students.parts.trigram import TrigramEmbedding
from nerdistill.students.transformer import ENDS

if TYPE_CHECKING:
    import onnx


class MobileBertOptions(TableWidthOptions):
    """Shape of the MobileBERT student.

    Attributes:
        layers: L, blocks.
        width: Of the states between blocks.
        inner_width: Of the states inside a block; a multiple of the heads.
        heads: Attention heads of a block.
        ffn: Units of a feed-forward network.
        ffns: Feed-forward networks of a block.
        attention: What it reads. ``shared``: queries and keys a bottleneck of their own, values the block's input. ``bottleneck``: all the
            block's narrow states. ``block``: all the block's input.
        norm: Behind each sum, ``none`` (NoNorm) or ``layer``.
        activation: Of the feed-forward networks.
        positions: Most pieces read at once, begin and end included; longer text is windowed. A word has up to 16.
        embedding_width: Columns of a piece's vector, and of the piece table unless the next two say otherwise.
        table_width: Columns of the piece table; None for as many as the vectors have. A linear map makes vectors of its rows.
        define: The unit that makes vectors of rows instead, and the table's columns; see `TableWidthOptions`.
        dropout: Probability, on the embeddings, on what each block adds to its input and before the head.
    """

    layers: int = Field(default=6, ge=1, le=48)
    width: int = Field(default=256, ge=1, le=4096)
    inner_width: int = Field(default=64, ge=1, le=4096)
    heads: int = Field(default=4, ge=1, le=256)
    ffn: int = Field(default=256, ge=1, le=16384)
    ffns: int = Field(default=4, ge=1, le=16)
    attention: AttentionInput = "shared"
    norm: Norm = "none"
    activation: Activation = "relu"
    positions: int = Field(default=258, ge=16 + ENDS, le=8192)
    embedding_width: int = Field(default=64, ge=1, le=4096)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _heads_divide(self) -> MobileBertOptions:
        if self.inner_width % self.heads:
            raise ValueError(f"inner_width = {self.inner_width} cannot be shared by heads = {self.heads}; take a divisor of it")
        return self


class MobileBert(Student):
    """See the module's docstring.

    Args:
        options: Its shape.
        shape: What it must fit.
        embeddings: Initial table ``[n_pieces, columns]``, or None.
    """

    inputs: ClassVar[Literal["words", "pieces"]] = "pieces"

    def __init__(self, options: MobileBertOptions, shape: Shape, embeddings: Tensor | None) -> None:
        super().__init__()
        self.embeddings = TrigramEmbedding(
            shape.n_pieces, options.embedding_width, options.width, options.positions, options.norm, options.dropout, embeddings,
            options.table_width, options.define,
        )  # fmt: skip
        self.layers = nn.ModuleList(
            BottleneckBlock(
                options.width, options.inner_width, options.heads, options.ffn, options.ffns, options.attention, options.norm,
                options.activation, options.dropout,
            )
            for _ in range(options.layers)
        )  # fmt: skip
        self.dropout = Dropout(options.dropout)
        self.head = nn.Linear(options.width, shape.n_tags)
        for module in (*self.layers.modules(), self.head):
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
                nn.init.zeros_(module.bias)
        self.state_widths = (options.width,) * (options.layers + 1)
        self.limit = options.positions - ENDS
        self.heads = options.heads

    def forward(self, batch: Mapping[str, Tensor]) -> ModelOutput:
        """Tag a batch of `collate_pieces` arrays; ``hidden`` is the embeddings and the feature map behind each block, at first pieces."""
        real = batch["attention_mask"].bool()
        states: Tensor = self.embeddings(batch["input_ids"], real)
        hidden, attention = [at_words(states, batch["first_piece"])], []
        for block in self._in_order():
            if self.with_attention:
                attention.append(block.scores(hidden[-1]))
            states = block(states, real[:, None, None])
            hidden.append(at_words(states, batch["first_piece"]))
        return ModelOutput(self.head(self.dropout(hidden[-1])).float(), tuple(hidden), tuple(attention))

    def groups(self) -> tuple[ParamGroup, ...]:
        """Head, blocks from the last to the first, embeddings."""
        blocks = [ParamGroup(f"layer_{number}", block) for number, block in enumerate(self.layers, start=1)]
        return (ParamGroup("head", self.head), *reversed(blocks), ParamGroup("embeddings", self.embeddings))

    def folded(self) -> MobileBert:
        """The same network over a plain piece table, to be served: the vectors that the convolution reads are only looked up."""
        plain = copy.deepcopy(self)
        plain.embeddings = self.embeddings.folded()
        return plain

    def to_onnx(self) -> onnx.ModelProto:
        """The graph, written node by node; ``lengths`` is an input that it does not read."""
        graph = Graph()
        mask = write_mask(graph, "attention_mask")
        states = self.embeddings.write(graph, "embeddings", "input_ids", "attention_mask")
        for number, block in enumerate(self._in_order(), start=1):
            states = block.write(graph, f"layer_{number}", states, mask)
        graph.linear("logits", write_at_words(graph, states, "first_piece"), self.head)
        inputs = {"input_ids": ("B", "S"), "attention_mask": ("B", "S"), "first_piece": ("B", "W"), "lengths": ("B",)}
        return graph.model(inputs, "logits", ("B", "W", self.head.out_features))

    def _in_order(self) -> list[BottleneckBlock]:
        """The blocks, input side first, by their type, which a list of modules forgets."""
        return [block for block in self.layers if isinstance(block, BottleneckBlock)]


STUDENTS.register("mobilebert")(
    StudentKind(MobileBertOptions, MobileBert, lambda options: options.columns, "deep and thin Transformer over pieces (MobileBERT)")
)

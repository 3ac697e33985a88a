"""One layer of a Transformer encoder as BERT has it: each part's result is added to its input, then normalised."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor, nn

from nerdistill.students.parts.dropout import Dropout
from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.self_attention import SelfAttention

Activation: TypeAlias = Literal["gelu", "relu"]

NORM_EPSILON = 1e-12
"""BERT's."""

_ACTIVATIONS: dict[Activation, tuple[type[nn.Module], str]] = {"gelu": (nn.GELU, "Gelu"), "relu": (nn.ReLU, "Relu")}


class TransformerLayer(nn.Module):
    """Self-attention, then a feed-forward network for each piece (Devlin et al. 2019; Vaswani et al. 2017, section 3).

    Args:
        width: Of the states.
        heads: Of the attention.
        ffn: Units of the feed-forward network.
        activation: Of these.
        dropout: Probability, on the result of either part.
    """

    def __init__(self, width: int, heads: int, ffn: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        make, self._operator = _ACTIVATIONS[activation]
        self.attention = SelfAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.inner = nn.Linear(width, ffn)
        self.activation = make()
        self.outer = nn.Linear(ffn, width)
        self.outer_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """``[B, S, width]`` to the same shape; ``real`` as in `SelfAttention.forward`."""
        states = self.attention_norm(states + self.dropout(self.attention(states, real)))
        made: Tensor = self.outer_norm(states + self.dropout(self.outer(self.activation(self.inner(states)))))
        return made

    def write(self, graph: Graph, name: str, states: str, mask: str) -> str:
        """Add the nodes to a graph; arguments as in `SelfAttention.write`."""
        read = self.attention.write(graph, f"{name}_attention", states, mask)
        summed = graph.node("Add", [read, states], f"{name}_attention_sum")
        states = graph.layer_norm(f"{name}_attention_norm", summed, self.attention_norm)
        inner = graph.linear(f"{name}_inner", states, self.inner)
        active = graph.node(self._operator, [inner], f"{name}_active")
        summed = graph.node("Add", [graph.linear(f"{name}_outer", active, self.outer), states], f"{name}_outer_sum")
        return graph.layer_norm(f"{name}_outer_norm", summed, self.outer_norm)

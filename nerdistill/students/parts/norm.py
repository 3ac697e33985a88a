"""What closes a sum in a Transformer block: layer normalisation, or MobileBERT's NoNorm in its place."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from nerdistill.students.parts.onnx_graph import Graph
from nerdistill.students.parts.transformer_layer import NORM_EPSILON

Norm: TypeAlias = Literal["none", "layer"]


class NoNorm(nn.Module):
    """``weight * states + bias``, element by element (MobileBERT, Sun et al. 2020, section 3.3): nothing to sum up over a word's features.

    The names are those of a layer normalisation, so that either can begin with the other's weights, as the published student's do.

    Args:
        width: Of the states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, states: Tensor) -> Tensor:
        """``[..., width]`` to the same shape."""
        return states * self.weight + self.bias


def make_norm(kind: Norm, width: int) -> nn.LayerNorm | NoNorm:
    """``layer`` as in BERT, or ``none``."""
    return nn.LayerNorm(width, eps=NORM_EPSILON) if kind == "layer" else NoNorm(width)


def write_normed(graph: Graph, name: str, states: str, linear: nn.Linear, norm: nn.LayerNorm | NoNorm, beside: str | None = None) -> str:
    """Add ``norm(linear(states) + beside)`` to a graph and return its name.

    A NoNorm is multiplied into the linear layer here; behind a sum it leaves one product, with what stands beside.

    Args:
        graph: The graph.
        name: Beginning of the nodes' names.
        states: ``[..., in]``.
        linear: The layer, with a bias.
        norm: From `make_norm`.
        beside: ``[..., out]``, or None for nothing.
    """
    if isinstance(norm, NoNorm):
        gain = norm.weight.detach()
        made = graph.affine(f"{name}_made", states, linear.weight * gain[:, None], linear.bias * gain + norm.bias)
        if beside is None:
            return made
        kept = graph.node("Mul", [beside, graph.weight(f"{name}_gain", gain)], f"{name}_kept")
        return graph.node("Add", [made, kept], name)
    made = graph.linear(f"{name}_made", states, linear)
    summed = made if beside is None else graph.node("Add", [made, beside], f"{name}_sum")
    return graph.layer_norm(name, summed, norm)

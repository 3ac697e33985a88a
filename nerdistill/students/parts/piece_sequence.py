"""What students over sequences of pieces share: reading words at their first pieces, and hiding padding, in torch and in the graph."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nerdistill.students.parts.onnx_graph import Graph

_FAR_BELOW = -1e9
"""Added to the score of a padded piece: its probability is exactly 0."""


def at_words(states: Tensor, first_piece: Tensor) -> Tensor:
    """States of pieces ``[B, S, H]`` at words' first pieces ``[B, W]``: ``[B, W, H]``."""
    return states.gather(1, first_piece[..., None].expand(-1, -1, states.shape[-1]))


def write_at_words(graph: Graph, states: str, first_piece: str) -> str:
    """Add the nodes of `at_words` to a graph and return the result's name."""
    places = graph.node("Unsqueeze", [first_piece, graph.weight("last_axis", np.array([-1]))], "places")
    return graph.node("GatherND", [states, places], "words", batch_dims=1)


def write_mask(graph: Graph, attention_mask: str) -> str:
    """``[B, S]`` int64, 1 for a real piece, to ``[B, 1, 1, S]`` float32, 0 for it and far below for padding."""
    by_key = graph.node("Unsqueeze", [attention_mask, graph.weight("mask_axes", np.array([1, 2]))], "mask_by_key")
    real = graph.node("Cast", [by_key], "mask_real", to=1)
    padding = graph.node("Sub", [graph.weight("mask_one", np.array(1.0, np.float32)), real], "mask_padding")
    return graph.node("Mul", [padding, graph.weight("mask_far_below", np.array(_FAR_BELOW, np.float32))], "mask")

"""DeFINE (Mehta et al., ICLR 2020): a narrow table of pieces, and a deep unit that makes wide vectors from its rows.

Map, expand, reduce (section 3): a table gives a piece's row e of n numbers; N layers of group linear transforms take it through widths that
grow linearly from n to k and from there to the m numbers that the network reads (hierarchical group transformation, section 3.2). Layer
l = 1 .. N has

    g_l = max(floor(g_1 / 2^(l-1)), 1)

groups: many small ones first, few large ones later. A group linear transform cuts its input into g chunks, each with a matrix of its own,
so it has in * out / g weights. From the second layer on, e is mixed into the input anew, chunk by chunk: group j reads e's chunk j and
the last result's chunk j (section 3.3). A residual connection would need equal widths.

With n = 256, k = 1024, N = 3, m = 256 and g = 8, 4, 2, the widths are 256, 640, 1024, 256 and the weights

    256 * 640 / 8 + (256 + 640) * 1024 / 4 + (256 + 1024) * 256 / 2 = 20,480 + 229,376 + 163,840 = 413,696,

the paper's 0.41 M.

The result depends on the piece alone. So it is computed once for each distinct piece of a batch, and a finished unit can be replaced by the
table of its results (`nerdistill.students.parts.piece_table.PieceTable.folded`).

Deviations:

- Each expanding layer is followed by a normalisation and SiLU, as in the authors' code; the paper's formulas have neither. Without them the
  unit is a product of matrices, the same as one matrix from n to m, and depth adds nothing that a plain factorisation could not learn.
  ``nonlinear = false`` gives the formulas.
- The normalisation is over a whole layer. The code's is over each group's slice, and a small unit's slices are a few numbers wide: normed
  one by one they would hold next to nothing.
- The reducing layer is bare, so that a vector may be any; the code's has normalisation and activation. No layer has a bias: the
  normalisations shift, and so does whatever reads the result.
- The code's dense layers around the groups are left out, and its group counts, which start again for deep units: both are not the paper's.
- Widths are rounded up to a multiple of the groups on either side. Dropout is the student's, behind the unit.
- First weights are normal and keep the mean square of what they read; the paper gives none, the code has Xavier's uniform ones.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from nerdistill.errors import ConfigError
from nerdistill.students.base import Options
from nerdistill.students.parts.onnx_graph import Graph

_ACTIVE_MEAN_SQUARE = 0.3558
"""Mean of SiLU(x)^2 over a standard normal x."""


class DefineOptions(Options):
    """Shape of a unit, but for the width of its result.

    Attributes:
        width: n, columns of the table; every layer's groups divide it.
        expand: k, the widest layer.
        layers: N, the reducing one included.
        groups: g_1, groups of the first layer; each next one has half as many, at least 1.
        nonlinear: Normalisation and SiLU behind each expanding layer.
    """

    width: int = Field(default=64, ge=1, le=4096)
    expand: int = Field(default=512, ge=1, le=16384)
    layers: int = Field(default=3, ge=2, le=32)
    groups: int = Field(default=8, ge=1, le=256)
    nonlinear: bool = True

    @model_validator(mode="after")
    def _fits(self) -> DefineOptions:
        if self.expand < self.width:
            raise ValueError(f"expand = {self.expand} is less than width = {self.width}; take at least that")
        for count in self.group_counts:
            if self.width % count:
                raise ValueError(
                    f"width = {self.width} cannot be shared by {count} groups; take a multiple of {math.lcm(*self.group_counts)}, or other "
                    f"groups than {self.groups}"
                )
        return self

    @property
    def group_counts(self) -> tuple[int, ...]:
        """Groups of each layer, g."""
        return tuple(max(self.groups >> number, 1) for number in range(self.layers))

    @property
    def expanded_widths(self) -> tuple[int, ...]:
        """Width of each expanding layer's result: evenly spaced above n up to k, each divisible by the groups that make it and read it."""
        widths, steps = [], self.layers - 1
        for number, (made, read) in enumerate(pairwise(self.group_counts), start=1):
            multiple = math.lcm(made, read)
            exact = self.width * steps + (self.expand - self.width) * number
            widths.append(-(-exact // (steps * multiple)) * multiple)
        return tuple(widths)


class GroupLinear(nn.Module):
    """A linear transform whose input and output are cut into groups that know nothing of each other; no bias.

    Args:
        groups: g; divides both widths.
        width: Of the input.
        out: Of the output.
        mean_square: Of the input's numbers, as far as known; those of the first output are 1.
    """

    def __init__(self, groups: int, width: int, out: int, mean_square: float) -> None:
        super().__init__()
        size = width // groups
        self.groups = groups
        self.weight = nn.Parameter(torch.randn(groups, size, out // groups) * (size * mean_square) ** -0.5)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Inputs ``[N, width_i]``, whose chunks are laid side by side group by group, to ``[N, out]``."""
        chunks = torch.cat([part.reshape(len(part), self.groups, -1) for part in inputs], dim=-1)
        return torch.bmm(chunks.transpose(0, 1), self.weight).transpose(0, 1).flatten(1)

    def write(self, graph: Graph, name: str, inputs: list[str]) -> str:
        """Add the nodes to a graph."""
        split = graph.weight(f"{name}_split", np.array([0, self.groups, -1]))
        parts = [graph.node("Reshape", [part, split], f"{name}_chunks_{number}") for number, part in enumerate(inputs)]
        chunks = graph.node("Concat", parts, f"{name}_chunks", axis=-1)
        by_group = graph.node("Transpose", [chunks], f"{name}_by_group", perm=[1, 0, 2])
        product = graph.node("MatMul", [by_group, graph.weight(f"{name}_w", self.weight)], f"{name}_product")
        by_row = graph.node("Transpose", [product], f"{name}_by_row", perm=[1, 0, 2])
        joined = graph.weight(f"{name}_join", np.array([0, self.weight.shape[0] * self.weight.shape[2]]))
        return graph.node("Reshape", [by_row, joined], name)


class Define(nn.Module):
    """The unit between table and network; see the module's docstring.

    Args:
        options: Its shape.
        out: m, columns of the result; the last layer's groups divide it.

    Raises:
        ConfigError: They do not.
    """

    def __init__(self, options: DefineOptions, out: int) -> None:
        super().__init__()
        if out % options.group_counts[-1]:
            raise ConfigError(
                f"student.options.define: the last layer has {options.group_counts[-1]} groups, which do not divide the {out} columns that "
                "the student reads; take a multiple of them, fewer groups or more layers"
            )
        widths = options.expanded_widths
        active = _ACTIVE_MEAN_SQUARE if options.nonlinear else 1.0
        self.layers = nn.ModuleList([GroupLinear(options.group_counts[0], options.width, widths[0], 1.0)])
        for groups, (width, made) in zip(options.group_counts[1:], pairwise((*widths, out)), strict=True):
            mean_square = (options.width + active * width) / (options.width + width)
            self.layers.append(GroupLinear(groups, options.width + width, made, mean_square))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths if options.nonlinear)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows of the table ``[N, n]`` to ``[N, m]``."""
        states, inputs = rows, [rows]
        for number, layer in enumerate(self.layers):
            states = layer(inputs)
            if number < len(self.norms):
                states = F.silu(self.norms[number](states))
            inputs = [rows, states]
        return states

    def write(self, graph: Graph, name: str, rows: str) -> str:
        """Add the nodes to a graph; ``rows`` is ``[N, n]``."""
        states, inputs = rows, [rows]
        norms = [norm for norm in self.norms if isinstance(norm, nn.LayerNorm)]
        layers = [layer for layer in self.layers if isinstance(layer, GroupLinear)]
        for number, layer in enumerate(layers):
            states = layer.write(graph, f"{name}_{number + 1}", inputs)
            if number < len(norms):
                normed = graph.layer_norm(f"{name}_{number + 1}_norm", states, norms[number])
                gate = graph.node("Sigmoid", [normed], f"{name}_{number + 1}_gate")
                states = graph.node("Mul", [normed, gate], f"{name}_{number + 1}_active")
            inputs = [rows, states]
        return states

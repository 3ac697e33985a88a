"""What the terms over hidden states share: one state of the student beside one layer of the teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nerdistill.errors import ConfigError
from nerdistill.losses.base import Batch, Widths
from nerdistill.students.base import ModelOutput, Options


class StateOptions(Options):
    """Which states are compared.

    Attributes:
        state: Number of the student's state, counted from the end if negative; -1 is what its head reads.
        layer: Teacher layer, one of those that are there, ``signals.layers`` or all where the teacher reads along; None takes the
            first of them, a negative number counts from the last.
    """

    state: int = -1
    layer: int | None = None


def find_states(options: StateOptions, widths: Widths) -> tuple[int, int]:
    """The number of the student's state, and the place of the teacher's layer among those that ``teacher_hidden`` holds.

    Raises:
        ConfigError: There are no teacher states, or not of this layer, or the student has no such state.
    """
    if not widths.teacher or not widths.layers:
        raise ConfigError("a loss over hidden states needs stored teacher states: set signals.width above 0")
    counted = range(-len(widths.layers), 0)
    layer = widths.layers[0] if options.layer is None else options.layer
    layer = widths.layers[layer] if layer in counted else layer
    if layer not in widths.layers:
        raise ConfigError(f"a loss learns from teacher layer {layer}, but signals.layers = {list(widths.layers)}; add it there")
    if not -len(widths.student) <= options.state < len(widths.student):
        raise ConfigError(f"a loss compares student state {options.state}, but the student has {len(widths.student)} states")
    return options.state, widths.layers.index(layer)


class StatePair(nn.Module):
    """A student state, mapped linearly to the teacher's width, and the teacher state that it should equal.

    The map always goes from student to teacher: the other way round both could shrink to nothing. It belongs to the loss and is dropped
    with it.

    Args:
        options: Which states.
        widths: Their widths.

    Raises:
        ConfigError: As `find_states`.
    """

    def __init__(self, options: StateOptions, widths: Widths) -> None:
        super().__init__()
        self.state, self.index = find_states(options, widths)
        with torch.random.fork_rng(devices=[]):  # the same first weights whatever ran before: a continued run equals a whole one
            torch.manual_seed(0)
            self.adapter = nn.Linear(widths.student[options.state], widths.teacher)

    def forward(self, output: ModelOutput, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mapped student state and the teacher's, each ``[B, W, D]`` float32, without gradient to the teacher."""
        return self.adapter(output.hidden[self.state]).float(), batch["teacher_hidden"][:, :, self.index].detach().float()

"""What the terms over hidden states share: one state of the student beside one layer of the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from nerdistill.errors import ConfigError
from nerdistill.losses.base import Batch, LossTerm, Widths
from nerdistill.students.base import ModelOutput, Options

RIDGE = 0.1
"""Penalty of the first map's weights, as a share of the mean variance of the student's features."""

STATES_VERSION = 2
"""Of the terms of `StatePair`: 2 fits the first map, where 1 drew it at random."""


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
    with it. It begins as the best one for the student as it is (`begin`): through a random one the states of a Transformer give the
    teacher's plus a noise that is larger than what the teacher's states differ by, and the quickest way to less of it is the same state for
    all words, which a student that starts at random then hardly leaves again.

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

    @torch.no_grad()
    def begin(self, seen: Sequence[tuple[ModelOutput, Tensor, Batch]]) -> None:
        """Set the map to the ridge regression of teacher on student states over the words that count; no words leave it as it is.

        Args:
            seen: What the student says of some batches, the words that count ``[B, W]``, and the batches.
        """
        student = torch.cat([output.hidden[self.state][mask] for output, mask, _ in seen]).double()
        teacher = torch.cat([batch["teacher_hidden"][:, :, self.index][mask] for _, mask, batch in seen]).double()
        if not len(student) or not isinstance(self.adapter, nn.Linear):
            return
        mean, target = student.mean(dim=0), teacher.mean(dim=0)
        student, teacher = student - mean, teacher - target
        gram = student.T @ student
        penalty = RIDGE * gram.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
        weight = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), student.T @ teacher).T
        self.adapter.weight.copy_(weight)
        self.adapter.bias.copy_(target - weight @ mean)

    def forward(self, output: ModelOutput, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mapped student state and the teacher's, each ``[B, W, D]`` float32, without gradient to the teacher."""
        return self.adapter(output.hidden[self.state]).float(), batch["teacher_hidden"][:, :, self.index].detach().float()


class StateTerm(LossTerm):
    """A term over one pair of states.

    Args:
        options: Which states.
        widths: Their widths.

    Raises:
        ConfigError: As `find_states`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"teacher_hidden"})

    def __init__(self, options: StateOptions, widths: Widths) -> None:
        super().__init__()
        self.pair = StatePair(options, widths)

    def begin(self, seen: Sequence[tuple[ModelOutput, Batch]]) -> None:
        """See `LossTerm.begin`: the map."""
        self.pair.begin([(output, self.mask(batch), batch) for output, batch in seen])

"""What a loss term is, and how one is added.

A term is one file in this folder. It returns a SUM over the elements that its mask counts; the loop divides once, by the summed counts of
all the batches of an optimiser step, so gradient accumulation and padding leave the result unchanged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from nerdistill.registry import Registry
from nerdistill.students.base import ModelOutput, Options

Batch = Mapping[str, Tensor]
"""The arrays of a collate function, ``word_mask`` ``[B, W]`` (True = a real word), and what the term needs beside them."""


class LossTerm(nn.Module, ABC):
    """A term of a stage's loss. It may own weights (a projection); they are trained with the stage and never exported.

    Attributes:
        needs: Keys of the batch that it reads beside ``word_mask``: ``tags``, ``teacher_logits``, ``teacher_hidden``.
        zero_at_equality: Whether the value is 0 where the student equals its target.
    """

    needs: ClassVar[frozenset[str]]
    zero_at_equality: ClassVar[bool] = True

    def count(self, batch: Batch) -> Tensor:
        """Number of elements that `forward` sums over, a scalar; known before any forward pass."""
        return batch["word_mask"].sum()

    @abstractmethod
    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The sum over counted elements, a float32 scalar."""


@dataclass(frozen=True)
class Widths:
    """What a term's projection must fit.

    Attributes:
        student: Width of the student's last state.
        teacher: Width of the stored teacher states; 0 where there are none.
    """

    student: int
    teacher: int


@dataclass(frozen=True)
class LossKind:
    """A registered term.

    Attributes:
        options: Options model.
        build: From options and widths.
        needs: As the term's.
        summary: One line for listings.
    """

    options: type[Options]
    build: Callable[[Any, Widths], LossTerm]
    needs: frozenset[str]
    summary: str


LOSSES: Registry[LossKind] = Registry("loss", "nerdistill.losses")

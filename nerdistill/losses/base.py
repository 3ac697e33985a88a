"""What a loss term is, and how one is added.

A term is one file in this folder. It returns a SUM over the elements that its mask counts; the loop divides once, by the summed counts of
all the batches of an optimiser step, so gradient accumulation and padding leave the result unchanged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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
        needs: Keys of the batch that it reads beside ``word_mask``: ``tags``, ``teacher_logits``, ``teacher_hidden``,
            ``teacher_attention``.
        zero_at_equality: Whether the value is 0 where the student equals its target.
    """

    needs: ClassVar[frozenset[str]]
    zero_at_equality: ClassVar[bool] = True

    def mask(self, batch: Batch) -> Tensor:
        """``[B, W]``, True for the words that count: real ones, of sentences that have what the term needs.

        Where labelled and transfer text stand in one batch, ``without_tags`` and ``without_signals`` ``[B]`` name the sentences that lack
        the one or the other.
        """
        mask = batch["word_mask"]
        lacking = batch.get("without_tags" if "tags" in self.needs else "without_signals")
        return mask if lacking is None else mask & ~lacking[:, None]

    def count(self, batch: Batch) -> Tensor:
        """Number of elements that `forward` sums over, a scalar; known before any forward pass."""
        return self.mask(batch).sum()

    def begin(self, seen: Sequence[tuple[ModelOutput, Batch]]) -> None:
        """Give its own weights their first values, from what the student says of the first batches; once, before a stage's first step."""

    @abstractmethod
    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """The sum over counted elements, a float32 scalar."""


@dataclass(frozen=True)
class Widths:
    """What a term's projection must fit.

    Attributes:
        student: Widths of the student's states, as in its output.
        teacher: Width of the teacher's states; 0 where there are none.
        layers: The teacher layers that ``teacher_hidden`` holds, in its order.
        student_heads: Attention heads of a student layer; 0 for a student without attention.
        teacher_heads: Attention heads of a teacher layer; 0 where its attention is not heard.
    """

    student: tuple[int, ...]
    teacher: int
    layers: tuple[int, ...] = ()
    student_heads: int = 0
    teacher_heads: int = 0


@dataclass(frozen=True)
class LossKind:
    """A registered term.

    Attributes:
        options: Options model.
        build: From options and widths.
        needs: As the term's.
        summary: One line for listings.
        version: Part of the fingerprint of each stage that learns by it; counts up when the term comes to be another, or begins otherwise.
    """

    options: type[Options]
    build: Callable[[Any, Widths], LossTerm]
    needs: frozenset[str]
    summary: str
    version: int = 1


LOSSES: Registry[LossKind] = Registry("loss", "nerdistill.losses")

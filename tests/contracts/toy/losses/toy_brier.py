"""Squared distance between the student's probabilities of tags and the teacher's, summed over tags and words (Brier 1950)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from nerdistill.losses.base import LOSSES, Batch, LossKind, LossTerm
from nerdistill.students.base import ModelOutput, Options


class ToyBrierOptions(Options):
    """None."""


class ToyBrier(LossTerm):
    """See the module's docstring."""

    needs: ClassVar[frozenset[str]] = frozenset({"teacher_logits"})

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_logits`` ``[B, W, K]``."""
        distance = output.logits.float().softmax(-1) - batch["teacher_logits"].detach().float().softmax(-1)
        return distance.square().sum(-1).masked_fill(~self.mask(batch), 0.0).sum()


LOSSES.register("toy_brier")(
    LossKind(ToyBrierOptions, lambda options, widths: ToyBrier(), ToyBrier.needs, "squared distance of probabilities")
)

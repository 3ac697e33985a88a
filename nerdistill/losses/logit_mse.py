"""Squared distance to the teacher's logits (XtremeDistil section 3.3, L_LL).

Sum over words of ``1/2 * mean over tags of (student - teacher)^2``. Deviations from the paper: the mean over tags in place of the sum (as
in its code); each word's logits are centred first on both sides, since a constant added to all of them changes no probability.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from nerdistill.losses.base import LOSSES, Batch, LossKind, LossTerm
from nerdistill.students.base import ModelOutput, Options


class LogitMSEOptions(Options):
    """None."""


class LogitMSE(LossTerm):
    """See the module's docstring."""

    needs: ClassVar[frozenset[str]] = frozenset({"teacher_logits"})

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_logits`` ``[B, W, K]``."""
        distance = output.logits.float() - batch["teacher_logits"].detach().float()
        centred = distance - distance.mean(dim=-1, keepdim=True)
        return 0.5 * centred.square().mean(dim=-1).masked_fill(~self.mask(batch), 0.0).sum()


LOSSES.register("logit_mse")(
    LossKind(LogitMSEOptions, lambda options, widths: LogitMSE(), LogitMSE.needs, "squared distance to the teacher's logits")
)

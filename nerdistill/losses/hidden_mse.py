"""Squared distance to one hidden layer of the teacher (XtremeDistil section 3.3, L_RL).

Sum over words of ``mean over features of (W s + b - t)^2``, where s is the student's last state and t the stored teacher state.

Deviations from the paper: squared distance in place of its "KLD" of raw features, which is minimised by any feature above 1; a linear map
W, b owned by this term and dropped afterwards, since the student's state ends in a GELU and cannot be negative enough to equal t, and
since t is stored reduced by PCA.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES, Batch, LossKind, LossTerm, Widths
from nerdistill.students.base import ModelOutput, Options


class HiddenMSEOptions(Options):
    """None."""


class HiddenMSE(LossTerm):
    """See the module's docstring."""

    needs: ClassVar[frozenset[str]] = frozenset({"teacher_hidden"})

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        if not widths.teacher:
            raise ConfigError("the loss 'hidden_mse' needs stored teacher states: set signals.hidden_width above 0")
        with torch.random.fork_rng(devices=[]):  # the same first weights whatever ran before: a continued run equals a whole one
            torch.manual_seed(0)
            self.adapter = nn.Linear(widths.student, widths.teacher)

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_hidden`` ``[B, W, D]``."""
        distance = self.adapter(output.hidden[-1]).float() - batch["teacher_hidden"].detach().float()
        total: Tensor = distance.square().mean(dim=-1).masked_fill(~batch["word_mask"], 0.0).sum()
        return total


LOSSES.register("hidden_mse")(
    LossKind(
        HiddenMSEOptions,
        lambda options, widths: HiddenMSE(widths),
        HiddenMSE.needs,
        "squared distance to a teacher layer, through a projection",
    )
)

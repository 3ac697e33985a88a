"""Divergence of hidden states taken as distributions over their features (XtremeDistil section 3.3, L_RL, made well-posed).

Sum over words of ``T^2 * KL(softmax(t / T) || softmax((W s + b) / T))`` over the feature axis, where s is a state of the student and t the
stored teacher state.

Deviation from the paper: it writes the divergence of raw features, and its code clips these to [1e-7, 1]; that form falls until every
feature with a positive target is at least 1 and says nothing of the others. The softmax makes both sides distributions.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from nerdistill.losses.base import LOSSES, Batch, LossKind, Widths
from nerdistill.losses.states import STATES_VERSION, StateOptions, StateTerm
from nerdistill.students.base import ModelOutput


class HiddenKLOptions(StateOptions):
    """Which states, and the temperature T of both softmaxes."""

    temperature: float = Field(default=1.0, gt=0)


class HiddenKL(StateTerm):
    """See the module's docstring."""

    def __init__(self, options: HiddenKLOptions, widths: Widths) -> None:
        super().__init__(options, widths)
        self.temperature = options.temperature

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_hidden`` ``[B, W, L, D]``."""
        student, teacher = ((states / self.temperature).log_softmax(dim=-1) for states in self.pair(output, batch))
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)
        return divergence.masked_fill(~self.mask(batch), 0.0).sum() * self.temperature**2


LOSSES.register("hidden_kl")(
    LossKind(
        HiddenKLOptions,
        HiddenKL,
        HiddenKL.needs,
        "KL from a teacher layer's features as a distribution, through a projection",
        STATES_VERSION,
    )
)

"""Squared distance to a hidden layer of the teacher (XtremeDistil section 3.3, L_RL; its Transformer follow-up, a term a pair of layers).

Sum over words of ``mean over features of (W s + b - t)^2``, where s is a state of the student and t the stored teacher state.

Deviations from the paper: squared distance in place of its "KLD" of raw features, which is minimised by any feature above 1; a linear map
W, b owned by this term and dropped afterwards, since the student's state ends in a GELU and cannot be negative enough to equal t, and
since t is stored reduced by PCA.
"""

from __future__ import annotations

from torch import Tensor

from nerdistill.losses.base import LOSSES, Batch, LossKind
from nerdistill.losses.states import STATES_VERSION, StateOptions, StateTerm
from nerdistill.students.base import ModelOutput


class HiddenMSE(StateTerm):
    """See the module's docstring."""

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_hidden`` ``[B, W, L, D]``."""
        student, teacher = self.pair(output, batch)
        total: Tensor = (student - teacher).square().mean(dim=-1).masked_fill(~self.mask(batch), 0.0).sum()
        return total


LOSSES.register("hidden_mse")(
    LossKind(
        StateOptions,
        HiddenMSE,
        HiddenMSE.needs,
        "squared distance to a teacher layer, through a projection",
        STATES_VERSION,
    )
)

"""Kullback-Leibler divergence from the teacher's tag distribution at a temperature (Hinton, Vinyals and Dean 2015, section 2).

Sum over words of ``T^2 * KL(softmax(teacher / T) || softmax(student / T))``. The factor T^2 keeps the gradient's size when T changes.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from nerdistill.losses.base import LOSSES, Batch, LossKind, LossTerm
from nerdistill.students.base import ModelOutput, Options


class SoftTagsOptions(Options):
    """Temperature T above 0; 1 matches the distributions as they are."""

    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class SoftTags(LossTerm):
    """See the module's docstring."""

    needs: ClassVar[frozenset[str]] = frozenset({"teacher_logits"})

    def __init__(self, options: SoftTagsOptions) -> None:
        super().__init__()
        self.temperature = options.temperature

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_logits`` ``[B, W, K]``."""
        teacher = (batch["teacher_logits"].detach().float() / self.temperature).log_softmax(dim=-1)
        student = (output.logits.float() / self.temperature).log_softmax(dim=-1)
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)
        return divergence.masked_fill(~self.mask(batch), 0.0).sum() * self.temperature**2


LOSSES.register("soft_tags")(
    LossKind(
        SoftTagsOptions,
        lambda options, widths: SoftTags(options),
        SoftTags.needs,
        "KL from the teacher's tag distribution at a temperature",
    )
)

"""Divergence from what a masked language model expects at each word (DistilBERT, Sanh et al. 2019, section 3, L_ce).

Sum over words of ``T^2 * KL(softmax(t / T) || softmax(s / T))`` over the student's pieces, where s are the student's scores for the word's
first piece and t the teacher's for the same pieces. Masked words count as all others do, as in the published code by default.

Deviations: first pieces of words, in place of all pieces with begin and end among them, so that student and teacher need not cut words
alike; words whose first piece is not the same for both do not count; the teacher's distribution is over those of its pieces that the
student has. The paper writes the cross-entropy, which differs by a constant; its code has the divergence.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from nerdistill.losses.base import LOSSES, Batch, LossKind, LossTerm
from nerdistill.students.base import ModelOutput, Options


class SoftPiecesOptions(Options):
    """Temperature T of both softmaxes; the published code has 2."""

    temperature: float = Field(default=2.0, gt=0)


class SoftPieces(LossTerm):
    """See the module's docstring."""

    needs: ClassVar[frozenset[str]] = frozenset({"teacher_pieces", "same_piece"})

    def __init__(self, options: SoftPiecesOptions) -> None:
        super().__init__()
        self.temperature = options.temperature

    def mask(self, batch: Batch) -> Tensor:
        """``[B, W]``, True for the real words that begin with the same piece for student and teacher: ``same_piece`` ``[B, W]``."""
        return super().mask(batch) & batch["same_piece"]

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_pieces`` ``[B, W, V]``."""
        counted = self.mask(batch)
        pairs = output.asked_pieces[counted], batch["teacher_pieces"].detach()[counted]
        student, teacher = ((scores.float() / self.temperature).log_softmax(dim=-1) for scores in pairs)
        return F.kl_div(student, teacher, reduction="sum", log_target=True) * self.temperature**2


LOSSES.register("soft_pieces")(
    LossKind(
        SoftPiecesOptions,
        lambda options, widths: SoftPieces(options),
        SoftPieces.needs,
        "KL from a masked language model's distribution over pieces at a temperature",
    )
)

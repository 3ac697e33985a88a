"""Cross-entropy of masked language modelling (Devlin et al. 2019, section 3.1; DistilBERT, Sanh et al. 2019, section 3, L_mlm).

Sum over masked words of minus the log-probability of the word's first piece among the student's pieces.

Deviation: the unit that is masked is the word, all pieces of it, and its first piece is what is asked for.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from nerdistill.losses.base import LOSSES, Batch, LossKind, LossTerm
from nerdistill.students.base import ModelOutput, Options


class MaskedLMOptions(Options):
    """None."""


class MaskedLM(LossTerm):
    """See the module's docstring."""

    needs: ClassVar[frozenset[str]] = frozenset({"masked_pieces"})
    zero_at_equality: ClassVar[bool] = False

    def mask(self, batch: Batch) -> Tensor:
        """``[B, W]``, True for the words that are masked: where ``masked_pieces`` ``[B, W]`` is not negative."""
        return super().mask(batch) & (batch["masked_pieces"] >= 0)

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``masked_pieces`` ``[B, W]`` int64, the piece that stood there."""
        counted = self.mask(batch)
        return F.cross_entropy(output.asked_pieces[counted].float(), batch["masked_pieces"][counted], reduction="sum")


LOSSES.register("masked_lm")(
    LossKind(MaskedLMOptions, lambda options, widths: MaskedLM(), MaskedLM.needs, "cross-entropy against the pieces of masked words")
)

"""Attention transfer (MobileBERT, Sun et al. 2020, section 3.5): divergence of attention distributions, head by head.

Sum over words of the mean over heads of ``KL(p || q)`` over the real words of the sentence, where q is the student's distribution for that
word as query, and p the teacher's.

Deviations: maps are taken between the first pieces of words, so that student and teacher need not cut words alike: the softmax is over
these. Padding is neither query nor key; in the published code it is both. The code has the cross-entropy, which differs by a constant.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES, Batch, LossKind, LossTerm, Widths
from nerdistill.students.base import ModelOutput, Options


class AttentionKLOptions(Options):
    """Which maps are compared.

    Attributes:
        state: The student's attention layer, from 0, counted from the end if negative.
        layer: The teacher's, counted alike.
    """

    state: int = -1
    layer: int = -1


class AttentionKL(LossTerm):
    """See the module's docstring.

    Args:
        options: Which maps.
        widths: The heads of both.

    Raises:
        ConfigError: They have not equally many heads, or no attention is heard.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"teacher_attention"})

    def __init__(self, options: AttentionKLOptions, widths: Widths) -> None:
        super().__init__()
        if widths.student_heads != widths.teacher_heads or not widths.student_heads:
            raise ConfigError(
                f"a loss compares attention head by head, but the student has {widths.student_heads} heads and its teacher "
                f"{widths.teacher_heads}; give both as many, or set recipe.options.attention = false"
            )
        self.options = options

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_attention`` ``[B, L, A, W, W]``, raw scores."""
        mask = self.mask(batch)
        student, teacher = output.attention[self.options.state].float(), batch["teacher_attention"][:, self.options.layer].detach().float()
        hidden, lowest = ~mask[:, None, None, :], torch.finfo(torch.float32).min  # not -inf: a sentence may have no word that counts
        student, teacher = (scores.masked_fill(hidden, lowest).log_softmax(dim=-1) for scores in (student, teacher))
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True)
        pairs = mask[:, None, :, None] & mask[:, None, None, :]
        return divergence.masked_fill(~pairs, 0.0).mean(dim=1).sum()


LOSSES.register("attention_kl")(
    LossKind(AttentionKLOptions, AttentionKL, AttentionKL.needs, "KL from a layer's attention distributions, head by head")
)

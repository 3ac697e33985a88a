"""Squared distance of attention maps (XtremeDistilTransformers: probabilities; TinyBERT equation 7: scores).

Sum over words of the mean, over heads and over the real words of the sentence, of ``(a - t)^2``, where a is what the student's layer gives
for that word as query, and t what the teacher's does.

What all scores of a word have in common says nothing, as the softmax does not see it, and is by far the largest part of a deep teacher's:
``on = "scores"`` takes it off both sides, ``"raw_scores"`` leaves it, as published. To give it a student pushes all its states one way, and
one that starts at random ends with the same state for all words.

Deviations: maps are taken between the first pieces of words, so that student and teacher need not cut words alike; probabilities are
the softmax over these. Padding is neither query nor key; the published code divides by all entries of the padded map.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES, Batch, LossKind, LossTerm, Widths
from nerdistill.students.base import ModelOutput, Options


class AttentionOptions(Options):
    """Which maps are compared.

    Attributes:
        state: The student's attention layer, from 0, counted from the end if negative.
        layer: The teacher's, counted alike.
        on: Scores less their mean over the keys, scores as they are, or probabilities.
    """

    state: int = -1
    layer: int = -1
    on: Literal["scores", "raw_scores", "probabilities"] = "scores"


class AttentionMSE(LossTerm):
    """See the module's docstring."""

    needs: ClassVar[frozenset[str]] = frozenset({"teacher_attention"})

    def __init__(self, options: AttentionOptions, widths: Widths) -> None:
        super().__init__()
        if widths.student_heads != widths.teacher_heads or not widths.student_heads:
            raise ConfigError(
                f"a loss compares attention head by head, but the student has {widths.student_heads} heads and the teacher "
                f"{widths.teacher_heads}; give the student as many (they may be narrower), or leave attention out"
            )
        self.options = options

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_attention`` ``[B, L, A, W, W]``."""
        mask = self.mask(batch)
        student, teacher = output.attention[self.options.state].float(), batch["teacher_attention"][:, self.options.layer].detach().float()
        if self.options.on == "probabilities":
            hidden, lowest = ~mask[:, None, None, :], torch.finfo(torch.float32).min  # not -inf: a sentence may have no word that counts
            student, teacher = (scores.masked_fill(hidden, lowest).softmax(dim=-1) for scores in (student, teacher))
        pairs = mask[:, None, :, None] & mask[:, None, None, :]
        n_keys = mask.sum(dim=1).clamp(min=1)[:, None, None, None]
        apart = (student - teacher).masked_fill(~pairs, 0.0)
        if self.options.on == "scores":
            apart = (apart - apart.sum(dim=-1, keepdim=True) / n_keys).masked_fill(~pairs, 0.0)
        return (apart.square().mean(dim=1, keepdim=True) / n_keys).sum()


LOSSES.register("attention_mse")(
    LossKind(AttentionOptions, AttentionMSE, AttentionMSE.needs, "squared distance to a layer's attention, head by head", version=2)
)

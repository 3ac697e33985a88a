"""Cross-entropy against gold tags (XtremeDistil section 3.3, L_CE; the usual fine-tuning loss of a teacher).

Deviation: the published code sums over padding and technical positions as ordinary classes; here only real words count.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from nerdistill.losses.base import LOSSES, Batch, LossKind, LossTerm
from nerdistill.students.base import ModelOutput, Options


class HardTagsOptions(Options):
    """None."""


class HardTags(LossTerm):
    """Negative log-likelihood of the gold tag, summed over words.

    Where a source does not annotate some type, its ``O`` means "O or that type": the likelihood of an ``O`` there is the summed
    probability of ``O`` and the tags of its unannotated types (``unannotated`` ``[B, K]`` in the batch, True for those tags).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"tags"})
    zero_at_equality: ClassVar[bool] = False

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``tags`` ``[B, W]`` int64."""
        scores = output.logits.float().log_softmax(dim=-1)
        tags = batch["tags"]
        gold = scores.gather(2, tags.clamp(min=0)[..., None])[..., 0]
        if "unannotated" in batch:
            open_tags = batch["unannotated"].clone()
            open_tags[:, 0] = True
            either = scores.masked_fill(~open_tags[:, None, :], -torch.inf).logsumexp(dim=-1)
            gold = torch.where(tags == 0, either, gold)
        return -gold.masked_fill(~self.mask(batch), 0.0).sum()


LOSSES.register("hard_tags")(
    LossKind(HardTagsOptions, lambda options, widths: HardTags(), HardTags.needs, "cross-entropy against gold tags")
)

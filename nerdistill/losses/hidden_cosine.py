"""Angle between a state of the student and one of the teacher (DistilBERT, Sanh et al. 2019, section 3, L_cos).

Sum over words of ``1 - cos(s, t)``. States are compared as they are, without a map between them, so both must be equally wide.

Deviation: first pieces of words; the published code takes the mean over all pieces, begin and end among them.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES, Batch, LossKind, LossTerm, Widths
from nerdistill.losses.states import StateOptions, find_states
from nerdistill.students.base import ModelOutput


class HiddenCosineOptions(StateOptions):
    """Which states; the last ones of both unless said otherwise."""

    layer: int | None = -1


class HiddenCosine(LossTerm):
    """See the module's docstring.

    Args:
        options: Which states.
        widths: Of both.

    Raises:
        ConfigError: They are not equally wide, or not there.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"teacher_hidden"})

    def __init__(self, options: HiddenCosineOptions, widths: Widths) -> None:
        super().__init__()
        self.state, self.index = find_states(options, widths)
        if widths.student[self.state] != widths.teacher:
            raise ConfigError(
                f"a loss compares the angle of states, but the student's has width {widths.student[self.state]} and the teacher's "
                f"{widths.teacher}; give the student the teacher's width, or leave that loss out"
            )

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_hidden`` ``[B, W, L, D]``."""
        student, teacher = output.hidden[self.state].float(), batch["teacher_hidden"][:, :, self.index].detach().float()
        distance = 1.0 - F.cosine_similarity(student, teacher, dim=-1)
        return distance.masked_fill(~self.mask(batch), 0.0).sum()


LOSSES.register("hidden_cosine")(
    LossKind(HiddenCosineOptions, HiddenCosine, HiddenCosine.needs, "angle to a teacher layer of the same width")
)

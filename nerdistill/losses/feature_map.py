"""Feature-map transfer (MobileBERT, Sun et al. 2020, section 3.5; the terms and the ratio of their weights from the published code).

Sum over words of

    mean_n (z(t)_n - z(s)_n)^2  +  mean * (m(t) - m(s))^2  +  variance * |v(t) - v(s)|

over the N features, where s is a state of the student and t one of the teacher, m and v are mean and (biased) variance of a word's
features, and z(x) = (x - m(x)) / sqrt(v(x) + 1e-5). The paper's formula is mean_n (t_n - s_n)^2, which it splits thus in practice.
The published weights are 100, 5000 and 5; the default weights are their ratios, so a term of weight 100 is the published one.

Where student and teacher states are equally wide they are compared as they are, the point of an inverted-bottleneck teacher. Otherwise
the student's goes through a linear map that is dropped with the stage, as in ``hidden_mse``.

Deviations: words, at their first pieces, in place of all positions with padding among them. Each word's statistics are compared with those
of the same teacher layer; the first published code compares them with those of all layers.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nerdistill.losses.base import LOSSES, Batch, LossKind, Widths
from nerdistill.losses.states import STATES_VERSION, StateOptions, StateTerm
from nerdistill.students.base import ModelOutput


class FeatureMapOptions(StateOptions):
    """Which states, and what the statistics weigh beside the normalised features.

    Attributes:
        mean: Weight of the means' squared distance.
        variance: Weight of the variances' distance.
    """

    mean: float = Field(default=50.0, ge=0)
    variance: float = Field(default=0.05, ge=0)


class FeatureMap(StateTerm):
    """See the module's docstring."""

    def __init__(self, options: FeatureMapOptions, widths: Widths) -> None:
        super().__init__(options, widths)
        if widths.student[options.state] == widths.teacher:
            self.pair.register_module("adapter", nn.Identity())
        self.options = options

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `LossTerm.forward`; reads ``teacher_hidden`` ``[B, W, L, D]``."""
        student, teacher = self.pair(output, batch)
        features = (_normalised(student) - _normalised(teacher)).square().mean(dim=-1)
        means = (student.mean(dim=-1) - teacher.mean(dim=-1)).square()
        variances = (student.var(dim=-1, correction=0) - teacher.var(dim=-1, correction=0)).abs()
        distance: Tensor = features + self.options.mean * means + self.options.variance * variances
        return distance.masked_fill(~self.mask(batch), 0.0).sum()


def _normalised(states: Tensor) -> Tensor:
    return F.layer_norm(states, states.shape[-1:])


LOSSES.register("feature_map")(
    LossKind(
        FeatureMapOptions,
        FeatureMap,
        FeatureMap.needs,
        "distance to a teacher layer's normalised features, means and variances",
        STATES_VERSION,
    )
)

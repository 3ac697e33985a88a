"""XtremeDistil (Mukherjee and Awadallah, ACL 2020, arXiv 2004.05686): three stages, each with gradual unfreezing.

1. representation: the student's last state learns one inner layer of the teacher, on transfer text (section 3.3, L_RL);
2. logits: the teacher's logits, on transfer text (L_LL);
3. labels: gold tags, on labelled sentences (L_CE).

In a stage the head learns first, then head and projection, then also the BiLSTM, then everything, the best weights on dev restored after
each (algorithm 1). With ``unfreeze = false`` and all three stages this is the paper's D4.1, with it D4.2.

Deviations:

- The first stage trains everything at once, as all versions of the published code do, unless ``unfreeze_representation`` is set; the
  paper's listing unfreezes there too.
- Stage 2 can match distributions (``soft_tags``) in place of logits.
- One head for stages 2 and 3, as in the later code; the paper's formulas, and its first code, start a new one.
- By default stage 1 and the parts of a stage before its last run a fixed number of epochs; only the last parts stop early. The rate falls
  to zero once in each part, without restarts, after a warm-up; gradients are clipped; a batch is so many words (the paper: 512 sentences
  of 32 pieces), and no sentence is cut at 32 pieces.
- Weights are chosen on dev or held-out transfer text, never on test as the published code does.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nerdistill.recipes.base import RECIPES, Optimisation, RecipeKind, Stage, Term, unfreeze
from nerdistill.students.base import Options

_FIRST = Optimisation(epochs=4, learning_rate=2e-3)
_OPENING = Optimisation(epochs=1, learning_rate=2e-3)
_LAST = Optimisation(epochs=10, learning_rate=2e-3, patience=3)
_LABEL_OPENING = Optimisation(epochs=2, learning_rate=5e-4, batch=2048)
_LABEL_LAST = Optimisation(epochs=6, learning_rate=5e-4, batch=2048, patience=3)


class XtremeDistilOptions(Options):
    """What can be chosen.

    Attributes:
        representation: Steps of stage 1; None leaves it out.
        logits: Steps of stage 2 with everything open.
        logits_opening: Steps of its earlier parts.
        logit_loss: ``logit_mse`` as in the paper, or ``soft_tags``.
        temperature: Of ``soft_tags``.
        labels: Steps of stage 3 with everything open; None leaves it out.
        labels_opening: Steps of its earlier parts.
        unfreeze: Open groups one by one in stages 2 and 3.
        unfreeze_representation: Also in stage 1.
    """

    representation: Optimisation | None = _FIRST
    logits: Optimisation = _LAST
    logits_opening: Optimisation = _OPENING
    logit_loss: Literal["logit_mse", "soft_tags"] = "logit_mse"
    temperature: float = Field(default=1.0, gt=0)
    labels: Optimisation | None = _LABEL_LAST
    labels_opening: Optimisation = _LABEL_OPENING
    unfreeze: bool = True
    unfreeze_representation: bool = False


def plan(options: XtremeDistilOptions, groups: tuple[str, ...]) -> tuple[Stage, ...]:
    """Stages for a student with these groups, head first."""
    stages: tuple[Stage, ...] = ()
    if options.representation is not None:
        below = groups[1:]
        first = Stage(
            name="representation",
            text="transfer",
            terms=(Term(loss="hidden_mse"),),
            trainable=below,
            optimisation=options.representation,
            select="held_out_loss",
        )
        stages += unfreeze(first, below, options.representation) if options.unfreeze_representation else (first,)
    loss_options: dict[str, Any] = {"temperature": options.temperature} if options.logit_loss == "soft_tags" else {}
    term = Term(loss=options.logit_loss, options=loss_options)
    second = Stage(name="logits", text="transfer", terms=(term,), trainable=groups, optimisation=options.logits)
    stages += unfreeze(second, groups, options.logits_opening) if options.unfreeze else (second,)
    if options.labels is not None:
        third = Stage(name="labels", text="labelled", terms=(Term(loss="hard_tags"),), trainable=groups, optimisation=options.labels)
        stages += unfreeze(third, groups, options.labels_opening) if options.unfreeze else (third,)
    return stages


RECIPES.register("xtremedistil")(
    RecipeKind(
        XtremeDistilOptions,
        plan,
        "representation, logits, labels, with gradual unfreezing",
        "Mukherjee and Awadallah 2020, arXiv 2004.05686",
    )
)

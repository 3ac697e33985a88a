"""No teacher: the student learns from gold tags alone (D0-S of XtremeDistil). The baseline that a distilled student must beat."""

from __future__ import annotations

from nerdistill.recipes.base import RECIPES, Optimisation, Pair, RecipeKind, Stage, Term
from nerdistill.students.base import Options


class LabelsOnlyOptions(Options):
    """Steps and stopping.

    Attributes:
        labels: As in `Optimisation`.
    """

    labels: Optimisation = Optimisation(epochs=40, learning_rate=2e-3, batch=1024)


def plan(options: LabelsOnlyOptions, pair: Pair) -> tuple[Stage, ...]:
    """One stage, everything open."""
    return (Stage(name="labels", text="labelled", terms=(Term(loss="hard_tags"),), trainable=pair.groups, optimisation=options.labels),)


RECIPES.register("labels_only")(
    RecipeKind(LabelsOnlyOptions, plan, "gold tags alone, no teacher: the baseline", "Mukherjee and Awadallah 2020, D0-S")
)

"""The teacher's probabilities first, gold tags afterwards."""

from __future__ import annotations

from nerdistill.recipes.base import RECIPES, Optimisation, Pair, RecipeKind, Stage, Term
from nerdistill.students.base import Options


class ToyTwoStepsOptions(Options):
    """Steps of both."""

    steps: Optimisation = Optimisation(epochs=10, learning_rate=1e-2)


def plan(options: ToyTwoStepsOptions, pair: Pair) -> tuple[Stage, ...]:
    """Two stages, everything open."""
    first = Stage(name="teacher", text="transfer", terms=(Term(loss="toy_brier"),), trainable=pair.groups, optimisation=options.steps)
    return first, first.model_copy(update={"name": "labels", "text": "labelled", "terms": (Term(loss="hard_tags"),)})


RECIPES.register("toy_two_steps")(RecipeKind(ToyTwoStepsOptions, plan, "probabilities, then gold tags", "none"))

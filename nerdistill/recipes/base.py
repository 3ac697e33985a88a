"""What a recipe is, and how one is added.

A recipe is one file in this folder: an options model and a function from options, and what is known of student and teacher, to stages. It
holds no loop and touches no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError

from nerdistill.errors import ConfigError, faults_of
from nerdistill.registry import Registry
from nerdistill.students.base import Options
from nerdistill.training.stage import Optimisation, Stage, Term


@dataclass(frozen=True)
class Pair:
    """What a recipe is told of student and teacher.

    Attributes:
        groups: Names of the student's groups, head first.
        student_layers: Attention layers of the student; 0 for one without attention.
        teacher_layers: Of the teacher.
    """

    groups: tuple[str, ...]
    student_layers: int = 0
    teacher_layers: int = 12


@dataclass(frozen=True)
class RecipeKind:
    """A registered recipe.

    Attributes:
        options: Options model.
        plan: From options, student and teacher to stages in order.
        summary: One line for listings.
        paper: Where it is from.
    """

    options: type[Options]
    plan: Callable[[Any, Pair], tuple[Stage, ...]]
    summary: str
    paper: str


def _as_weight(given: Any) -> Any:
    if given is True:
        raise ValueError("expected the loss's weight, or false to leave it out")
    return 0.0 if given is False else given


OrNone: TypeAlias = Annotated[Optimisation | None, BeforeValidator(lambda given: None if given is False else given)]
"""Steps of a stage that can be left out: None, or ``false`` in TOML, which has no null."""

Weight: TypeAlias = Annotated[float, Field(ge=0), BeforeValidator(_as_weight)]
"""Of a loss; 0, or ``false``, leaves it out."""

LogitLoss: TypeAlias = Literal["logit_mse", "soft_tags"]

RECIPES: Registry[RecipeKind] = Registry("recipe", "nerdistill.recipes")


def plan_recipe(name: str, options: Mapping[str, Any], pair: Pair) -> tuple[Stage, ...]:
    """The stages of a registered recipe.

    Raises:
        ConfigError: There is no such recipe, or its options are wrong.
    """
    kind = RECIPES.get(name)
    try:
        return kind.plan(kind.options.model_validate(dict(options)), pair)
    except ValidationError as error:
        raise ConfigError(f"recipe '{name}': {'; '.join(faults_of(error, 'recipe.options'))}") from error


def logit_term(loss: LogitLoss, temperature: float, weight: float = 1.0) -> Term:
    """The teacher's logits by ``logit_mse``, or by ``soft_tags`` at a temperature."""
    return Term(loss=loss, weight=weight, options={"temperature": temperature} if loss == "soft_tags" else {})


def unfreeze(stage: Stage, groups: Sequence[str], opening: Optimisation) -> tuple[Stage, ...]:
    """A stage once for each number of open groups: the head, then head and projection, and so on down to the embeddings.

    Args:
        stage: The last one, with everything open.
        groups: Head first.
        opening: Steps of those before it.
    """
    early = [
        stage.model_copy(update={"name": f"{stage.name}-{groups[n - 1]}", "trainable": tuple(groups[:n]), "optimisation": opening})
        for n in range(1, len(groups))
    ]
    return (*early, stage.model_copy(update={"name": f"{stage.name}-{groups[-1]}"}))


__all__ = ["RECIPES", "LogitLoss", "Optimisation", "OrNone", "Pair", "RecipeKind", "Stage", "Term", "logit_term", "plan_recipe", "unfreeze"]

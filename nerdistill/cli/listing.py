"""``nerdistill recipes``, ``students`` and ``plan``: what there is, and what a configuration would do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nerdistill.errors import MissingExtraError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def recipes(as_json: Json = False) -> None:
    """List the recipes with their papers and options."""
    _needs_torch()
    from nerdistill.recipes.base import RECIPES

    kinds = {name: RECIPES.get(name) for name in RECIPES}
    rows = [{"name": n, "summary": k.summary, "paper": k.paper, "defaults": k.options().model_dump()} for n, k in kinds.items()]
    _show(rows, as_json)


def students(as_json: Json = False) -> None:
    """List the students with their options."""
    _needs_torch()
    from nerdistill.students.base import STUDENTS

    kinds = {name: STUDENTS.get(name) for name in STUDENTS}
    _show([{"name": n, "summary": k.summary, "defaults": k.options().model_dump()} for n, k in kinds.items()], as_json)


def plan(
    config: Annotated[Path, typer.Argument(help="TOML file.", show_default=False)],
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")] = None,
    as_json: Json = False,
) -> None:
    """Print the stages of a configuration's recipe: text, loss, what trains, when it stops."""
    from nerdistill.config import load_config

    settings = load_config(config, overrides or ())
    _needs_torch()
    from nerdistill.steps.distill import plan_of

    stages = plan_of(settings, settings.recipe.name, settings.recipe.options)
    if as_json:
        print(json.dumps([stage.model_dump() for stage in stages]))  # noqa: T201
        return
    for number, stage in enumerate(stages, start=1):
        steps = stage.optimisation
        loss = " + ".join(f"{term.weight:g} x {term.loss}" for term in stage.terms)
        patience = f", patience {steps.patience}" if steps.patience else ""
        print(f"{number:>2} {stage.name}")  # noqa: T201
        teacher = "" if stage.text == "labelled" else f" ({stage.teacher} teacher)"
        print(f"     text {stage.text}{teacher}, loss {loss}, trains {' '.join(stage.trainable)}")  # noqa: T201
        print(f"     up to {steps.epochs} epochs at {steps.learning_rate:g} ({steps.schedule}){patience}, keeps {stage.select}")  # noqa: T201


def _needs_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("training", "train", "torch") from error


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))  # noqa: T201
        return
    for row in rows:
        print(f"{row['name']:<16} {row['summary']}" + (f"  [{row['paper']}]" if "paper" in row else ""))  # noqa: T201
        for key, value in row["defaults"].items():
            print(f"    {key} = {json.dumps(value)}")  # noqa: T201

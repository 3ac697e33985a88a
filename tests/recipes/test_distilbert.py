"""The plan of DistilBERT: which losses, on which text, from which teacher."""

from __future__ import annotations

from typing import Any

import pytest

from nerdistill.errors import ConfigError
from nerdistill.recipes.base import Pair, Stage, plan_recipe

GROUPS = ("head", "layer_2", "layer_1", "embeddings")


def planned(**options: Any) -> dict[str, Stage]:
    return {stage.name: stage for stage in plan_recipe("distilbert", options, Pair(GROUPS, 2, 12))}


def weights(stage: Stage) -> dict[str, float]:
    return {term.loss: term.weight for term in stage.terms}


def test_it_is_the_papers() -> None:
    """The weights were published wrongly once, and results with those were two points short; a temperature must reach both divergences."""
    stages = planned()
    assert list(stages) == ["general", "task"]
    general, task = stages.values()
    assert (general.teacher, general.text, general.select, general.trainable) == ("general", "transfer", "held_out_loss", GROUPS[1:])
    assert weights(general) == {"soft_pieces": 5.0, "masked_lm": 2.0, "hidden_cosine": 1.0}
    assert (task.teacher, task.text, task.select, task.trainable) == ("live", "both", "dev_f1", GROUPS)
    assert weights(task) == {"soft_tags": 5.0, "hard_tags": 2.0, "hidden_cosine": 1.0}
    for temperature, made in ((2.0, stages), (3.0, planned(temperature=3.0))):
        soft = [term.options for stage in made.values() for term in stage.terms if term.loss.startswith("soft")]
        assert soft == [{"temperature": temperature}] * 2


@pytest.mark.parametrize(
    ("option", "stage", "loss"),
    [
        ("soft_pieces", "general", "soft_pieces"),
        ("masked_lm", "general", "masked_lm"),
        ("cosine", "general", "hidden_cosine"),
        ("soft_tags", "task", "soft_tags"),
        ("hard_tags", "task", "hard_tags"),
        ("task_cosine", "task", "hidden_cosine"),
    ],
)
def test_each_loss_can_be_left_out(option: str, stage: str, loss: str) -> None:
    """An ablation that leaves out another loss than it says, or two, measures something else."""
    whole = planned()
    for nothing in (False, 0):
        less = planned(**{option: nothing})
        assert {**weights(less[stage]), loss: weights(whole[stage])[loss]} == weights(whole[stage])
        assert loss not in weights(less[stage])
        other = "task" if stage == "general" else "general"
        assert less[other] == whole[other]
    assert weights(planned(**{option: 0.25})[stage])[loss] == 0.25


@pytest.mark.parametrize(
    ("options", "text", "teacher"),
    [
        ({}, "both", "live"),
        ({"task_cosine": False}, "both", "stored"),
        ({"hard_tags": False}, "transfer", "live"),
        ({"hard_tags": False, "task_cosine": False}, "transfer", "stored"),
        ({"soft_tags": False}, "both", "live"),
        ({"soft_tags": False, "task_cosine": False}, "labelled", "stored"),
    ],
)
def test_the_task_reads_what_its_losses_need(options: dict[str, Any], text: str, teacher: str) -> None:
    """A teacher that reads along for nothing costs fifty times the step; text without a target for any loss is read for nothing."""
    task = planned(general=False, **options)["task"]
    assert (task.text, task.teacher) == (text, teacher)


@pytest.mark.parametrize(
    ("options", "layers", "message"),
    [
        ({}, 0, "student.kind = 'transformer'"),
        ({"soft_pieces": False, "masked_lm": False, "cosine": False}, 2, r"nothing to learn; set recipe\.options\.general = false"),
        ({"soft_tags": False, "hard_tags": False}, 2, "no loss teaches the head"),
        ({"masked_lm": True}, 2, r"recipe\.options\.masked_lm: .*weight, or false"),
        ({"cosine": -1}, 2, r"recipe\.options\.cosine"),
        ({"temperature": 0}, 2, r"recipe\.options\.temperature"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], layers: int, message: str) -> None:
    """``true`` taken for a weight of 1 would change the balance; a stage without losses would fail when it starts."""
    with pytest.raises(ConfigError, match=message):
        plan_recipe("distilbert", options, Pair(GROUPS, layers, 12))

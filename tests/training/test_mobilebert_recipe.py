"""The recipe `mobilebert`: its strategies are the paper's, and its stages open, weigh and pace what they say."""

from __future__ import annotations

from typing import Any

import pytest

from nerdistill.errors import ConfigError
from nerdistill.recipes.base import Pair, plan_recipe
from nerdistill.training.stage import Stage

GROUPS = ("head", "layer_4", "layer_3", "layer_2", "layer_1", "embeddings")


def plan(options: dict[str, Any] | None = None, students: int = 4, teachers: int = 4) -> tuple[Stage, ...]:
    groups = ("head", *(f"layer_{number}" for number in range(students, 0, -1)), "embeddings")
    return plan_recipe("mobilebert", options or {}, Pair(groups, students, teachers))


def matched(stage: Stage, loss: str) -> list[tuple[int, int]]:
    return [(term.options["state"], term.options["layer"]) for term in stage.terms if term.loss == loss]


def test_progressive_is_the_papers() -> None:
    """Prevents stages out of order, an upper block that moves, a lower one at the full rate, or another block's target."""
    stages = plan()
    assert [stage.name for stage in stages] == ["block-1", "block-2", "block-3", "block-4", "prediction", "labels"]
    for number, stage in enumerate(stages[:4], start=1):
        assert (stage.text, stage.teacher, stage.select) == ("transfer", "assistant", "held_out_loss")
        assert matched(stage, "feature_map") == [(number, number)]
        assert matched(stage, "attention_kl") == [(number - 1, number - 1)]
        assert stage.trainable == GROUPS[5 - number :]
        below = GROUPS[6 - number :] if number > 1 else ()
        assert stage.rates == dict.fromkeys(below, 0.1)
        assert stage.optimisation.epochs * 4 == 3
        assert [term.weight for term in stage.terms] == [100.0, 1.0]
        assert stage.terms[0].options | {"mean": 50.0, "variance": 0.05} == stage.terms[0].options
    assert all(not stage.rates and stage.trainable == GROUPS for stage in stages[4:])


def test_lower_blocks_can_be_frozen_and_so_can_embeddings() -> None:
    """Prevents a rate of 0 that is refused or ignored, and embeddings that move though their teacher's were handed down."""
    stages = plan({"lower": 0})
    assert [stage.trainable for stage in stages[:4]] == [GROUPS[4:], GROUPS[3:4], GROUPS[2:3], GROUPS[1:2]]
    assert not any(stage.rates for stage in stages)
    stages = plan({"freeze_embeddings": True})
    assert [stage.trainable for stage in stages[:4]] == [GROUPS[4:5], GROUPS[3:5], GROUPS[2:5], GROUPS[1:5]]
    assert [stage.rates for stage in stages[:2]] == [{}, {"layer_1": 0.1}]
    assert stages[-1].trainable == GROUPS
    assert not any(stage.rates for stage in plan({"lower": 1}))


def test_joint_and_auxiliary_are_the_papers() -> None:
    """Prevents a comparison of strategies in which they differ in more than the order: targets, weights or number of steps."""
    joint = plan({"strategy": "joint"})
    assert [stage.name for stage in joint] == ["transfer", "prediction", "labels"]
    pairs = [(number, number) for number in range(1, 5)]
    assert matched(joint[0], "feature_map") == pairs
    assert matched(joint[0], "attention_kl") == [(mine - 1, theirs - 1) for mine, theirs in pairs]
    assert [term.weight for term in joint[0].terms] == [25.0, 0.25] * 4
    assert (joint[0].trainable, joint[0].rates, joint[0].optimisation.epochs) == (GROUPS[1:], {}, 3)
    auxiliary = plan({"strategy": "auxiliary"})
    assert [stage.name for stage in auxiliary] == ["auxiliary", "labels"]
    assert auxiliary[0].terms == joint[0].terms + joint[1].terms
    assert (auxiliary[0].teacher, auxiliary[0].text, auxiliary[0].trainable) == ("assistant", "both", GROUPS)
    progressive = plan()
    assert joint[1:] == progressive[4:]
    epochs = [sum(stage.optimisation.epochs for stage in stages[:-1]) for stages in (auxiliary, joint, progressive)]
    assert epochs == [epochs[0]] * 3


def test_outputs_are_mixed_with_gold_tags() -> None:
    """Prevents a share of gold that reaches no loss, or labelled text that is read for nothing."""
    for strategy in ("progressive", "auxiliary"):
        (stage,) = [stage for stage in plan({"strategy": strategy, "gold": 0.25}) if stage.name in ("prediction", "auxiliary")]
        assert [(term.loss, term.weight) for term in stage.terms[-2:]] == [("soft_tags", 0.75), ("hard_tags", 0.25)]
        (stage,) = [stage for stage in plan({"strategy": strategy, "gold": 0}) if stage.name in ("prediction", "auxiliary")]
        assert (stage.text, stage.terms[-1].loss, stage.terms[-1].weight) == ("transfer", "soft_tags", 1.0)


@pytest.mark.parametrize(
    ("students", "teachers", "pairs"),
    [(4, 12, [(1, 3), (2, 6), (3, 9), (4, 12)]), (3, 4, [(1, 1), (2, 3), (3, 4)]), (4, 2, [(2, 1), (4, 2)]), (6, 1, [(6, 1)])],
)
def test_other_depths_are_matched_evenly(students: int, teachers: int, pairs: list[tuple[int, int]]) -> None:
    """Prevents a deeper teacher of which only the lower layers are learnt, and blocks between two targets that never open."""
    stages = plan({"teacher": "live"}, students, teachers)[: len(pairs)]
    assert [matched(stage, "feature_map") for stage in stages] == [[pair] for pair in pairs]
    assert {stage.teacher for stage in stages} == {"live"}
    full = [[name for name in stage.trainable if name not in stage.rates] for stage in stages]
    assert [name for part in reversed(full) for name in part] == [f"layer_{number}" for number in range(students, 0, -1)] + ["embeddings"]


def test_parts_can_be_left_out() -> None:
    """Prevents an ablation that is not what it is called."""
    assert {term.loss for stage in plan({"attention": False})[:4] for term in stage.terms} == {"feature_map"}
    assert {term.loss for stage in plan({"features": False})[:4] for term in stage.terms} == {"attention_kl"}
    assert [stage.name for stage in plan({"strategy": "joint", "prediction": False})] == ["transfer", "labels"]
    assert [stage.name for stage in plan({"strategy": "joint", "labels": False})] == ["transfer", "prediction"]
    stage = plan({"strategy": "joint", "features": 8, "attention": 3, "mean": 0, "variance": 2})[0]
    assert (stage.terms[0].weight, stage.terms[0].options["mean"], stage.terms[0].options["variance"]) == (2.0, 0.0, 2.0)
    assert stage.terms[1].weight == 0.75


@pytest.mark.parametrize(
    ("options", "students", "message"),
    [
        ({}, 0, "student.kind = 'mobilebert'"),
        ({"features": False, "attention": False}, 4, "nothing to transfer"),
        ({"prediction": False, "labels": False}, 4, "no stage teaches the head"),
        ({"prediction": False, "strategy": "auxiliary"}, 4, "take 'joint'"),
        ({"gold": 1}, 4, r"recipe\.options\.gold"),
        ({"lower": 2}, 4, r"recipe\.options\.lower"),
    ],
)
def test_refuses_what_does_not_fit(options: dict[str, Any], students: int, message: str) -> None:
    """Prevents a run that fails, or learns nothing, after its assistant is made."""
    with pytest.raises(ConfigError, match=message):
        plan(options, students)

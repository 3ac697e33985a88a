"""A stage of a recipe, as data: what text, which loss, which weights learn, when to stop."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nerdistill.students.base import Options


class Term(Options):
    """A loss term with its weight."""

    loss: str
    weight: float = Field(default=1.0, gt=0)
    options: dict[str, Any] = Field(default_factory=dict)


class Optimisation(Options):
    """How a stage takes its steps.

    Attributes:
        learning_rate: At its peak.
        schedule: Shape of the decay from the peak to zero over all steps.
        warmup: Fraction of the steps in which the rate rises from zero.
        weight_decay: Of AdamW, on weights with two or more axes.
        clip: Largest norm of the gradient.
        batch: Padded words (students over words) or pieces in one forward pass.
        accumulate: Forward passes in one optimiser step.
        epochs: Passes over the text, at most; on much text a part of one may do.
        patience: Evaluations without a better score before stopping; 0 never stops early.
        evaluations: Evaluations in one epoch.
    """

    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    batch: int = Field(default=4096, ge=1)
    accumulate: int = Field(default=1, ge=1)
    epochs: float = Field(default=1, gt=0)
    patience: int = Field(default=0, ge=0)
    evaluations: int = Field(default=1, ge=1)


class Stage(Options):
    """One stage.

    Attributes:
        name: Unique in its plan; names a folder.
        text: Labelled sentences, transfer text with the teacher's signals, or both mixed.
        teacher: ``stored`` reads the signals on disk. ``live`` lets the teacher read along, which gives every layer and its attention.
            ``general`` does so with the teacher as it was before fine-tuning, ``assistant`` has states and attention of the run's
            assistant, and the tags on disk. The last three need transfer text.
        terms: The loss.
        trainable: Names of the parameter groups that learn, ``("*",)`` for all.
        rates: Group to a share of the learning rate, for groups that do not learn at the full one.
        optimisation: Steps and stopping.
        select: Which weights leave the stage: best by F1 on the labelled dev set, best by this stage's loss on held-out transfer text, or
            last.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9+_-]*$")
    text: Literal["labelled", "transfer", "both"]
    teacher: Literal["stored", "live", "general", "assistant"] = "stored"
    terms: tuple[Term, ...] = Field(min_length=1)
    trainable: tuple[str, ...] = ("*",)
    rates: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    optimisation: Optimisation = Optimisation()
    select: Literal["dev_f1", "held_out_loss", "last"] = "dev_f1"

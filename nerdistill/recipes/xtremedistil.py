"""XtremeDistil (Mukherjee and Awadallah, ACL 2020, arXiv 2004.05686): what the student learns, in which order, opened how.

Three losses: the student's last state learns one inner layer of the teacher on transfer text (representation; section 3.3, L_RL), its
output the teacher's logits there (logits; L_LL), and gold tags on labelled sentences (labels; L_CE). The strategies that it compares:

========  ==================================================================================================
D0        labels; one student for each language
D0-S      labels; one student for all languages
D1        labels and logits at once
D2        labels, logits and representation at once
D3.1      representation, then labels and logits at once
D3.2      the same with gradual unfreezing
D4.1      representation, then logits, then labels
D4.2      the same with gradual unfreezing: the proposed method, and the default
========  ==================================================================================================

With gradual unfreezing the head learns first, then head and projection, then also the BiLSTM, then everything, the best weights on dev
restored after each (algorithm 1).

Deviations:

- The first stage trains everything at once, as all versions of the published code do, unless ``unfreeze_representation`` is set; the
  paper's listing unfreezes there too.
- The logits can be matched as distributions at a temperature (``soft_tags``) in place of squared distances, the representation too
  (``hidden_kl``).
- One head for logits and labels, as in the later code; the paper's formulas, and its first code, start a new one.
- By default the representation and the parts of a stage before its last run a fixed number of epochs; only the last parts stop early. The
  rate falls to zero once in each part, without restarts, after a warm-up; gradients are clipped; a batch is so many words (the paper: 512
  sentences of 32 pieces), and no sentence is cut at 32 pieces.
- Where losses are joint, labelled and transfer sentences are mixed in each batch in proportion to the text, and each loss is the mean over
  the words that have its target.
- Weights are chosen on dev or held-out transfer text, never on test as the published code does.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nerdistill.errors import ConfigError
from nerdistill.recipes.base import RECIPES, LogitLoss, Optimisation, OrNone, Pair, RecipeKind, Stage, Term, logit_term, unfreeze
from nerdistill.students.base import Options

_FIRST = Optimisation(epochs=4, learning_rate=2e-3)
_OPENING = Optimisation(epochs=1, learning_rate=2e-3)
_LAST = Optimisation(epochs=10, learning_rate=2e-3, patience=3)
_LABEL_OPENING = Optimisation(epochs=2, learning_rate=5e-4, batch=2048)
_LABEL_LAST = Optimisation(epochs=6, learning_rate=5e-4, batch=2048, patience=3)

Strategy = Literal["D0", "D0-S", "D1", "D2", "D3.1", "D3.2", "D4.1", "D4.2"]


class XtremeDistilOptions(Options):
    """What can be chosen.

    Attributes:
        strategy: As the paper numbers them; see the module's docstring.
        representation: Steps of the representation stage (D3, D4); false leaves it out.
        representation_loss: ``hidden_mse`` or ``hidden_kl``.
        layer: Teacher layer that is learnt; None takes the first that is stored.
        logits: Steps with everything open of the logits stage (D4), or of the joint one (D1 to D3).
        logits_opening: Steps of its earlier parts.
        logit_loss: ``logit_mse`` as in the paper, or ``soft_tags``.
        temperature: Of ``soft_tags``.
        labels: Steps with everything open of the label stage (D0, D4); false leaves it out.
        labels_opening: Steps of its earlier parts.
        label_weight: Of the labels where losses are joint; the paper's alpha.
        logit_weight: Of the logits there; its gamma.
        representation_weight: Of the representation there; its beta.
        unfreeze_representation: Also unfreeze gradually in the representation stage.
    """

    strategy: Strategy = "D4.2"
    representation: OrNone = _FIRST
    representation_loss: Literal["hidden_mse", "hidden_kl"] = "hidden_mse"
    layer: int | None = None
    logits: Optimisation = _LAST
    logits_opening: Optimisation = _OPENING
    logit_loss: LogitLoss = "logit_mse"
    temperature: float = Field(default=1.0, gt=0)
    labels: OrNone = _LABEL_LAST
    labels_opening: Optimisation = _LABEL_OPENING
    label_weight: float = Field(default=1.0, gt=0)
    logit_weight: float = Field(default=1.0, gt=0)
    representation_weight: float = Field(default=1.0, gt=0)
    unfreeze_representation: bool = False


def plan(options: XtremeDistilOptions, pair: Pair) -> tuple[Stage, ...]:
    """Stages for a student.

    Raises:
        ConfigError: A strategy is asked for without a stage that it is made of.
    """
    groups = pair.groups
    family, gradual = options.strategy[:2], options.strategy.endswith(".2")
    if family == "D0" and options.labels is None:
        raise ConfigError(f"strategy {options.strategy} is the labels alone, and recipe.options.labels is left out")
    first = _representation(options, groups) if family in ("D3", "D4") else ()
    if family == "D0":
        return _opened("labels", "labelled", (_labels(),), groups, options.labels, None)
    if family != "D4":
        terms = [_labels(options.label_weight), logit_term(options.logit_loss, options.temperature, options.logit_weight)]
        terms += [_hidden(options, options.representation_weight)] if family == "D2" else []
        return first + _opened("joint", "both", tuple(terms), groups, options.logits, options.logits_opening if gradual else None)
    logits = logit_term(options.logit_loss, options.temperature)
    second = _opened("logits", "transfer", (logits,), groups, options.logits, options.logits_opening if gradual else None)
    third = _opened("labels", "labelled", (_labels(),), groups, options.labels, options.labels_opening if gradual else None)
    return first + second + third


def _labels(weight: float = 1.0) -> Term:
    return Term(loss="hard_tags", weight=weight)


def _hidden(options: XtremeDistilOptions, weight: float = 1.0) -> Term:
    return Term(loss=options.representation_loss, weight=weight, options={"layer": options.layer})


def _representation(options: XtremeDistilOptions, groups: tuple[str, ...]) -> tuple[Stage, ...]:
    """Everything but the head, which no state passes through."""
    if options.representation is None:
        return ()
    below = groups[1:]
    stage = Stage(
        name="representation", text="transfer", terms=(_hidden(options),), trainable=below, optimisation=options.representation,
        select="held_out_loss",
    )  # fmt: skip
    return unfreeze(stage, below, options.representation) if options.unfreeze_representation else (stage,)


def _opened(
    name: str,
    text: Literal["labelled", "transfer", "both"],
    terms: tuple[Term, ...],
    groups: tuple[str, ...],
    last: Optimisation | None,
    opening: Optimisation | None,
) -> tuple[Stage, ...]:
    """A stage with everything open, after its gradual openings if there are steps for them; nothing if there are none for itself."""
    if last is None:
        return ()
    stage = Stage(name=name, text=text, terms=terms, trainable=groups, optimisation=last)
    return (stage,) if opening is None else unfreeze(stage, groups, opening)


RECIPES.register("xtremedistil")(
    RecipeKind(
        XtremeDistilOptions,
        plan,
        "representation, logits, labels, with gradual unfreezing",
        "Mukherjee and Awadallah 2020, arXiv 2004.05686",
    )
)

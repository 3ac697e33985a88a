"""MobileBERT (Sun et al., ACL 2020, arXiv 2004.02984): knowledge transfer block by block, then outputs, then gold tags.

Student and teacher have the same number of blocks and equally wide feature maps between them, so block l learns block l: its feature map
(``feature_map``) and its attention (``attention_kl``), section 3.5. The teacher of that is the run's assistant, in the paper an
inverted-bottleneck network (`nerdistill.students.inverted_bottleneck`). Three strategies (section 3.6):

===========  ==============================================================================================================
auxiliary    all blocks' transfer and the outputs at once
joint        all blocks' transfer at once, then the outputs
progressive  block 1's transfer, then block 2's, and so on; then the outputs: the paper's best, and the default
===========  ==============================================================================================================

While block l learns, blocks below it learn at a tenth of its rate, or not at all; those above wait (section 3.6; the tenth is the code's).
Outputs are the teacher's distribution over tags, mixed with gold ones where there are some (L_PD). All strategies take equally many steps.

What is published for pre-training is carried over to tagging here; the deviations:

- The text is the run's transfer text, with tags in place of masked words; there is no next sentence. ``(1 - r) * soft_tags + r *
  hard_tags`` is, but for a constant, the cross-entropy against the published mixture ``(1 - r) * softmax(t) + r * onehot`` with r = 0.5;
  as most text has no gold tag, each of the two is the mean over the words that have its target.
- Outputs are those of the run's teacher, which are stored, and which the assistant itself learnt from; published are the assistant's,
  which here knows less than its teacher.
- Without an inverted-bottleneck teacher, ``teacher = "live"`` takes the run's own: feature maps of another width go through a linear map
  that is dropped with its stage, and of its N layers the student's M blocks learn an even choice, block ``l M / n`` layer ``l N / n`` for
  l = 1 .. n = min(M, N), rounded to the nearest, halves up. An assistant of another depth is taken alike.
- The published student begins with the teacher's embeddings, which do not learn during the transfer, and its head. Here it does where
  ``assistant.hand_down`` names them; ``freeze_embeddings`` is the other half. Otherwise the embeddings learn with block 1, and as the lower
  blocks do from then on.
- Feature maps and attention at first pieces of words. Real words only; the published means include padding.
- The transfer of several blocks weighs as much as that of one: the terms are divided by how many there are, as in the first published code.
- AdamW in place of LAMB, and a new one for each stage. The transfer's rate is constant after a warm-up of a tenth of each stage;
  published is also a slow fall by a tenth. Weights are chosen on held-out transfer text and on dev, where published code keeps the last.
- Steps. Published are 240,000 for the transfer and 500,000 for the outputs, of 2,048 sequences of 512 pieces each. The defaults are for
  text a thousandth of that size and less. As published: progressive stages of equal length, a linear decay of the outputs' rate, and the
  weight decay.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nerdistill.errors import ConfigError
from nerdistill.recipes.base import RECIPES, Optimisation, OrNone, Pair, RecipeKind, Stage, Term, Weight
from nerdistill.students.base import Options

_TRANSFER = Optimisation(epochs=3, learning_rate=1e-3, schedule="constant", warmup=0.1, weight_decay=0.01)
_PREDICTION = Optimisation(epochs=8, learning_rate=1e-3, schedule="linear", warmup=0.1, weight_decay=0.01, patience=3)
_LABELS = Optimisation(epochs=4, learning_rate=1e-4, schedule="linear", warmup=0.1, batch=2048, weight_decay=0.01, patience=2)


class MobileBertOptions(Options):
    """What can be chosen.

    Attributes:
        strategy: ``auxiliary``, ``joint`` or ``progressive``.
        teacher: Who reads along in the transfer, the run's ``assistant`` or, ``live``, its teacher.
        transfer: Steps of the transfer; its epochs are all blocks' together.
        features: Weight of the feature maps in the transfer, or false.
        attention: Weight of the attention in it, or false; needs as many heads as the one has who reads along.
        mean: Weight of the means in it, beside the normalised features.
        variance: Weight of the variances in it.
        lower: Share of the learning rate with which the blocks below go on, ``progressive`` alone; 0 freezes them.
        freeze_embeddings: Leave the embeddings as they start until the transfer is done.
        prediction: Steps of learning the outputs; false leaves it out. With ``auxiliary`` the one stage is run as this says, and the
            epochs of both are added.
        gold: r, share of the gold tags in the outputs' loss; 0 leaves labelled text out.
        labels: Steps of the last stage, gold tags alone; false leaves it out.
    """

    strategy: Literal["auxiliary", "joint", "progressive"] = "progressive"
    teacher: Literal["assistant", "live"] = "assistant"
    transfer: Optimisation = _TRANSFER
    features: Weight = 100.0
    attention: Weight = 1.0
    mean: float = Field(default=50.0, ge=0)
    variance: float = Field(default=0.05, ge=0)
    lower: float = Field(default=0.1, ge=0, le=1)
    freeze_embeddings: bool = False
    prediction: OrNone = _PREDICTION
    gold: float = Field(default=0.5, ge=0, lt=1)
    labels: OrNone = _LABELS


def plan(options: MobileBertOptions, pair: Pair) -> tuple[Stage, ...]:
    """Stages for a student with attention layers, state 0 being its embeddings.

    Raises:
        ConfigError: The student has no such layers; nothing is transferred; no stage teaches the head, or not the one that is asked for.
    """
    if not pair.student_layers:
        raise ConfigError(
            "recipe 'mobilebert' transfers attention layers, which this student has not; take student.kind = 'mobilebert', or another "
            "recipe"
        )
    if not (options.features or options.attention):
        raise ConfigError("recipe 'mobilebert': features and attention are both false, so there is nothing to transfer; leave one true")
    if options.prediction is None and options.labels is None:
        raise ConfigError("recipe 'mobilebert': no stage teaches the head; give recipe.options.prediction or recipe.options.labels")
    if options.strategy == "auxiliary":
        stages = _auxiliary(options, pair)
    else:
        stages = (_joint if options.strategy == "joint" else _progressive)(options, pair) + _prediction(options, pair)
    if options.labels is not None:
        gold = (Term(loss="hard_tags"),)
        stages += (Stage(name="labels", text="labelled", terms=gold, trainable=pair.groups, optimisation=options.labels),)
    return stages


def _matched(pair: Pair) -> tuple[tuple[int, int], ...]:
    """Layers of the student, from 1, and the teacher's that they learn: as many as the shallower has, evenly."""
    mine, theirs = pair.student_layers, pair.teacher_layers
    steps = min(mine, theirs)
    return tuple(((2 * n * mine + steps) // (2 * steps), (2 * n * theirs + steps) // (2 * steps)) for n in range(1, steps + 1))


def _terms(options: MobileBertOptions, matched: tuple[tuple[int, int], ...]) -> tuple[Term, ...]:
    """Feature map and attention of some layers; losses count attention layers from 0."""
    terms = []
    for mine, theirs in matched:
        if options.features:
            more = {"state": mine, "layer": theirs, "mean": options.mean, "variance": options.variance}
            terms.append(Term(loss="feature_map", weight=options.features / len(matched), options=more))
        if options.attention:
            terms.append(
                Term(loss="attention_kl", weight=options.attention / len(matched), options={"state": mine - 1, "layer": theirs - 1})
            )
    return tuple(terms)


def _up_to(options: MobileBertOptions, pair: Pair, layer: int) -> tuple[str, ...]:
    """The groups that may learn during the transfer of a layer: its own and those below it, from the top down, embeddings last."""
    groups = pair.groups[-1 - layer :]
    return groups[:-1] if options.freeze_embeddings else groups


def _progressive(options: MobileBertOptions, pair: Pair) -> tuple[Stage, ...]:
    matched = _matched(pair)
    steps = options.transfer.model_copy(update={"epochs": options.transfer.epochs / len(matched)})
    stages, done = [], 0
    for number, (mine, theirs) in enumerate(matched, start=1):
        opened = _up_to(options, pair, mine)
        new = opened[: mine - done] if done else opened  # the embeddings learn with the first
        rates = {name: options.lower for name in opened[len(new) :]} if 0 < options.lower < 1 else {}
        stages.append(
            Stage(
                name=f"block-{number}", text="transfer", teacher=options.teacher, terms=_terms(options, ((mine, theirs),)),
                trainable=opened if options.lower else new, rates=rates, optimisation=steps, select="held_out_loss",
            )
        )  # fmt: skip
        done = mine
    return tuple(stages)


def _joint(options: MobileBertOptions, pair: Pair) -> tuple[Stage, ...]:
    return (
        Stage(
            name="transfer", text="transfer", teacher=options.teacher, terms=_terms(options, _matched(pair)),
            trainable=_up_to(options, pair, pair.student_layers), optimisation=options.transfer, select="held_out_loss",
        ),
    )  # fmt: skip


def _auxiliary(options: MobileBertOptions, pair: Pair) -> tuple[Stage, ...]:
    if options.prediction is None:
        raise ConfigError(
            "recipe 'mobilebert': strategy 'auxiliary' is transfer and outputs at once; give recipe.options.prediction, or take 'joint'"
        )
    steps = options.prediction.model_copy(update={"epochs": options.transfer.epochs + options.prediction.epochs})
    text, outputs = _outputs(options)
    terms = _terms(options, _matched(pair)) + outputs
    trainable = pair.groups[:-1] if options.freeze_embeddings else pair.groups
    return (Stage(name="auxiliary", text=text, teacher=options.teacher, terms=terms, trainable=trainable, optimisation=steps),)


def _prediction(options: MobileBertOptions, pair: Pair) -> tuple[Stage, ...]:
    """The outputs, everything open."""
    if options.prediction is None:
        return ()
    text, terms = _outputs(options)
    return (Stage(name="prediction", text=text, terms=terms, trainable=pair.groups, optimisation=options.prediction),)


def _outputs(options: MobileBertOptions) -> tuple[Literal["both", "transfer"], tuple[Term, ...]]:
    """The text that the outputs are learnt on, and the loss."""
    soft = Term(loss="soft_tags", weight=1 - options.gold)
    return ("both", (soft, Term(loss="hard_tags", weight=options.gold))) if options.gold else ("transfer", (soft,))


RECIPES.register("mobilebert")(
    RecipeKind(
        MobileBertOptions,
        plan,
        "feature maps and attention block by block from an assistant, then tags, for a Transformer student",
        "Sun et al. 2020, arXiv 2004.02984",
    )
)

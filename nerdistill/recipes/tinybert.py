"""TinyBERT (Jiao et al., Findings of EMNLP 2020, arXiv 1909.10351), task and student carried over to tagging.

1. general: the student's embeddings, layers and attention learn those of the teacher as it was before fine-tuning, on transfer text;
2. intermediate: the same of the fine-tuned teacher;
3. prediction: its distribution over tags, on transfer text that it has labelled;
4. labels: gold tags, on labelled sentences. Off unless asked for: the paper's classification tasks have no such stage.

Student layer m of M learns teacher layer g(m) of N, embeddings those of the embeddings (section 3.1):

=======  ==========================================================================================
uniform  g(m) = m N / M, rounded to the nearest layer, halves up, where M does not divide N; the paper only has M that do
top      g(m) = m + N - M
bottom   g(m) = m
=======  ==========================================================================================

Attention is matched as scores, before the softmax (equation 7), states as squared distances through a linear map (equations 8 and 9).
Attention, states and embeddings have a weight each (equation 11's lambda, for all layers alike), published 1. Scores are as large as the
teacher makes them, and may vary ten times as much as its states or more: where steps are few, a weight near the inverse of that lets a
student learn the states too. Each can be left out, and so can prediction, which are the paper's ablations (table 4), and the general stage.

Deviations:

- A linear map of its own for each pair of states, dropped with its stage. The published code shares one among all states; the paper has
  one for layers and one for embeddings.
- Scores less their mean over the keys, which the softmax does not see (`nerdistill.losses.attention_mse`); ``raw_scores`` is as published.
- States and attention at first pieces of words, so that student and teacher need not cut words alike; so pieces that only stand inside
  words have no target in the embeddings.
- Real words only; the published means include padding.
- The prediction loss is a divergence in place of a cross-entropy, which is the same but for a constant; it is summed over tags, where the
  published code takes the mean.
- The paper's student sees twenty rewritten copies of each training sentence. Here it sees the run's transfer text, labelled by the teacher:
  unlabelled sentences, and rewritten ones where ``data.replace`` and ``data.swap`` ask for them.
- The teacher never has dropout; in the published code it does.
- Weights are chosen on dev, and in stages 1 and 2 on held-out transfer text, where the published code keeps the last.
- Steps. Published are 3 epochs over 2,500 million words, then 20, then 3, at rates of 5e-5, 5e-5 and 1e-5 to 3e-5. The defaults are for
  text a thousandth of that size, on which such rates would leave a student near its random start: higher rates, fewer epochs where the
  teacher reads along and more where it does not. The shapes are the published ones: linear, constant, linear, 10 % warm-up (in stage 2
  too, for the higher rate), weight decay 0.01.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from nerdistill.errors import ConfigError
from nerdistill.recipes.base import RECIPES, Optimisation, OrNone, Pair, RecipeKind, Stage, Term, Weight
from nerdistill.students.base import Options

_GENERAL = Optimisation(epochs=1, learning_rate=1e-3, schedule="linear", warmup=0.1, weight_decay=0.01)
_INTERMEDIATE = Optimisation(epochs=2, learning_rate=1e-3, schedule="constant", warmup=0.1, weight_decay=0.01)
_PREDICTION = Optimisation(epochs=8, learning_rate=3e-4, schedule="linear", warmup=0.1, weight_decay=0.01, patience=3)


class TinyBertOptions(Options):
    """What can be chosen.

    Attributes:
        mapping: ``uniform``, ``top``, ``bottom``, or the teacher's layer for each of the student's, from 1, input side first.
        general: Steps of stage 1, in which the teacher before fine-tuning reads along; false leaves it out.
        intermediate: Steps of stage 2, in which the fine-tuned teacher reads along; false leaves it out.
        prediction: Steps of stage 3; false leaves it out, and then stage 4 must teach the head.
        labels: Steps of stage 4; false leaves it out.
        attention: Weight of the attention in stages 1 and 2, or false; needs as many heads as the teacher has.
        hidden: Weight of the states after each layer there, or false.
        embedding: Weight of the embeddings there, or false.
        raw_scores: Match attention with what all scores of a word have in common.
    """

    mapping: Literal["uniform", "top", "bottom"] | tuple[Annotated[int, Field(ge=1)], ...] = "uniform"
    general: OrNone = _GENERAL
    intermediate: OrNone = _INTERMEDIATE
    prediction: OrNone = _PREDICTION
    labels: OrNone = None
    attention: Weight = 1.0
    hidden: Weight = 1.0
    embedding: Weight = 1.0
    raw_scores: bool = False


def plan(options: TinyBertOptions, pair: Pair) -> tuple[Stage, ...]:
    """Stages for a student with attention layers, state 0 being its embeddings.

    Raises:
        ConfigError: The student has no layers, or more than its teacher; the mapping does not fit them; nothing is left to learn in a
            stage; no stage teaches the head.
    """
    layers = _mapped(options, pair)
    if options.prediction is None and options.labels is None:
        raise ConfigError("recipe 'tinybert': no stage teaches the head; give recipe.options.prediction or recipe.options.labels")
    below, everything = pair.groups[1:], pair.groups
    teachers: dict[Literal["general", "live"], tuple[str, Optimisation | None]] = {
        "general": ("general", options.general),
        "live": ("intermediate", options.intermediate),
    }
    stages: tuple[Stage, ...] = ()
    for teacher, (name, steps) in teachers.items():
        if steps is not None:
            stages += (
                Stage(
                    name=name, text="transfer", teacher=teacher, terms=_layer_terms(options, layers), trainable=below, optimisation=steps,
                    select="held_out_loss",
                ),
            )  # fmt: skip
    if options.prediction is not None:
        tags = (Term(loss="soft_tags", options={"temperature": 1.0}),)
        stages += (Stage(name="prediction", text="transfer", terms=tags, trainable=everything, optimisation=options.prediction),)
    if options.labels is not None:
        gold = (Term(loss="hard_tags"),)
        stages += (Stage(name="labels", text="labelled", terms=gold, trainable=everything, optimisation=options.labels),)
    return stages


def _mapped(options: TinyBertOptions, pair: Pair) -> tuple[int, ...]:
    """The teacher's layer, from 1, for each of the student's."""
    mine, theirs = pair.student_layers, pair.teacher_layers
    if not mine:
        raise ConfigError(
            "recipe 'tinybert' aligns attention layers, which this student has not; take student.kind = 'transformer', or another recipe"
        )
    if mine > theirs:
        raise ConfigError(f"recipe 'tinybert': the student has {mine} layers, its teacher {theirs}; give it at most as many")
    if options.mapping == "uniform":
        return tuple((2 * m * theirs + mine) // (2 * mine) for m in range(1, mine + 1))
    if options.mapping == "top":
        return tuple(range(theirs - mine + 1, theirs + 1))
    if options.mapping == "bottom":
        return tuple(range(1, mine + 1))
    given = options.mapping
    if len(given) != mine or given[-1] > theirs or any(lower >= upper for lower, upper in pairwise(given)):
        raise ConfigError(
            f"recipe.options.mapping = {list(given)}: expected {mine} teacher layers, one for each layer of the student, increasing, "
            f"from 1 to {theirs}"
        )
    return given


def _layer_terms(options: TinyBertOptions, layers: tuple[int, ...]) -> tuple[Term, ...]:
    """Embeddings, then each layer's state and attention; losses count attention layers from 0."""
    terms = [Term(loss="hidden_mse", weight=options.embedding, options={"state": 0, "layer": 0})] if options.embedding else []
    for m, layer in enumerate(layers, start=1):
        if options.hidden:
            terms.append(Term(loss="hidden_mse", weight=options.hidden, options={"state": m, "layer": layer}))
        if options.attention:
            scores = {"state": m - 1, "layer": layer - 1, "on": "raw_scores" if options.raw_scores else "scores"}
            terms.append(Term(loss="attention_mse", weight=options.attention, options=scores))
    if not terms:
        raise ConfigError(
            "recipe 'tinybert': attention, hidden and embedding are all false, so general and intermediate have nothing to learn; set "
            "recipe.options.general = false and recipe.options.intermediate = false too"
        )
    return tuple(terms)


RECIPES.register("tinybert")(
    RecipeKind(
        TinyBertOptions,
        plan,
        "general and task distillation of mapped layers, then tags, for a Transformer student",
        "Jiao et al. 2020, arXiv 1909.10351",
    )
)

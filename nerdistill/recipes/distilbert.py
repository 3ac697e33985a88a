"""DistilBERT (Sanh et al., NeurIPS-EMC2 2019, arXiv 1910.01108), carried over to tagging: half a teacher's layers, three losses at once.

1. general: on transfer text with masked words, what the teacher before fine-tuning expects at each word (``soft_pieces``), the words that
   are masked (``masked_lm``), and the direction of its last states (``hidden_cosine``);
2. task: on labelled and transfer text, the fine-tuned teacher's distribution over tags (``soft_tags``), gold tags where there are some
   (``hard_tags``), and the direction of its last states.

The weights of stage 1 are the published ones, 5, 2 and 1, and so is the temperature, 2. The paper's student is fine-tuned on labels
afterwards, once with soft targets beside them (SQuAD, section 3); stage 2 is that with the third loss too, and the weights of stage 1. Each
loss can be left out: stage 2 without the first and the third is plain fine-tuning.

The student is the teacher with some of its layers, which matters more than any loss (table 4)::

    [student]
    kind = "transformer"
    embeddings = "full"
    layers_from = "general"      # "random" is the paper's ablation
    options = { layers = 6, width = 768, heads = 12, ffn = 3072 }

Such a student serves any task. For tags alone, ``layers_from = "teacher"`` with ``general = false`` begins with layers of the fine-tuned
teacher and its classifier: no text is needed but the task's, and no masked language model. Half of a layer's weights are not half of the
model: the embeddings are as they were, so cut ``student.pieces``, or take ``embeddings = "svd"`` with a narrower
``options.embedding_width``, whose map starts as the one that undoes the reduction.

Many encoders, such as the bundled one, come without the head that guesses words. ``soft_pieces = false`` and ``masked_lm = false`` leave
out what only such a head can teach; the text is then not masked, and stage 1 is the cosine alone.

Deviations:

- The student reads the run's transfer text, a thousandth of the published amount. Words are masked whole and guessed at their first pieces:
  see `nerdistill.teachers.masked`, ``soft_pieces`` and ``masked_lm``.
- First pieces of words in the cosine too, and in stage 2 words that are not masked.
- Positions learn; in the published student they stay as they were copied.
- With fewer pieces than its teacher the student learns the distribution over those that it has.
- AdamW with its usual betas; published are 0.9 and 0.98. Weights are chosen on held-out transfer text and on dev; the code keeps the last.
- Steps. Published are 3 epochs at a peak of 5e-4 and 4,000 sequences in a step, clipped at 5. A step here holds a thousandth of that, so
  the rates are lower and the gradient is clipped as everywhere in this program. The shape is the published one.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nerdistill.errors import ConfigError
from nerdistill.recipes.base import RECIPES, Optimisation, OrNone, Pair, RecipeKind, Stage, Term, Weight
from nerdistill.students.base import Options

_GENERAL = Optimisation(epochs=3, learning_rate=2e-4, schedule="linear", warmup=0.05, batch=1024)
_TASK = Optimisation(epochs=4, learning_rate=1e-4, schedule="linear", warmup=0.05, batch=2048, patience=2)


class DistilBertOptions(Options):
    """What can be chosen.

    Attributes:
        general: Steps of stage 1, in which the teacher before fine-tuning reads along; false leaves it out.
        soft_pieces: Weight of its expectation at each word, or false; needs a masked language model.
        masked_lm: Weight of the masked words, or false; needs a masked language model.
        cosine: Weight of the direction of its last states, or false; needs a student as wide as the teacher.
        task: Steps of stage 2.
        soft_tags: Weight of the fine-tuned teacher's distribution over tags, or false.
        hard_tags: Weight of the gold tags, or false.
        task_cosine: Weight of the direction of the fine-tuned teacher's last states, or false. With it, the teacher reads along; without
            it, its stored signals do.
        temperature: Of soft pieces and soft tags.
    """

    general: OrNone = _GENERAL
    soft_pieces: Weight = 5.0
    masked_lm: Weight = 2.0
    cosine: Weight = 1.0
    task: Optimisation = _TASK
    soft_tags: Weight = 5.0
    hard_tags: Weight = 2.0
    task_cosine: Weight = 1.0
    temperature: float = Field(default=2.0, gt=0)


def plan(options: DistilBertOptions, pair: Pair) -> tuple[Stage, ...]:
    """Stages for a student with attention layers.

    Raises:
        ConfigError: The student has no layers; a stage has nothing to learn; no loss teaches the head.
    """
    if not pair.student_layers:
        raise ConfigError(
            "recipe 'distilbert' is for a student that has the layers of its teacher, and this one has none such; take student.kind = "
            "'transformer', or another recipe"
        )
    if not (options.soft_tags or options.hard_tags):
        raise ConfigError(
            "recipe 'distilbert': no loss teaches the head; give recipe.options.soft_tags or recipe.options.hard_tags a weight"
        )
    softly = {"temperature": options.temperature}
    stages: tuple[Stage, ...] = ()
    if options.general is not None:
        terms = _weighed({"soft_pieces": options.soft_pieces, "masked_lm": options.masked_lm, "hidden_cosine": options.cosine}, softly)
        if not terms:
            raise ConfigError(
                "recipe 'distilbert': soft_pieces, masked_lm and cosine are all false, so stage 'general' has nothing to learn; set "
                "recipe.options.general = false too"
            )
        stages += (
            Stage(
                name="general", text="transfer", teacher="general", terms=terms, trainable=pair.groups[1:], optimisation=options.general,
                select="held_out_loss",
            ),
        )  # fmt: skip
    terms = _weighed({"soft_tags": options.soft_tags, "hard_tags": options.hard_tags, "hidden_cosine": options.task_cosine}, softly)
    taught = bool(options.soft_tags or options.task_cosine)
    text: Literal["labelled", "transfer", "both"] = "transfer" if not options.hard_tags else "both" if taught else "labelled"
    teacher: Literal["live", "stored"] = "live" if options.task_cosine else "stored"
    return (
        *stages,
        Stage(name="task", text=text, teacher=teacher, terms=terms, trainable=pair.groups, optimisation=options.task),
    )


def _weighed(weights: dict[str, float], softly: dict[str, Any]) -> tuple[Term, ...]:
    """The losses that weigh something."""
    return tuple(
        Term(loss=loss, weight=weight, options=softly if loss.startswith("soft") else {}) for loss, weight in weights.items() if weight
    )


RECIPES.register("distilbert")(
    RecipeKind(
        DistilBertOptions,
        plan,
        "masked words and states of the general teacher, then tags and states, for a student with its layers",
        "Sanh et al. 2019, arXiv 1910.01108",
    )
)

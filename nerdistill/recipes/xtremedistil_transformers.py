"""XtremeDistilTransformers (Mukherjee, Awadallah and Gao 2021, arXiv 2106.04563): XtremeDistil's stages for a Transformer student.

1. representation: every state of the student learns one of the teacher's topmost layers, the last the last, on transfer text, each through
   a linear map of its own; attention probabilities of the student's layers those of the teacher's topmost, head by head;
2. logits: the teacher's logits, on transfer text;
3. labels: gold tags, on labelled sentences.

In stages 2 and 3 the head learns first, then everything: the published code opens its head, its projection and the whole encoder.

Facts from the published code, where the paper is silent. Deviations:

- The head sits on the student's last state. The code keeps the last linear map between them in the deployed model; here the maps belong to
  the loss and are dropped, so there is no part between head and encoder to open.
- States and attention are taken at first pieces of words, so that student and teacher need not cut words alike.
- Real words only; the code's means include padding.
- Weights are chosen on dev or held-out transfer text, not on test.
- The rate falls once over each part, after a warm-up; the code's is constant at 3e-5 for up to 500 epochs.
"""

from __future__ import annotations

from pydantic import Field

from nerdistill.recipes.base import RECIPES, LogitLoss, Optimisation, OrNone, Pair, RecipeKind, Stage, Term, logit_term
from nerdistill.students.base import Options

_FIRST = Optimisation(epochs=2, learning_rate=3e-4, batch=4096)
_OPENING = Optimisation(epochs=0.5, learning_rate=1e-3, batch=4096)
_LAST = Optimisation(epochs=8, learning_rate=3e-4, batch=4096, patience=3)
_LABEL_OPENING = Optimisation(epochs=0.5, learning_rate=5e-4, batch=2048)
_LABEL_LAST = Optimisation(epochs=4, learning_rate=1e-4, batch=2048, patience=2)


class XtremeDistilTransformersOptions(Options):
    """What can be chosen.

    Attributes:
        representation: Steps of stage 1, in which the teacher reads along; false leaves it out.
        states: How many of the student's states learn, counted from the last; 0 for all, the embeddings included.
        attention: Learn attention too; needs as many heads as the teacher has.
        freeze_embeddings: Leave the table as it starts, so that pieces which the transfer text lacks stay where the teacher has them.
        logits: Steps of stage 2 with everything open.
        logits_opening: Steps of its earlier part.
        logit_loss: ``logit_mse`` as in the code, or ``soft_tags``.
        temperature: Of ``soft_tags``.
        labels: Steps of stage 3 with everything open; false leaves it out.
        labels_opening: Steps of its earlier part.
    """

    representation: OrNone = _FIRST
    states: int = Field(default=0, ge=0)
    attention: bool = True
    freeze_embeddings: bool = False
    logits: Optimisation = _LAST
    logits_opening: Optimisation = _OPENING
    logit_loss: LogitLoss = "logit_mse"
    temperature: float = Field(default=1.0, gt=0)
    labels: OrNone = _LABEL_LAST
    labels_opening: Optimisation = _LABEL_OPENING


def plan(options: XtremeDistilTransformersOptions, pair: Pair) -> tuple[Stage, ...]:
    """Stages for a student: its head, what is between, its embeddings; each part between is taken to give one state."""
    groups = pair.groups
    body = groups[1:-1] if options.freeze_embeddings else groups[1:]
    stages: tuple[Stage, ...] = ()
    if options.representation is not None:
        n_layers = len(groups) - 2
        states = range(1, 1 + (options.states or n_layers + 1))
        terms = [Term(loss="hidden_mse", options={"state": -number, "layer": -number}) for number in states]
        if options.attention:
            maps = range(1, 1 + min(options.states or n_layers, n_layers))
            terms += [Term(loss="attention_mse", options={"state": -number, "layer": -number, "on": "probabilities"}) for number in maps]
        stages += (
            Stage(
                name="representation", text="transfer", teacher="live", terms=tuple(terms), trainable=body,
                optimisation=options.representation,
                select="held_out_loss",
            ),
        )  # fmt: skip
    head, everything = groups[:1], (*groups[:1], *body)
    term = logit_term(options.logit_loss, options.temperature)
    logits = Stage(name="logits", text="transfer", terms=(term,), trainable=everything, optimisation=options.logits)
    stages += (logits.model_copy(update={"name": "logits-head", "trainable": head, "optimisation": options.logits_opening}), logits)
    if options.labels is not None:
        labels = Stage(name="labels", text="labelled", terms=(Term(loss="hard_tags"),), trainable=everything, optimisation=options.labels)
        stages += (labels.model_copy(update={"name": "labels-head", "trainable": head, "optimisation": options.labels_opening}), labels)
    return stages


RECIPES.register("xtremedistil_transformers")(
    RecipeKind(
        XtremeDistilTransformersOptions,
        plan,
        "top-aligned states and attention, logits, labels, for a Transformer student",
        "Mukherjee, Awadallah and Gao 2021, arXiv 2106.04563",
    )
)

"""What the stages of a student read, encoded for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.errors import ConfigError
from nerdistill.losses.base import Widths
from nerdistill.steps.annotate import Signals
from nerdistill.steps.build import student_encoder
from nerdistill.steps.context import Context
from nerdistill.steps.teach import Taught, open_general_teacher, open_teacher
from nerdistill.students.base import Student
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.teachers.live import read_along
from nerdistill.training.stage import Stage

HELD_OUT_EVERY = 50
"""One transfer sentence in so many is held out to choose weights where there are no labels."""


@dataclass(frozen=True)
class Reading:
    """What one stage reads.

    Attributes:
        corpus: What it learns from.
        held_out: A part of the transfer text that no stage learns from; None for labelled text.
        widths: What its terms must fit.
    """

    corpus: EncodedCorpus
    held_out: EncodedCorpus | None
    widths: Widths


@dataclass(frozen=True)
class Texts:
    """Encoded text of a student's stages.

    Attributes:
        labelled: With gold tags.
        dev: For selection.
        widths: Of the student's states, and of the stored ones.
        transfer: With stored signals, held-out part included; None for a plan that reads none.
        live: The same text with a teacher reading along, ``live`` or ``general``, and what terms must fit there.
    """

    labelled: EncodedCorpus
    dev: EncodedCorpus
    widths: Widths
    transfer: EncodedCorpus | None
    live: Callable[[str], tuple[EncodedCorpus, Widths]]

    def of(self, stage: Stage) -> Reading:
        """What a stage reads.

        Raises:
            ConfigError: It wants transfer text, and there is none.
        """
        if stage.text == "labelled":
            return Reading(self.labelled, None, self.widths)
        if self.transfer is None:
            raise ConfigError(f"stage '{stage.name}' learns from transfer text, and this run has none")
        everything, widths = (self.transfer, self.widths) if stage.teacher == "stored" else self.live(stage.teacher)
        held_out, transfer = _part(everything, True), _part(everything, False)
        return Reading(transfer if stage.text == "transfer" else self.labelled.join(transfer), held_out, widths)


def read_texts(context: Context, taught: Taught, vocabulary: Vocabulary, signals: Signals | None, student: Student) -> Texts:
    """Encode the run's text for a student."""
    data = context.data
    encoder = student_encoder(student, vocabulary)
    labelled, dev = EncodedCorpus(data.train, encoder, data.scheme), EncodedCorpus(data.dev, encoder)
    widths = Widths(student.state_widths, 0, student_heads=student.heads)
    transfer = None
    if signals is not None:
        store = signals.open()
        transfer = EncodedCorpus(data.transfer, encoder, targets=store.targets())
        widths = replace(widths, teacher=store.counts["hidden_width"], layers=tuple(store.counts["layers"]))

    def live(which: str) -> tuple[EncodedCorpus, Widths]:
        annotator = open_teacher(context, taught) if which == "live" else open_general_teacher(context)
        model = annotator.model
        fits = replace(widths, teacher=model.width, layers=tuple(range(model.n_layers + 1)), teacher_heads=model.heads)
        return read_along(annotator, EncodedCorpus(data.transfer, encoder), data.transfer), fits

    return Texts(labelled, dev, widths, transfer, live)


def _part(corpus: EncodedCorpus, held_out: bool) -> EncodedCorpus:
    return corpus.select([number for number in range(len(corpus.languages)) if (number % HELD_OUT_EVERY == 0) == held_out])

"""What the stages of a student read, encoded for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES, Widths
from nerdistill.steps.annotate import Signals
from nerdistill.steps.assistant import Assistant
from nerdistill.steps.build import student_encoder
from nerdistill.steps.context import Context
from nerdistill.steps.teach import Taught, open_general_teacher, open_masked_teacher, open_teacher
from nerdistill.students.base import Student
from nerdistill.students.parts.piece_head import PieceHead, make_piece_head
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.teachers.as_transformer import take_piece_head
from nerdistill.teachers.huggingface import best_precision
from nerdistill.teachers.live import Reader, read_along, student_reader, teacher_reader
from nerdistill.teachers.masked import learns_pieces, read_masked
from nerdistill.training.stage import Stage

HELD_OUT_EVERY = 50
"""One transfer sentence in so many is held out to choose weights where there are no labels."""


def learns_attention(stage: Stage) -> bool:
    """Whether a stage has a term over attention."""
    return any("teacher_attention" in LOSSES.get(term.loss).needs for term in stage.terms)


@dataclass(frozen=True)
class Reading:
    """What one stage reads.

    Attributes:
        corpus: What it learns from.
        held_out: A part of the transfer text that no stage learns from; None for labelled text.
        widths: What its terms must fit.
        head: Guesses the pieces of words, for terms that ask for them.
    """

    corpus: EncodedCorpus
    held_out: EncodedCorpus | None
    widths: Widths
    head: PieceHead | None = None


@dataclass(frozen=True)
class Texts:
    """Encoded text of a student's stages.

    Attributes:
        labelled: With gold tags.
        dev: For selection.
        widths: Of the student's states, and of the stored ones.
        transfer: With stored signals, held-out part included; None for a plan that reads none.
        live: The same text with a teacher reading along, ``live``, ``general`` or ``assistant``, and what terms must fit there. Beside an
            assistant, logits are the teacher's, as stored. If asked for joined text, labelled text and behind it the transfer text that is
            not held out; if asked for attention, this too.
        masked: What stages read that learn pieces.
    """

    labelled: EncodedCorpus
    dev: EncodedCorpus
    widths: Widths
    transfer: EncodedCorpus | None
    live: Callable[[str, bool, bool], tuple[EncodedCorpus, Widths]]
    masked: Callable[[], Reading]

    def of(self, stage: Stage) -> Reading:
        """What a stage reads.

        Raises:
            ConfigError: It wants transfer text, and there is none.
        """
        if stage.text == "labelled":
            return Reading(self.labelled, None, self.widths)
        if self.transfer is None:
            raise ConfigError(f"stage '{stage.name}' learns from transfer text, and this run has none")
        if learns_pieces(stage):
            return self.masked()
        everything, widths = self.transfer, self.widths
        if stage.teacher != "stored":
            joined = stage.text == "both"
            everything, widths = self.live(stage.teacher, joined, learns_attention(stage))
            if joined:
                return Reading(everything, None, widths)
        held_out, transfer = _part(everything, True), _part(everything, False)
        return Reading(transfer if stage.text == "transfer" else self.labelled.join(transfer), held_out, widths)


def read_texts(
    context: Context, taught: Taught, vocabulary: Vocabulary, signals: Signals | None, student: Student, assistant: Assistant | None = None
) -> Texts:
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

    @lru_cache(maxsize=1)  # stages in a row often have the same teacher
    def live(which: str, joined: bool, with_attention: bool) -> tuple[EncodedCorpus, Widths]:
        reader = _reader(context, taught, assistant, which, with_attention)
        fits = replace(widths, teacher=reader.width, layers=reader.layers, teacher_heads=reader.heads)
        text = transfer if which == "assistant" and transfer is not None else EncodedCorpus(data.transfer, encoder)
        if joined:
            return read_along(reader, labelled.join(_part(text, False)), [*data.train, *data.transfer]), fits
        return read_along(reader, text, data.transfer), fits

    def masked() -> Reading:
        teacher = open_masked_teacher(context, vocabulary)
        learnt, held_out = read_masked(teacher, EncodedCorpus(data.transfer, encoder), data.transfer, vocabulary)
        fits = replace(widths, teacher=teacher.model.width, layers=tuple(range(teacher.model.n_layers + 1)))
        head = make_piece_head(student)
        if context.config.student.layers_from != "random":
            take_piece_head(head, teacher.model.network, teacher.scores.bias)
        return Reading(_part(learnt, False), _part(held_out, True), fits, head)

    return Texts(labelled, dev, widths, transfer, live, masked)


def _reader(context: Context, taught: Taught, assistant: Assistant | None, which: str, with_attention: bool) -> Reader:
    """Who reads along."""
    if which != "assistant":
        return teacher_reader(open_teacher(context, taught) if which == "live" else open_general_teacher(context), with_attention)
    if assistant is None:
        raise ValueError("a stage reads an assistant that was not made")
    device = context.accelerator.device
    return student_reader(*assistant.open(), device, best_precision(context.config.student.precision, device), with_attention)


def _part(corpus: EncodedCorpus, held_out: bool) -> EncodedCorpus:
    return corpus.select([number for number in range(len(corpus.languages)) if (number % HELD_OUT_EVERY == 0) == held_out])

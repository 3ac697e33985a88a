"""A masked language model that reads along with the student, words masked in both alike (DistilBERT, Sanh et al. 2019).

Of each batch's words 15 % are chosen without replacement, one that occurs c times in the text in proportion to c^-0.7, which favours rare
words. Of these, 80 % are masked, all their pieces; 10 % have random pieces in their place; 10 % stay. Masks are drawn anew in every step.

Facts from the published code. Deviations:

- It masks pieces; here words are masked whole, so that student and teacher, which may cut a word differently, lack the same.
- The student has no piece for masks, which no text holds: its unknown piece stands for one. So it learns to guess at a piece that it does
  not know from what is around it.
- A held-out text is masked the same way at each reading, so that its losses can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nerdistill.corpus.encoded import EncodedCorpus, Encoder
from nerdistill.losses.base import LOSSES
from nerdistill.records import Sentence
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.teachers.huggingface import MaskedLM, TeacherModel
from nerdistill.text.collate import Arrays
from nerdistill.training.stage import Stage

UNK = 1
"""The student's unknown piece."""

CHOSEN, MASKED, RANDOM = 0.15, 0.8, 0.1
"""Share of the words that are chosen; shares of these that are masked, and replaced at random."""

RARITY = 0.7

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MaskedTeacher:
    """A frozen masked language model with all it takes to read along.

    Attributes:
        model: What its head makes of the states before they are compared with pieces, as ``logits`` ``[B, W, d]``; and the states.
        scores: From that to a score for each of the student's pieces.
        encoder: Its reader.
        mask_id: Its piece for masks.
    """

    model: TeacherModel
    scores: nn.Linear
    encoder: Encoder
    mask_id: int

    def __post_init__(self) -> None:
        """Freeze it."""
        self.model.eval().requires_grad_(False)
        self.scores.requires_grad_(False)

    def read(self, arrays: Arrays) -> tuple[Tensor, Tensor]:
        """Scores of the student's pieces at words ``[B, W, V]``, and states of all layers there ``[B, W, L + 1, d]``; float32."""
        device = self.scores.weight.device
        with torch.no_grad():
            output = self.model({name: torch.from_numpy(array).to(device) for name, array in arrays.items()})
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.model.precision == "bfloat16"):
                scores: Tensor = self.scores(output.logits)
        return scores.float(), torch.stack([states.float() for states in output.hidden], dim=2)


def learns_pieces(stage: Stage) -> bool:
    """Whether a stage asks for what `read_masked` gives."""
    return any({"teacher_pieces", "masked_pieces"} & LOSSES.get(term.loss).needs for term in stage.terms)


def masked_teacher(masked: MaskedLM, encoder: Encoder, vocabulary: Vocabulary, precision: str) -> MaskedTeacher:
    """Take a masked language model for reading along.

    Its last product, with its vectors of all pieces, is cut to the student's and done at words only: over all pieces of a batch it would be
    most of the work, and of the memory.

    Args:
        masked: The model, which is changed.
        encoder: Its reader.
        vocabulary: The student's pieces.
        precision: As in `TeacherModel`.
    """
    network: Any = masked.network
    last: nn.Linear = network.get_output_embeddings()
    ids = torch.tensor(vocabulary.teacher_ids)
    scores = nn.Linear(last.in_features, len(ids), device=last.weight.device)
    with torch.no_grad():
        scores.weight.copy_(last.weight[ids])
        scores.bias.copy_(last.bias[ids])
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child is last:
                setattr(parent, name, nn.Identity())
    return MaskedTeacher(TeacherModel(network, (), precision), scores, encoder, masked.mask_id)


def read_masked(
    teacher: MaskedTeacher, text: EncodedCorpus, sentences: Sequence[Sentence], vocabulary: Vocabulary
) -> tuple[EncodedCorpus, EncodedCorpus]:
    """The student's text with words masked and the teacher reading each batch: to learn from, and to be held out.

    Batches have the masked ``input_ids``; ``masked_pieces`` ``[B, W]``, the first piece of each chosen word, -1 elsewhere; ``same_piece``
    ``[B, W]``, whether student and teacher begin the word with the same piece; ``teacher_pieces`` ``[B, W, V]`` and ``teacher_hidden``
    ``[B, W, L + 1, d]`` from the text masked alike. They are measured in the teacher's pieces.

    Args:
        teacher: The teacher.
        text: Encoded for the student, which reads pieces.
        sentences: The same text.
        vocabulary: The student's pieces.
    """
    both, rows = text.read_by(teacher.encoder, sentences)
    both.targets = None
    reading = _Reading(teacher, text, rows, np.asarray(vocabulary.teacher_ids), len(vocabulary.ends or ()))
    learnt, held_out = both.select(range(len(both.languages))), both
    # The loop sets torch's seed before each step, so what is drawn from it follows from the step.
    learnt.reader = reading.reader(lambda ranges: int(torch.randint(2**62, ()).item()))
    held_out.reader = reading.reader(lambda ranges: int(ranges[0, 0]))
    return learnt, held_out


class _Reading:
    """Masks batches and has the teacher read them."""

    def __init__(self, teacher: MaskedTeacher, text: EncodedCorpus, rows: Ints, teacher_ids: Ints, ends: int) -> None:
        self.teacher, self.student = teacher, text.encoder
        self.mine, self.theirs = text.rows, rows
        self.teacher_ids = teacher_ids
        self.n_technical = 2 + ends
        self.frequency = np.bincount(text.rows)

    def reader(self, seed: Callable[[Ints], int]) -> Callable[[Ints], dict[str, Tensor]]:
        """Of word ranges; `seed` says from what the masks of some are drawn."""
        return lambda ranges: self._read(ranges, np.random.default_rng(seed(ranges)))

    def _read(self, ranges: Ints, rng: np.random.Generator) -> dict[str, Tensor]:
        places = [np.arange(start, stop) for start, stop in ranges]
        student = self.student.collate([self.mine[at] for at in places])
        teacher = self.teacher.encoder.collate([self.theirs[at] for at in places])
        first, theirs = (
            _padded([encoder.table.pieces[rows[at], 0] for at in places], -1)
            for encoder, rows in ((self.student, self.mine), (self.teacher.encoder, self.theirs))
        )
        askable = first > UNK
        chosen = _choose(_padded([self.frequency[self.mine[at]] for at in places], 1), askable, rng)
        fate = np.where(chosen, rng.random(chosen.shape), 1.0)
        masked, random = fate < MASKED, (fate >= MASKED) & (fate < MASKED + RANDOM)
        longest = max(self.student.table.max_pieces, self.teacher.encoder.table.max_pieces)
        drawn = rng.integers(self.n_technical, len(self.teacher_ids), (*chosen.shape, longest))
        _put(student, masked, random, UNK, drawn)
        _put(teacher, masked, random, self.teacher.mask_id, self.teacher_ids[drawn])
        scores, hidden = self.teacher.read(teacher)
        return {
            "input_ids": torch.from_numpy(student["input_ids"]),
            "masked_pieces": torch.from_numpy(np.where(chosen, first, -1)),
            "same_piece": torch.from_numpy((first >= 0) & (self.teacher_ids[first] == theirs)),
            "teacher_pieces": scores,
            "teacher_hidden": hidden,
        }


def _padded(rows: Sequence[npt.NDArray[np.integer]], fill: int) -> Ints:
    table = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def _choose(frequency: Ints, askable: Bools, rng: np.random.Generator) -> Bools:
    """Words to be guessed, of those that can be asked for, of which there is at least one; rare ones rather."""
    # The largest of log-weights with Gumbel noise: a draw without replacement in proportion to the weights.
    keys = np.where(askable, rng.gumbel(size=frequency.shape) - RARITY * np.log(frequency), -np.inf)
    number = max(1, round(CHOSEN * int(askable.sum()))) if askable.any() else 0
    chosen = np.zeros(frequency.size, dtype=bool)
    chosen[np.argsort(-keys, axis=None, kind="stable")[:number]] = True
    return chosen.reshape(frequency.shape)


def _put(arrays: Arrays, masked: Bools, random: Bools, mask_id: int, drawn: Ints) -> None:
    """Write masks and random pieces in the place of words.

    Args:
        arrays: From `collate_pieces`; ``input_ids`` is changed.
        masked: ``[B, W]``.
        random: ``[B, W]``, others than these.
        mask_id: The model's piece for masks.
        drawn: ``[B, W, P]``, random pieces for each piece of a word.
    """
    ids, first, lengths = arrays["input_ids"], arrays["first_piece"], arrays["lengths"]
    sizes = arrays["attention_mask"].sum(axis=1)
    for row, word in np.argwhere(masked | random):
        begin = first[row, word]
        end = first[row, word + 1] if word + 1 < lengths[row] else sizes[row] - 1
        ids[row, begin:end] = mask_id if masked[row, word] else drawn[row, word, : end - begin]

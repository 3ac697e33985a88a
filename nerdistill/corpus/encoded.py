"""A corpus ready to train on: words as rows of a table, targets beside them, cut into items and batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nerdistill.labels import LabelScheme
from nerdistill.records import Sentence
from nerdistill.text.collate import Arrays, Rows, collate_pieces, collate_words
from nerdistill.text.encoder import WordTable
from nerdistill.text.windows import cut

BUCKET_BATCHES = 64
"""Batches' worth of shuffled items that are sorted by length together: little padding, and still a random order."""


@dataclass(frozen=True)
class Encoder:
    """How a model reads words.

    Attributes:
        table: Its words and pieces.
        bos_id: Begin piece, for models over pieces; None for models over words.
        eos_id: End piece.
        limit: Largest item: words, or pieces without begin and end.
    """

    table: WordTable
    bos_id: int | None = None
    eos_id: int | None = None
    limit: int = 256

    @property
    def over_pieces(self) -> bool:
        """Whether the model reads sequences of pieces."""
        return self.bos_id is not None

    def collate(self, rows: Sequence[Rows]) -> Arrays:
        """The model's input arrays."""
        if self.bos_id is None or self.eos_id is None:
            return collate_words(rows, self.table)
        return collate_pieces(rows, self.table, self.bos_id, self.eos_id)

    def costs(self, rows: Rows) -> npt.NDArray[np.int64]:
        """``[W]``, what each word costs of a batch's budget."""
        return self.table.lengths[rows].astype(np.int64) if self.over_pieces else np.ones(len(rows), dtype=np.int64)


class RowSource(Protocol):
    """Rows that are fetched by number: an array, or files that are mapped into memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, rows: npt.NDArray[np.int64], /) -> npt.NDArray[Any]:
        """The rows of these numbers, in this order."""


class Picked:
    """Rows of a source by number, for words of which some are not in it.

    Args:
        source: Where the rows are.
        numbers: ``[N]``, for each word its row there, or -1, which gives zeros.
    """

    def __init__(self, source: RowSource, numbers: npt.NDArray[np.int64]) -> None:
        self.source, self.numbers = source, numbers
        self.shape: tuple[int, ...] = (len(numbers), *source.shape[1:])

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: npt.NDArray[np.int64], /) -> npt.NDArray[Any]:
        """The rows of these numbers, in this order."""
        wanted = self.numbers[rows]
        there = wanted >= 0
        given = self.source[wanted[there]]
        found = np.zeros((len(rows), *self.shape[1:]), dtype=given.dtype)
        found[there] = given
        return found


@dataclass(frozen=True)
class Targets:
    """What a teacher said of a corpus's words, laid end to end in its order.

    Attributes:
        logits: ``[N, K]`` float16.
        hidden: ``[N, L, D]`` float16, or None.
    """

    logits: RowSource
    hidden: RowSource | None = None


class EncodedCorpus:
    """Sentences as arrays.

    Args:
        sentences: Words, with tags if the corpus is to be learnt from or scored.
        encoder: The model's.
        scheme: Needed for tags.
        targets: Teacher signals for exactly these words.
        overlap: Words shared by neighbouring parts of a long sentence. 0 to learn, so that no word counts twice; more to predict, so
            that a word is read from the part in which it is further from an edge.

    Attributes:
        items: ``[I, 2]``, word ranges of the items: whole sentences, or parts of those longer than the encoder's limit.
        kept: ``[I, 2]``, the words of each item whose prediction is used; together they are each word once.
        item_sentence: ``[I]``, the sentence of each item.
        offsets: ``[S + 1]``, where each sentence begins.
        languages: Language of each sentence.
        reader: Gives further tensors for some word ranges ``[B, 2]``, such as what a teacher says that reads along; None for none.
        lacks: In joined text, ``without_tags`` and ``without_signals`` ``[S]``: the sentences that have no tags, no targets.
    """

    def __init__(
        self,
        sentences: Sequence[Sentence],
        encoder: Encoder,
        scheme: LabelScheme | None = None,
        targets: Targets | None = None,
        overlap: int = 0,
    ) -> None:
        self.encoder = encoder
        self.targets = targets
        self.languages = [sentence.language for sentence in sentences]
        self.offsets = np.concatenate([[0], np.cumsum([len(sentence.words) for sentence in sentences])]).astype(np.int64)
        self.rows = encoder.table.rows([word for sentence in sentences for word in sentence.words])
        for signals in () if targets is None else (targets.logits, targets.hidden):
            if signals is not None and len(signals) != len(self.rows):
                raise ValueError(f"{len(signals)} words of signals for {len(self.rows)} words of text")
        tagged = scheme is not None and all(sentence.tags is not None for sentence in sentences)
        self.tags = _tag_ids(sentences, scheme) if tagged and scheme is not None else None
        self.unannotated = _open_tags(sentences, scheme) if tagged and scheme is not None else None
        self.items, self.kept, self.item_sentence, self.costs = self._cut(overlap)
        self.lacks: dict[str, npt.NDArray[np.bool_]] = {}
        self.reader: Callable[[npt.NDArray[np.int64]], dict[str, Tensor]] | None = None

    def read_by(self, other: Encoder, sentences: Sequence[Sentence]) -> tuple[EncodedCorpus, npt.NDArray[np.int64]]:
        """The same text in items that a second model can read too, and the rows of its words in that model's table.

        Args:
            other: How the second model reads.
            sentences: The text, with the sentences of which there are no items.
        """
        rows = other.table.rows([word for sentence in sentences for word in sentence.words])
        mine, theirs = self.encoder.costs(self.rows), other.costs(rows)
        both = copy.copy(self)
        # An item fits where its cost is within either limit: brought to a common measure, the larger of the two for each word.
        costs = np.maximum(mine * other.limit, theirs * self.encoder.limit)
        wanted = set(self.item_sentence.tolist())
        parts = [part for part in cut(costs, self.offsets, self.encoder.limit * other.limit, 0) if part[0] in wanted]
        ranges = np.array([window for _, window, _ in parts], dtype=np.int64).reshape(-1, 4)
        both.items, both.kept = ranges[:, :2], ranges[:, 2:]
        both.item_sentence = np.array([owner for owner, _, _ in parts], dtype=np.int64)
        total = np.concatenate([[0], np.cumsum(theirs)])
        both.costs = total[both.items[:, 1]] - total[both.items[:, 0]] + 2
        return both, rows

    def _cut(self, overlap: int) -> tuple[npt.NDArray[np.int64], ...]:
        parts = list(cut(self.encoder.costs(self.rows), self.offsets, self.encoder.limit, overlap))
        ranges = np.array([window for _, window, _ in parts], dtype=np.int64).reshape(-1, 4)
        owners = np.array([owner for owner, _, _ in parts], dtype=np.int64)
        padding = 2 if self.encoder.over_pieces else 0
        return ranges[:, :2], ranges[:, 2:], owners, np.array([cost for _, _, cost in parts], dtype=np.int64) + padding

    @property
    def n_words(self) -> int:
        """Words in all."""
        return len(self.rows)

    def select(self, sentences: Sequence[int]) -> EncodedCorpus:
        """A view of some sentences: same words and targets, fewer items."""
        part = copy.copy(self)
        inside = np.isin(self.item_sentence, np.asarray(sentences, dtype=np.int64))
        part.items, part.kept = self.items[inside], self.kept[inside]
        part.item_sentence, part.costs = self.item_sentence[inside], self.costs[inside]
        return part

    def join(self, other: EncodedCorpus) -> EncodedCorpus:
        """Labelled text and, behind it, transfer text, each with what it has; see `nerdistill.losses.base.LossTerm.mask`.

        A labelled sentence that the transfer text has too is read once, with its tags and with what the teacher said of it.

        Args:
            other: Transfer text, encoded by the same encoder; without targets if a teacher is to read along.
        """
        if self.tags is None:
            raise ValueError("labelled text is what transfer text is joined to, found text without tags")
        both = copy.copy(self)
        words, sentences = len(self.rows), len(self.languages)
        both.languages = self.languages + other.languages
        both.offsets = np.concatenate([self.offsets, other.offsets[1:] + words])
        both.rows = np.concatenate([self.rows, other.rows])
        both.tags = np.concatenate([self.tags, np.zeros(len(other.rows), dtype=self.tags.dtype)])
        if self.unannotated is not None:
            both.unannotated = np.concatenate([self.unannotated, np.zeros((len(other.languages), self.unannotated.shape[1]), dtype=bool)])
        twins = self._twins(other)
        numbers = np.concatenate([np.full(words, -1), np.arange(len(other.rows))])
        for mine, theirs in twins.items():
            numbers[self.offsets[mine] : self.offsets[mine + 1]] = np.arange(other.offsets[theirs], other.offsets[theirs + 1])
        if other.targets is not None:
            logits, hidden = other.targets.logits, other.targets.hidden
            both.targets = Targets(Picked(logits, numbers), None if hidden is None else Picked(hidden, numbers))
        left = ~np.isin(other.item_sentence, list(twins.values()))
        both.items = np.concatenate([self.items, other.items[left] + words])
        both.kept = np.concatenate([self.kept, other.kept[left] + words])
        both.item_sentence = np.concatenate([self.item_sentence, other.item_sentence[left] + sentences])
        both.costs = np.concatenate([self.costs, other.costs[left]])
        unheard = np.ones(sentences, dtype=bool)
        unheard[list(twins)] = False
        rest = np.zeros(len(other.languages), dtype=bool)
        both.lacks = {
            "without_tags": np.concatenate([np.zeros(sentences, dtype=bool), ~rest]),
            "without_signals": np.concatenate([unheard, rest]),
        }
        return both

    def _twins(self, other: EncodedCorpus) -> dict[int, int]:
        """Sentences that another text has too, and their numbers there; only what is among its items counts."""
        places = {other._words_of(number): int(number) for number in np.unique(other.item_sentence)}
        found = ((number, places.get(self._words_of(number))) for number in range(len(self.languages)))
        return {mine: theirs for mine, theirs in found if theirs is not None}

    def _words_of(self, sentence: int) -> tuple[str, bytes]:
        """What two sentences of one encoder are equal by: language and words."""
        return self.languages[sentence], self.rows[self.offsets[sentence] : self.offsets[sentence + 1]].tobytes()

    def batches(
        self, budget: int, rng: np.random.Generator | None, chosen: npt.NDArray[np.int64] | None = None
    ) -> list[npt.NDArray[np.int64]]:
        """Items in batches of like length.

        Args:
            budget: Largest padded size of a batch; an item above it gets a batch of its own.
            rng: Shuffles; None gives the order from short to long.
            chosen: Item numbers to use, with repeats if wanted; None for each once.
        """
        order = np.arange(len(self.items)) if chosen is None else chosen
        if rng is not None:
            order = rng.permutation(order)
            mean = max(1.0, float(self.costs[order].mean())) if len(order) else 1.0
            bucket = max(1, int(BUCKET_BATCHES * budget / mean))
        else:
            bucket = max(1, len(order))
        batches: list[npt.NDArray[np.int64]] = []
        for start in range(0, len(order), bucket):
            batches += self._fill(order[start : start + bucket], budget)
        return [batches[i] for i in rng.permutation(len(batches))] if rng is not None else batches

    def _fill(self, order: npt.NDArray[np.int64], budget: int) -> list[npt.NDArray[np.int64]]:
        ordered = order[np.argsort(self.costs[order], kind="stable")]
        cuts, first = [], 0
        for at, cost in enumerate(self.costs[ordered].tolist()):
            if at > first and (at - first + 1) * cost > budget:
                cuts.append(at)
                first = at
        return [part for part in np.split(ordered, cuts) if len(part)]

    def collate(self, batch: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """The tensors of a batch: the model's arrays, ``word_mask`` ``[B, W]``, and the targets there are, padded with zeros."""
        ranges = self.items[batch]
        arrays = self.encoder.collate([self.rows[start:stop] for start, stop in ranges])
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        lengths = arrays["lengths"]
        mask = np.arange(int(lengths.max())) < lengths[:, None]
        tensors["word_mask"] = torch.from_numpy(mask)
        words = np.concatenate([np.arange(start, stop) for start, stop in ranges])

        def padded(values: RowSource) -> Tensor:
            rows = values[words]
            full = np.zeros((*mask.shape, *rows.shape[1:]), dtype=rows.dtype)
            full[mask] = rows
            return torch.from_numpy(full)

        if self.tags is not None:
            tensors["tags"] = padded(self.tags)
        if self.unannotated is not None:
            tensors["unannotated"] = torch.from_numpy(self.unannotated[self.item_sentence[batch]])
        tensors |= {name: torch.from_numpy(lacking[self.item_sentence[batch]]) for name, lacking in self.lacks.items()}
        if self.targets is not None:
            tensors["teacher_logits"] = padded(self.targets.logits)
            if self.targets.hidden is not None:
                tensors["teacher_hidden"] = padded(self.targets.hidden)
        if self.reader is not None:
            tensors |= self.reader(ranges)
        return tensors

    def predict(self, run: Callable[[dict[str, Tensor]], tuple[Tensor, ...]], budget: int) -> list[npt.NDArray[np.float32]]:
        """What a model says of every word, in the corpus's order.

        Args:
            run: From a batch to tensors ``[B, W, ...]``.
            budget: As in `batches`.

        Returns:
            One array ``[N, ...]`` for each tensor.
        """
        results: list[npt.NDArray[np.float32]] = []
        for batch in self.batches(budget, rng=None):
            tensors = self.collate(batch)
            mask = tensors["word_mask"].numpy()
            words = np.concatenate([np.arange(start, stop) for start, stop in self.items[batch]])
            used = np.concatenate(
                [(np.arange(a, b) >= c) & (np.arange(a, b) < d) for (a, b), (c, d) in zip(self.items[batch], self.kept[batch], strict=True)]
            )
            for number, output in enumerate(run(tensors)):
                values = output.float().cpu().numpy()
                if number == len(results):
                    results.append(np.zeros((self.n_words, *values.shape[2:]), dtype=np.float32))
                results[number][words[used]] = values[mask][used]
        return results


def _tag_ids(sentences: Sequence[Sentence], scheme: LabelScheme) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(0, dtype=np.int64), *(scheme.encode(sentence.tags or ()) for sentence in sentences)])


def _open_tags(sentences: Sequence[Sentence], scheme: LabelScheme) -> npt.NDArray[np.bool_] | None:
    """``[S, K]``: tags of the types that a sentence's source does not annotate; None if all sources annotate all types."""
    if not any(sentence.unannotated for sentence in sentences):
        return None
    return np.array([[tag[2:] in sentence.unannotated for tag in scheme.tags] for sentence in sentences], dtype=bool)

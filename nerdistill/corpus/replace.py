"""More transfer text from labelled sentences: words outside entities replaced by near ones of the same language (TinyBERT, algorithm 1).

A word's candidates come from one of two sources: the words whose vectors are nearest, or those that a masked language model finds most
probable in its place. Either way they are words of the same shape (`shape`) that the labelled sentences of the language have outside
entities, so the tags still hold, and what case and script say about a name stays as it was.

Deviations from the paper: entities stay (`nerdistill.corpus.augment` swaps them); one source for all words, where the paper asks the
masked model for words of one piece and GloVe for the others; vectors are means of the rows of a word's pieces in a model's table; words in
any script, where the published code changes only ``a`` to ``z``; stop words are replaced too. The masked model reads the sentence alone, as
the paper says; the published code shows it the whole sentence beside. A copy in which nothing changed is left out.
"""

from __future__ import annotations

import dataclasses
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nerdistill.labels import OUTSIDE
from nerdistill.records import Sentence, labelled
from nerdistill.text.encoder import WordTable

Candidates = Callable[[Sentence], Sequence[Sequence[str]]]
"""For each word of a labelled sentence what may stand in its place; nothing for a word that stays."""

Words = Mapping[str, Sequence[str]]
"""Language to words."""

VOCABULARY = 20_000
"""Words of a language that are replaced and put in, its most frequent ones: their similarities grow with the square."""

_BLOCK = 1024
"""Words whose similarities to all others are held at once."""

_BATCH = 256
"""Padded pieces in one pass of the masked model: it gives a score for each piece of its vocabulary at each."""


@lru_cache(maxsize=1 << 17)
def shape(word: str) -> str:
    """How a word is written: ``x`` for a run of small letters, ``X`` of capitals, 0 of digits, a script's name of letters without case.

    Other characters stand for themselves, marks and joiners for nothing: ``Xx`` for *Haus*, ``x'`` for *l'*, ``Xx-Xx`` for *Jean-Luc*.
    Empty for a word without letters or with a digit, which is never replaced nor put in.
    """
    symbols = [symbol for symbol, _ in groupby(filter(None, map(_symbol, word)))]
    has_letters = any(unicodedata.category(char)[0] == "L" for char in word)
    return "".join(symbols) if has_letters and "0" not in symbols else ""


def _symbol(char: str) -> str:
    category = unicodedata.category(char)
    if category[0] == "L":
        return {"Ll": "x", "Lu": "X", "Lt": "X"}.get(category) or unicodedata.name(char, "?").split()[0].lower()
    return "" if category[0] == "M" or category == "Cf" else "0" if category[0] == "N" else char


def words_outside(sentences: Sequence[Sentence], limit: int = VOCABULARY) -> dict[str, list[str]]:
    """The words of labelled sentences that stand outside entities more often than inside, and have a shape.

    Args:
        sentences: Labelled.
        limit: Words of a language, at most.

    Returns:
        Language to words, the most frequent first.
    """
    balance: dict[str, Counter[str]] = defaultdict(Counter)
    frequency: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence, tags in labelled(sentences):
        for word, tag in zip(sentence.words, tags, strict=True):
            frequency[sentence.language][word] += tag == OUTSIDE
            balance[sentence.language][word] += 1 if tag == OUTSIDE else -1
    return {
        language: sorted((word for word in counts if balance[language][word] > 0 and shape(word)), key=lambda w: (-counts[w], w))[:limit]
        for language, counts in frequency.items()
    }  # fmt: skip


def word_vectors(words: Sequence[str], pieces: WordTable, table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Unit vectors of words.

    Args:
        words: N of them.
        pieces: Cuts them.
        table: ``[V, d]``, a model's embeddings of pieces.

    Returns:
        ``[N, d]`` float32, the mean of each word's rows brought to length 1; 0 for a word with an unknown piece, of which nothing is known.
    """
    rows = pieces.rows(words)
    ids, lengths = pieces.pieces[rows], pieces.lengths[rows]
    total = np.zeros((len(words), table.shape[1]), dtype=np.float32)
    for at in range(int(lengths.max(initial=0))):  # a column at a time: all at once would be as many vectors as there are pieces
        has = lengths > at
        total[has] += table[ids[has, at]]
    total[(ids == pieces.unk_id).any(axis=1)] = 0.0
    length = np.linalg.norm(total, axis=1, keepdims=True)
    total /= np.where(length > 0, length, 1.0)
    return total


def near_words(words: Sequence[str], vectors: npt.NDArray[np.float32], count: int) -> dict[str, tuple[str, ...]]:
    """The nearest words of the same shape for each word.

    Args:
        words: N words of one language.
        vectors: ``[N, d]`` of length 1, or 0 for words that have none.
        count: How many for each; fewer where fewer have that shape.

    Returns:
        Word to its nearest, in the order of `words`: only which they are depends on rounding, and that seldom.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number in np.flatnonzero(vectors.any(axis=1)).tolist():
        groups[shape(words[number])].append(number)
    near: dict[str, tuple[str, ...]] = {}
    for group in (np.array(numbers) for numbers in groups.values() if len(numbers) > 1):
        nearest = min(count, len(group) - 1)
        own = vectors[group]
        for start in range(0, len(group), _BLOCK):
            block = own[start : start + _BLOCK]
            distance = -(block @ own.T)
            at = np.arange(len(block))
            distance[at, start + at] = np.inf
            chosen = np.sort(np.argpartition(distance, nearest - 1, axis=1)[:, :nearest], axis=1)
            for number, found in zip(group[start : start + _BLOCK], group[chosen], strict=True):
                near[words[number]] = tuple(words[other] for other in found)
    return near


def neighbours(words: Words, pieces: WordTable, table: npt.NDArray[np.float32], count: int) -> Candidates:
    """Candidates by `near_words`, the same for a word wherever it stands.

    Args:
        words: As from `words_outside`.
        pieces: Cuts them.
        table: ``[V, d]``, a model's embeddings of pieces.
        count: Candidates of a word.
    """
    near = {language: near_words(own, word_vectors(own, pieces, table), count) for language, own in words.items()}

    def candidates(sentence: Sentence) -> list[tuple[str, ...]]:
        own = near.get(sentence.language, {})
        return [own.get(word, ()) for word in sentence.words]

    return candidates


@dataclasses.dataclass(frozen=True)
class MaskedModel:
    """A masked language model.

    Attributes:
        network: From ``input_ids`` and ``attention_mask``, ``[N, S]`` int64, to an object with ``logits`` ``[N, S, V]``; in evaluation
            mode.
        pieces: Cuts words for it.
        bos_id: Piece before a sentence.
        eos_id: Piece after it.
        mask_id: Piece in place of a word.
        limit: Most pieces that it reads at once, without begin and end.
    """

    network: nn.Module
    pieces: WordTable
    bos_id: int
    eos_id: int
    mask_id: int
    limit: int

    def masked(self, words: Sequence[str], places: Sequence[int]) -> dict[int, list[int]]:
        """Place to the sentence's pieces with one mask for the word there; without the places that the model does not reach."""
        rows = self.pieces.rows(words)
        cut = [self.pieces.pieces[row, : self.pieces.lengths[row]].tolist() for row in rows]
        reached = int(np.searchsorted(np.cumsum([len(part) for part in cut]), self.limit, side="right"))
        made = {}
        for place in (place for place in places if place < reached):
            parts = [*cut[:place], [self.mask_id], *cut[place + 1 : reached]]
            made[place] = [self.bos_id, *(piece for part in parts for piece in part), self.eos_id]
        return made

    def scores(self, sequences: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """What each sequence says of its mask: ``[V]``, one after the other."""
        longest = max(map(len, sequences), default=1)
        step = max(1, _BATCH // longest)
        for start in range(0, len(sequences), step):
            part = sequences[start : start + step]
            ids = torch.full((len(part), longest), self.pieces.pad_id)
            real = torch.zeros_like(ids)
            for row, sequence in enumerate(part):
                ids[row, : len(sequence)] = torch.tensor(sequence)
                real[row, : len(sequence)] = 1
            with torch.inference_mode():
                logits = self.network(input_ids=ids, attention_mask=real).logits
            yield from logits[torch.arange(len(part)), (ids == self.mask_id).int().argmax(dim=1)]


def masked_words(words: Words, model: MaskedModel, count: int) -> Candidates:
    """Candidates by a masked language model: the words of one piece that it finds most probable, whatever pieces the replaced word has.

    Each word of a sentence is masked in turn, so this reads a sentence as often as it has words.

    Args:
        words: As from `words_outside`.
        model: The model.
        count: Candidates of a word.
    """
    single: dict[tuple[str, str], tuple[list[str], Tensor]] = {}
    for language, own in words.items():
        rows = model.pieces.rows(own)
        first = model.pieces.pieces[rows, 0]
        whole = (model.pieces.lengths[rows] == 1) & (first != model.pieces.unk_id)
        groups: dict[str, list[int]] = defaultdict(list)
        for number in np.flatnonzero(whole).tolist():
            groups[shape(own[number])].append(number)
        single |= {
            (language, kind): ([own[number] for number in numbers], torch.from_numpy(first[numbers]).long())
            for kind, numbers in groups.items()
        }
    known = {language: frozenset(own) for language, own in words.items()}

    def candidates(sentence: Sentence) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = [()] * len(sentence.words)
        tagged = zip(sentence.words, sentence.tags or (), strict=False)
        places = [at for at, (word, tag) in enumerate(tagged) if tag == OUTSIDE and word in known.get(sentence.language, ())]
        masked = model.masked(sentence.words, places)
        for place, scores in zip(masked, model.scores(list(masked.values())), strict=True):
            word = sentence.words[place]
            pool, ids = single.get((sentence.language, shape(word)), ([], torch.zeros(0, dtype=torch.long)))
            best = scores[ids].topk(min(count + 1, len(pool))).indices.tolist()  # one more: the word itself may be among them
            found[place] = tuple([pool[number] for number in best if pool[number] != word][:count])
        return found

    return candidates


def replace_words(sentences: Sequence[Sentence], candidates: Candidates, copies: int, probability: float, seed: int) -> list[Sentence]:
    """New sentences from labelled ones, with the same tags.

    Args:
        sentences: Labelled.
        candidates: What may stand in a word's place; not asked for the words of entities.
        copies: New sentences for each, at most: those in which nothing changed are left out.
        probability: That a word which has candidates is replaced, by each with equal probability.
        seed: Of the choice.
    """
    chooser = random.Random(seed)
    made: list[Sentence] = []
    for sentence, tags in labelled(sentences):
        pools = [pool if tag == OUTSIDE else () for tag, pool in zip(tags, candidates(sentence), strict=True)]
        for _ in range(copies if any(pools) else 0):
            words = tuple(
                chooser.choice(pool) if pool and chooser.random() < probability else word
                for word, pool in zip(sentence.words, pools, strict=True)
            )
            if words != sentence.words:
                made.append(dataclasses.replace(sentence, words=words, origin=f"{sentence.origin} (replaced)"))
    return made

"""Encoded corpora: every word once, beside its own targets, in batches that fit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nerdistill.corpus.encoded import EncodedCorpus, Encoder, Targets
from nerdistill.labels import LabelScheme
from nerdistill.records import Sentence
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.text.encoder import WordTable

SCHEME = LabelScheme(("PER", "LOC", "ORG"))
K = len(SCHEME.tags)
WORDS = ["Anna", "Berlin", "besucht", ".", "محمد", "东", "京", "राम", "i", "internationally", "gagné"]
LENGTHS = st.lists(st.integers(1, 14), min_size=1, max_size=12)
KINDS = ["words", "pieces"]
FAST = settings(max_examples=40)


def encoder(kind: str, vocabulary: Vocabulary, limit: int = 256) -> Encoder:
    table = WordTable(vocabulary.tokenizer, unk_id=1, pad_id=0)
    return Encoder(table, limit=limit) if kind == "words" else Encoder(table, bos_id=2, eos_id=3, limit=limit)


def text(lengths: list[int], seed: int = 0) -> list[Sentence]:
    """Words at random; the tag of word number n of all is n modulo K, so that a shifted tag shows."""
    draw = np.random.default_rng(seed)
    sentences, at = [], 0
    for number, length in enumerate(lengths):
        tags = tuple(SCHEME.tags[n % K] for n in range(at, at + length))
        sentences.append(Sentence(tuple(draw.choice(WORDS, length).tolist()), tags, ("de", "ar")[number % 2]))
        at += length
    return sentences


def numbered(n_words: int) -> Targets:
    """Signals that are the number of their word."""
    numbers = np.arange(n_words, dtype=np.float16)
    return Targets(np.stack([numbers] * K, axis=1), np.stack([-numbers] * 3, axis=1))


def build(kind: str, vocabulary: Vocabulary, lengths: list[int], limit: int = 256, overlap: int = 0) -> tuple[EncodedCorpus, list[str]]:
    sentences = text(lengths)
    words = [word for sentence in sentences for word in sentence.words]
    return EncodedCorpus(sentences, encoder(kind, vocabulary, limit), SCHEME, numbered(len(words)), overlap), words


def pieces(corpus: EncodedCorpus, word: str) -> list[int]:
    row = int(corpus.encoder.table.rows([word])[0])
    return [int(piece) for piece in corpus.encoder.table.pieces[row, : corpus.encoder.table.lengths[row]]]


def pieces_at(tensors: dict[str, Tensor], row: int, at: int) -> list[int]:
    """The pieces that a model reads for a word of a batch."""
    if "word_pieces" in tensors:
        return [int(piece) for piece in tensors["word_pieces"][tensors["word_index"][row, at]] if piece]
    first = int(tensors["first_piece"][row, at])
    last = at + 1 < int(tensors["lengths"][row])
    stop = int(tensors["first_piece"][row, at + 1]) if last else int(tensors["attention_mask"][row].sum()) - 1
    return [int(piece) for piece in tensors["input_ids"][row, first:stop]]


def padded_size(corpus: EncodedCorpus, batch: npt.NDArray[np.int64]) -> int:
    tensors = corpus.collate(batch)
    return int((tensors["input_ids"] if corpus.encoder.over_pieces else tensors["word_mask"]).numel())


@pytest.mark.parametrize("kind", KINDS)
@FAST
@given(lengths=LENGTHS, budget=st.integers(1, 60), limit=st.integers(4, 30), seed=st.none() | st.integers(0, 9))
def test_batches_cover_each_item_once_within_the_budget(
    kind: str, vocabulary: Vocabulary, lengths: list[int], budget: int, limit: int, seed: int | None
) -> None:
    """A sentence that falls between two batches is never learnt; a batch above the budget ends a run in memory."""
    corpus, _ = build(kind, vocabulary, lengths, limit)
    rng = None if seed is None else np.random.default_rng(seed)
    batches = corpus.batches(budget, rng)
    assert sorted(item for batch in batches for item in batch.tolist()) == list(range(len(corpus.items)))
    for batch in batches:
        assert len(batch) == 1 or padded_size(corpus, batch) <= budget
    if rng is None:
        longest = [int(corpus.costs[batch].max()) for batch in batches]
        assert longest == sorted(longest)


@pytest.mark.parametrize("kind", KINDS)
@FAST
@given(lengths=LENGTHS, limit=st.integers(4, 30), overlap=st.integers(0, 6))
def test_items_fit_and_cover_each_word_once(kind: str, vocabulary: Vocabulary, lengths: list[int], limit: int, overlap: int) -> None:
    """Long sentences are cut, never truncated: each word is used from one part, and no part is too long for the model."""
    corpus, words = build(kind, vocabulary, lengths, limit, overlap)
    kept = [n for start, stop in corpus.kept.tolist() for n in range(start, stop)]
    assert kept == list(range(len(words)))
    costs = corpus.encoder.costs(corpus.rows)
    for (start, stop), (first, last), owner in zip(corpus.items.tolist(), corpus.kept.tolist(), corpus.item_sentence.tolist(), strict=True):
        assert costs[start:stop].sum() <= limit or stop - start == 1
        assert start <= first <= last <= stop
        assert corpus.offsets[owner] <= start < stop <= corpus.offsets[owner + 1], "an item runs over the end of its sentence"
    if overlap == 0:
        assert corpus.items.tolist() == corpus.kept.tolist(), "a word that counts twice in learning"


@pytest.mark.parametrize("kind", KINDS)
@FAST
@given(lengths=LENGTHS, limit=st.integers(16, 40), seed=st.integers(0, 9), data=st.data())
def test_targets_stay_with_their_words(
    kind: str, vocabulary: Vocabulary, lengths: list[int], limit: int, seed: int, data: st.DataObject
) -> None:
    """Signals of another word: training runs, and learns noise. Under shuffling, cutting and `select`."""
    corpus, words = build(kind, vocabulary, lengths, limit)
    if data.draw(st.booleans()):
        chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, unique=True))
        corpus = corpus.select(chosen)
        assert sorted(set(corpus.item_sentence.tolist())) == sorted(chosen)
    seen: Counter[int] = Counter()
    for batch in corpus.batches(40, np.random.default_rng(seed)):
        tensors = corpus.collate(batch)
        mask = tensors["word_mask"]
        assert torch.equal(mask.sum(dim=1), tensors["lengths"])
        for row, at in mask.nonzero().tolist():
            number = int(tensors["teacher_logits"][row, at, 0])
            seen[number] += 1
            assert pieces_at(tensors, row, at) == pieces(corpus, words[number])
            assert int(tensors["teacher_hidden"][row, at, 2]) == -number
            assert int(tensors["tags"][row, at]) == number % K
        for key in ("teacher_logits", "teacher_hidden", "tags"):
            assert not bool(tensors[key][~mask].any()), f"{key}: padding is not zero"
        assert tensors["teacher_logits"].dtype == torch.float16
        assert tensors["tags"].dtype == torch.int64
    kept = [n for start, stop in corpus.items.tolist() for n in range(start, stop)]
    assert seen == Counter(kept)


@pytest.mark.parametrize("kind", KINDS)
@FAST
@given(lengths=LENGTHS, limit=st.integers(16, 40), overlap=st.integers(0, 6), budget=st.integers(1, 80))
def test_predictions_come_in_the_order_of_the_text(
    kind: str, vocabulary: Vocabulary, lengths: list[int], limit: int, overlap: int, budget: int
) -> None:
    """Batches are sorted by length; a prediction that is not sorted back is scored against another sentence's gold tags."""
    corpus, words = build(kind, vocabulary, lengths, limit, overlap)

    def run(tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        first = [[float(pieces_at(tensors, row, at)[0]) if ok else -1.0 for at, ok in enumerate(line)]
                 for row, line in enumerate(tensors["word_mask"].tolist())]  # fmt: skip
        return torch.tensor(first), tensors["teacher_hidden"]

    found, states = corpus.predict(run, budget)
    assert found.dtype == np.float32
    assert found.tolist() == [pieces(corpus, word)[0] for word in words]
    assert states.shape == (len(words), 3)
    assert states[:, 0].tolist() == [-float(n) for n in range(len(words))]


def test_predictions_are_read_far_from_an_edge(vocabulary: Vocabulary) -> None:
    """With overlap, a word near a cut has context on both sides; without it the windows would be cut dry."""
    corpus, _ = build("words", vocabulary, [30], limit=10, overlap=4)
    assert all(stop - start <= 10 for start, stop in corpus.items.tolist())

    def run(tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Words of the part before each word, and after it."""
        before = torch.arange(tensors["word_mask"].shape[1]).expand(tensors["word_mask"].shape)
        return before, tensors["lengths"][:, None] - before - 1

    before, after = corpus.predict(run, 100)
    for word in range(30):
        assert before[word] >= min(word, 2)
        assert after[word] >= min(29 - word, 2)


def test_a_word_above_the_limit_gets_an_item_of_its_own(vocabulary: Vocabulary) -> None:
    """A URL longer than the model's input would loop for ever or take its sentence with it."""
    long = Sentence(("Anna", "internationally" * 4, "Berlin"))
    corpus = EncodedCorpus([long], encoder("pieces", vocabulary, limit=6))
    assert [stop - start for start, stop in corpus.items.tolist()] == [1, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_chosen_items_may_repeat(kind: str, vocabulary: Vocabulary) -> None:
    """Sampling by language draws an item several times; each draw counts."""
    corpus, _ = build(kind, vocabulary, [3, 4, 5])
    for rng in (None, np.random.default_rng(0)):
        batches = corpus.batches(30, rng, np.array([0, 0, 2, 2, 2]))
        assert Counter(item for batch in batches for item in batch.tolist()) == {0: 2, 2: 3}
    assert corpus.batches(30, np.random.default_rng(0), np.array([], dtype=np.int64)) == []


def test_shuffles_follow_the_generator(vocabulary: Vocabulary) -> None:
    """A continued run repeats the order from its seed; another seed is another order."""
    corpus, _ = build("words", vocabulary, list(range(1, 15)) * 3)
    order = [[batch.tolist() for batch in corpus.batches(20, np.random.default_rng(seed))] for seed in (1, 1, 2)]
    assert order[0] == order[1] != order[2]


def test_empty_sentences_are_no_items(vocabulary: Vocabulary) -> None:
    """An item without words has no place in a padded batch."""
    corpus = EncodedCorpus([Sentence(()), Sentence(("Anna",)), Sentence(())], encoder("words", vocabulary))
    assert corpus.items.tolist() == [[0, 1]]
    assert corpus.item_sentence.tolist() == [1]
    assert corpus.offsets.tolist() == [0, 0, 1, 1]


def test_unannotated_types_go_with_their_sentence(vocabulary: Vocabulary) -> None:
    """The wrong sentence's open types would make its gold tags say nothing."""
    sentences = [
        Sentence(("Anna", "besucht", "Berlin"), ("B-PER", "O", "O"), unannotated=frozenset({"LOC"})),
        Sentence(("Anna",), ("B-PER",)),
    ]
    corpus = EncodedCorpus(sentences, encoder("words", vocabulary), SCHEME)
    for order in ([0, 1], [1, 0]):
        opened = corpus.collate(np.array(order))["unannotated"]
        assert [SCHEME.tags[tag] for tag in opened[order.index(0)].nonzero()[:, 0]] == ["B-LOC", "I-LOC"]
        assert not bool(opened[order.index(1)].any())
    assert "unannotated" not in EncodedCorpus(sentences[1:], encoder("words", vocabulary), SCHEME).collate(np.array([0]))


def test_tags_only_where_all_have_them(vocabulary: Vocabulary) -> None:
    """Sentences without tags must not be learnt as all O."""
    mixed = [Sentence(("Anna",), ("B-PER",)), Sentence(("Berlin",))]
    assert "tags" not in EncodedCorpus(mixed, encoder("words", vocabulary), SCHEME).collate(np.array([0, 1]))


@pytest.mark.parametrize(("logits", "hidden"), [(3, 4), (4, 3), (5, 5)])
def test_signals_of_another_text_are_refused(vocabulary: Vocabulary, logits: int, hidden: int) -> None:
    """Signals that are one word short are shifted against all words that follow."""
    targets = Targets(np.zeros((logits, K), np.float16), np.zeros((hidden, 2), np.float16))
    with pytest.raises(ValueError, match="words of signals for 4 words"):
        EncodedCorpus(text([4]), encoder("words", vocabulary), targets=targets)


@pytest.mark.parametrize("kind", KINDS)
def test_joined_text_reads_a_sentence_once_with_all_that_is_known_of_it(kind: str, vocabulary: Vocabulary) -> None:
    """A labelled sentence that is transfer text too is read twice, or loses its tags or the teacher's signals, or gets another's."""
    sentences = text([3, 5, 2, 4, 6], seed=3)
    reads = encoder(kind, vocabulary)
    labelled = EncodedCorpus([sentences[4], sentences[1], sentences[0]], reads, SCHEME)
    untagged = [Sentence(sentence.words, None, sentence.language) for sentence in sentences[1:]]
    transfer = EncodedCorpus(untagged, reads, targets=numbered(sum(len(sentence.words) for sentence in untagged)))
    begins = dict(zip([sentence.words for sentence in untagged], transfer.offsets.tolist(), strict=False))
    both = labelled.join(
        transfer.select([0, 1, 2])
    )  # the transfer text's last sentence is held out, though it is the labelled text's first
    met = Counter[tuple[str, ...]]()
    for batch in both.batches(64, None):
        tensors = both.collate(batch)
        for row, number in enumerate(both.item_sentence[batch].tolist()):
            words = (*(s.words for s in (sentences[4], sentences[1], sentences[0])), *(s.words for s in untagged))[number]
            met[words] += 1
            assert tensors["without_tags"][row].item() == (words not in {sentences[n].words for n in (0, 1, 4)})
            assert tensors["without_signals"][row].item() == (words not in {sentences[n].words for n in (1, 2, 3)})
            if not tensors["without_signals"][row]:
                assert tensors["teacher_logits"][row, : len(words), 0].tolist() == [begins[words] + n for n in range(len(words))]
            else:
                assert not tensors["teacher_logits"][row].any()
    assert met == Counter(sentence.words for sentence in sentences)

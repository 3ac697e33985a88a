"""Tests of `nerdistill.runtime.decode`."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerdistill.labels import LabelScheme, repair, spans_of
from nerdistill.records import WordSpan
from nerdistill.runtime.decode import Floats, decode_tags, log_softmax, spans_of_tags, viterbi

SCHEME = LabelScheme(("PER", "LOC"))
K = len(SCHEME.tags)
SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.lists(st.integers(0, 12), max_size=5)


def scores_of(seed: int, n_words: int, spread: float = 3.0) -> Floats:
    """Random log-probabilities."""
    return log_softmax(np.random.default_rng(seed).normal(0, spread, (n_words, K)).astype(np.float32))


def offsets_of(lengths: list[int]) -> npt.NDArray[np.int64]:
    """Where sentences of these lengths begin, laid end to end."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def best_by_force(scores: Floats) -> float:
    """The largest sum over every valid sequence."""
    sequences = itertools.product(range(K), repeat=len(scores))
    valid = [ids for ids in sequences if repair(SCHEME.decode(ids))[1] == 0]
    return max(float(sum(scores[at, tag] for at, tag in enumerate(ids))) for ids in valid)


@given(SEEDS, st.integers(1, 4), st.sampled_from([0.1, 3.0, 30.0]))
@settings(max_examples=40)
def test_viterbi_finds_the_best_valid_sequence(seed: int, n_words: int, spread: float) -> None:
    """Prevents a sequence that is valid but not the most probable one: against all valid ones."""
    scores = scores_of(seed, n_words, spread)
    tags = viterbi(scores, SCHEME.allowed)
    assert repair(SCHEME.decode(tags))[1] == 0
    assert float(scores[np.arange(n_words), tags].sum()) == pytest.approx(best_by_force(scores), rel=1e-5, abs=1e-5)


@given(SEEDS, LENGTHS)
def test_many_sentences_decode_as_each_alone(seed: int, lengths: list[int]) -> None:
    """Prevents sentences in one batch, empty ones among them, from reaching into each other; and the shortcut from differing."""
    scores, offsets = scores_of(seed, sum(lengths)), offsets_of(lengths)
    tags = decode_tags(scores, offsets, SCHEME)
    for start, stop in itertools.pairwise(offsets.tolist()):
        alone = viterbi(scores[start:stop], SCHEME.allowed) if stop > start else np.zeros(0)
        assert tags[start:stop].tolist() == alone.tolist()


@pytest.mark.parametrize("lean", [0.0, 2.0])
def test_parts_decode_as_the_whole(lean: float) -> None:
    """Prevents the few words that are decoded around a forbidden tag from giving another sequence than all words of the sentence do.

    With a lean towards ``I``, answers begin with it and parts are joined, up to the whole sentence.
    """
    logits = np.random.default_rng(1).normal(0, 1, (6000, K)).astype(np.float32)
    logits[:, 2::2] += lean
    offsets = np.arange(0, 6001, 30)
    tags = decode_tags(logits, offsets, SCHEME)
    whole = [viterbi(logits[start:stop], SCHEME.allowed) for start, stop in itertools.pairwise(offsets.tolist())]
    assert tags.tolist() == np.concatenate(whole).tolist()


@given(SEEDS, LENGTHS)
def test_spans_are_those_of_the_tags(seed: int, lengths: list[int]) -> None:
    """Prevents the fast way to entities from differing from the plain one, and any score outside its definition."""
    scores, offsets = scores_of(seed, sum(lengths)), offsets_of(lengths)
    tags = decode_tags(scores, offsets, SCHEME)
    found = spans_of_tags(tags, scores, offsets, SCHEME)
    assert len(found) == len(lengths)
    for spans, (start, stop) in zip(found, itertools.pairwise(offsets.tolist()), strict=True):
        names = SCHEME.decode(tags[start:stop])
        assert repair(names)[1] == 0
        assert [WordSpan(span.start, span.stop, span.label) for span in spans] == spans_of(names)
        for span in spans:
            places = np.arange(start + span.start, start + span.stop)
            probabilities = np.exp(scores[places, tags[places]].astype(np.float64))
            assert span.score == pytest.approx(float(probabilities.prod() ** (1 / len(places))), rel=1e-4)
            assert 0 < span.score <= 1


def test_an_entity_never_crosses_sentences() -> None:
    """Prevents ``I-PER`` at the start of a sentence from continuing the last entity of the one before."""
    scores = np.full((2, K), -20.0, dtype=np.float32)
    scores[0, SCHEME.ids["B-PER"]] = scores[1, SCHEME.ids["I-PER"]] = -0.1
    scores[1, SCHEME.ids["B-PER"]] = -3.0
    for offsets, tags in (([0, 2], ["B-PER", "I-PER"]), ([0, 1, 2], ["B-PER", "B-PER"]), ([0, 0, 1, 1, 2, 2], ["B-PER", "B-PER"])):
        assert list(SCHEME.decode(decode_tags(scores, np.array(offsets), SCHEME))) == tags


def test_scores_keep_their_range() -> None:
    """Prevents a score of 0, of more than 1, or a division of the next one by 0, for networks that are all too sure."""
    logits = np.array([[0, 5000, 0, 0, 0], [0, -9000, -9000, -9000, 9000]], dtype=np.float32)
    scores = log_softmax(logits)
    (span,) = spans_of_tags(np.array([1, 2]), scores, np.array([0, 2]), SCHEME)[0]
    assert 0 < span.score <= 1
    assert type(span.score) is float


def test_logits_say_the_same_as_log_probabilities() -> None:
    """Prevents scores that depend on where the logits were normalised: the tagger leaves that to the few words of entities."""
    logits = np.random.default_rng(1).normal(5, 3, (200, K)).astype(np.float32)
    offsets = np.array([0, 80, 80, 200])
    of_logits, of_scores = (
        spans_of_tags(decode_tags(scores, offsets, SCHEME), scores, offsets, SCHEME) for scores in (logits, log_softmax(logits))
    )
    for one, other in zip(of_logits, of_scores, strict=True):
        assert [(span.start, span.stop, span.label) for span in one] == [(span.start, span.stop, span.label) for span in other]
        assert [span.score for span in one] == pytest.approx([span.score for span in other], rel=1e-5)


def test_nothing_to_decode() -> None:
    """Prevents a failure over no texts, or over texts without a word."""
    empty = np.zeros((0, K), dtype=np.float32)
    for offsets in ([0], [0, 0, 0]):
        tags = decode_tags(log_softmax(empty), np.array(offsets), SCHEME)
        assert spans_of_tags(tags, empty, np.array(offsets), SCHEME) == [[]] * (len(offsets) - 1)


def test_log_softmax_is_stable() -> None:
    """Prevents infinities for large logits; probabilities add to one."""
    scores = log_softmax(np.array([[1e4, -1e4, 0], [3, 3, 3]], dtype=np.float32))
    assert np.isfinite(scores).all()
    assert np.exp(scores).sum(axis=1) == pytest.approx(1)

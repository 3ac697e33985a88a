"""Splits: sets apart from each other, whatever the order, the splitting into words or the spelling of case."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nerdistill.corpus.splits import digests, distinct, evenly, split_by_content, without
from nerdistill.records import Sentence

TEXTS = st.lists(st.lists(st.sampled_from(["a", "B", "ß", "محمد", "东", "1", "\ud800"]), min_size=1, max_size=3).map(tuple), max_size=25)


def made(texts: list[tuple[str, ...]]) -> list[Sentence]:
    return [Sentence(words, origin=str(number)) for number, words in enumerate(texts)]


def test_leaks_are_found_through_another_splitting() -> None:
    """The same sentence under another tokenizer, spacing or case is the same test sentence."""
    held_out = digests([Sentence(("L'", "Italie", "gagne", "!")), Sentence(("STRASSE",))])
    assert without([Sentence(("L'Italie", "gagne!")), Sentence(("l'", "italie", "gagne", "!"))], held_out) == []
    assert without([Sentence(("straße",))], held_out) == []
    other = [Sentence(("L'Italie", "gagne")), Sentence(("L'", "Italie", "gagne", "!", "!"))]
    assert without(other, held_out) == other


@given(texts=TEXTS, cut=st.integers(0, 25))
def test_nothing_held_out_is_left(texts: list[tuple[str, ...]], cut: int) -> None:
    """A test sentence in the training text makes every score a lie."""
    sentences = made(texts)
    held_out = digests(sentences[:cut])
    kept = without(sentences[cut:], held_out)
    assert not digests(kept) & held_out
    assert kept == [sentence for sentence in sentences[cut:] if not digests([sentence]) & held_out]


@given(texts=TEXTS)
def test_distinct_keeps_the_first_of_equals(texts: list[tuple[str, ...]]) -> None:
    """A sentence that is there ten times is learnt ten times; the one that is kept names the place where it was first read."""
    sentences = made(texts)
    once = distinct(sentences)
    assert len(once) == len(digests(sentences))
    assert digests(once) == digests(sentences)
    for sentence in once:
        first = next(other for other in sentences if digests([other]) == digests([sentence]))
        assert sentence is first


@given(texts=TEXTS, fraction=st.floats(0, 1), salt=st.sampled_from(["dev", "x"]), order=st.randoms(use_true_random=False))
def test_split_depends_on_content_alone(texts: list[tuple[str, ...]], fraction: float, salt: str, order: st.DataObject) -> None:
    """A sentence that changes sides when the file is sorted or grows leaks from one run's dev set into the next one's training."""
    sentences = made(texts)
    large, small = split_by_content(sentences, fraction, salt)
    assert sorted([*large, *small], key=lambda sentence: int(sentence.origin)) == sentences
    assert not digests(large) & digests(small), "equal sentences on both sides"
    shuffled = list(sentences)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert digests(split_by_content(shuffled, fraction, salt)[1]) == digests(small)
    half = sentences[: len(sentences) // 2]
    assert digests(split_by_content(half, fraction, salt)[1]) == digests(half) & digests(small)


def test_split_sizes_and_salts() -> None:
    """A fraction that is off, or a salt that is ignored."""
    sentences = made([(f"word{number}",) for number in range(2000)])
    assert split_by_content(sentences, 0.0, "a")[1] == []
    assert split_by_content(sentences, 1.0, "a")[0] == []
    small = split_by_content(sentences, 0.1, "a")[1]
    assert 150 < len(small) < 250
    assert digests(small) != digests(split_by_content(sentences, 0.1, "b")[1])
    assert digests(small) < digests(split_by_content(sentences, 0.2, "a")[1]), "a larger part holds the smaller one"


@given(n=st.integers(0, 40), limit=st.integers(0, 50))
def test_evenly_spreads_over_the_whole(n: int, limit: int) -> None:
    """The first sentences of a file are often of one source or length."""
    sentences = made([(str(number),) for number in range(n)])
    chosen = [int(sentence.origin) for sentence in evenly(sentences, limit)]
    assert chosen == sorted(set(chosen))
    if not 0 < limit < n:
        assert chosen == list(range(n))
        return
    assert len(chosen) == limit
    gaps = [later - sooner for sooner, later in zip(chosen, [*chosen[1:], n], strict=True)]
    assert chosen[0] == 0
    assert max(gaps) - min(gaps) <= 1

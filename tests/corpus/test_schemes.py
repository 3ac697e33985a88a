"""Tag schemes: detection, conversion to IOB2, refusal of what is no tag."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerdistill.corpus.schemes import Scheme, detect_scheme, is_tag, parse_tag, scheme_of, to_iob2
from nerdistill.errors import ConfigError, DataError
from nerdistill.labels import repair, tags_of
from nerdistill.records import WordSpan


@st.composite
def entities(draw: st.DrawFn) -> tuple[list[WordSpan], int]:
    """Spans that do not overlap, neighbours of one type among them, and the number of words."""
    spans, at = [], 0
    for gap, length, label in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["PER", "LOC", "o-x"])), max_size=6)
    ):
        spans.append(WordSpan(at + gap, at + gap + length, label))
        at += gap + length
    return spans, at + draw(st.integers(0, 2))


def bracketed(begin: str, inside: str, end: str, single: str) -> Callable[[list[WordSpan], int], list[str]]:
    def encode(spans: list[WordSpan], n_words: int) -> list[str]:
        tags = ["O"] * n_words
        for span in spans:
            length = span.stop - span.start
            prefixes = [single] if length == 1 else [begin, *[inside] * (length - 2), end]
            tags[span.start : span.stop] = [f"{prefix}-{span.label}" for prefix in prefixes]
        return tags

    return encode


def iob1(spans: list[WordSpan], n_words: int) -> list[str]:
    tags = ["O"] * n_words
    for span in spans:
        touches = span.start > 0 and tags[span.start - 1].endswith(f"-{span.label}")
        tags[span.start : span.stop] = [f"I-{span.label}"] * (span.stop - span.start)
        if touches:
            tags[span.start] = f"B-{span.label}"
    return tags


ENCODERS: dict[Scheme, Callable[[list[WordSpan], int], list[str]]] = {
    "iob1": iob1,
    "iob2": lambda spans, n_words: list(tags_of(spans, n_words)),
    "bioes": bracketed("B", "I", "E", "S"),
    "bilou": bracketed("B", "I", "L", "U"),
}


@pytest.mark.parametrize("scheme", ENCODERS)
@given(case=entities())
@settings(max_examples=60)
def test_every_scheme_round_trips(scheme: Scheme, case: tuple[list[WordSpan], int]) -> None:
    """Prevents entities that are cut, merged or shifted when a corpus in another scheme is read."""
    spans, n_words = case
    assert to_iob2(ENCODERS[scheme](spans, n_words), scheme) == (tags_of(spans, n_words), 0)


@pytest.mark.parametrize("scheme", ENCODERS)
@given(cases=st.lists(entities(), min_size=1, max_size=4))
@settings(max_examples=60)
def test_detection_never_changes_the_entities(scheme: Scheme, cases: list[tuple[list[WordSpan], int]]) -> None:
    """Prevents a wrong guess: whatever scheme is detected, the file's entities come out."""
    sentences = [ENCODERS[scheme](*case) for case in cases]
    found = detect_scheme(sentences)
    assert [to_iob2(tags, found) for tags in sentences] == [(tags_of(*case), 0) for case in cases]


@given(tags=st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=12))
@settings(max_examples=100)
def test_invalid_iob2_is_repaired_by_the_one_rule(tags: list[str]) -> None:
    """Prevents two repair rules in one program, which would make gold and predictions disagree."""
    assert to_iob2(tags, "iob2") == repair(tags)


@given(tags=st.lists(st.sampled_from(["O", *(f"{p}-{t}" for p in "BIES" for t in "AB")]), max_size=12))
@settings(max_examples=100)
def test_any_bioes_becomes_valid_iob2(tags: list[str]) -> None:
    """Prevents tags that the student cannot learn: the result never needs a second repair."""
    fixed, _ = to_iob2(tags, "bioes")
    assert repair(fixed) == (fixed, 0)


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        ([], "iob2"),
        ([["O", "O"], []], "iob2"),
        ([["I-PER", "I-PER", "B-PER", "O", "I-LOC"]], "iob1"),
        ([["I-PER", "O", "I-LOC"]], "iob1"),
        ([["B-PER", "I-PER", "B-PER"]], "iob2"),
        ([["O", "I-PER"], ["B-PER", "O"]], "iob2"),
        ([["B-PER", "I-PER"], ["S-LOC"]], "bioes"),
        ([["B-PER", "I-PER"], ["B-LOC", "E-LOC"]], "bioes"),
        ([["B-PER"], ["U-LOC", "O"]], "bilou"),
        ([["B-PER", "L-PER"]], "bilou"),
    ],
)
def test_detects_the_scheme_from_all_sentences(sentences: list[list[str]], scheme: Scheme) -> None:
    """Prevents a guess from the first sentence only, or a crash on files without entities."""
    assert detect_scheme(sentences) == scheme


def test_refuses_bioes_mixed_with_bilou() -> None:
    """Prevents silent conversion of a file that was glued together from two schemes."""
    with pytest.raises(DataError, match=r"a.conll: BIOES and BILOU are mixed.*S-, U-"):
        detect_scheme([["S-PER"], ["U-PER"]], "a.conll")


@pytest.mark.parametrize(
    ("tags", "scheme", "expected", "repairs"),
    [
        (["O", "I-PER", "I-PER"], "iob2", ("O", "B-PER", "I-PER"), 1),
        (["B-PER", "I-LOC"], "iob2", ("B-PER", "B-LOC"), 1),
        (["I-PER", "I-LOC"], "iob1", ("B-PER", "B-LOC"), 0),
        (["B-PER", "E-PER", "I-PER"], "bioes", ("B-PER", "I-PER", "B-PER"), 1),
        (["S-PER", "E-PER", "S-PER"], "bioes", ("B-PER", "B-PER", "B-PER"), 1),
        (["O", "L-PER"], "bilou", ("O", "B-PER"), 1),
    ],
)
def test_counts_repairs(tags: list[str], scheme: Scheme, expected: tuple[str, ...], repairs: int) -> None:
    """Prevents entities lost after an invalid tag, and repairs that nobody hears of."""
    assert to_iob2(tags, scheme) == (expected, repairs)


def test_refuses_a_tag_of_another_scheme() -> None:
    """Prevents ``S-PER`` read as something else where the user named the wrong scheme."""
    with pytest.raises(DataError, match="f:3: the tag 'S-PER' does not belong to the scheme iob2"):
        to_iob2(["S-PER"], "iob2", "f:3")


@pytest.mark.parametrize(
    ("tag", "closest"),
    [
        ("B_PER", "B-PER"),
        ("PER-B", "B-PER"),
        ("b-per", "B-PER"),
        ("per-b", "B-PER"),
        ("I/LOC", "I-LOC"),
        ("PER", "B-PER"),
        ("M-PER", "I-PER"),
        ("B-", "B-PER"),
        ("B-PER ", "B-PER"),
        ("", "O"),
        ("o", "O"),
        ("0", "O"),
    ],
)
def test_names_the_closest_known_form(tag: str, closest: str) -> None:
    """Prevents odd tags passing as types of their own, or an error that leaves the user guessing."""
    assert not is_tag(tag)
    with pytest.raises(DataError) as error:
        parse_tag(tag, "train.conll:12")
    assert str(error.value).startswith(f"train.conll:12: unknown tag {tag!r}, ")
    assert str(error.value).endswith(f"closest known form is '{closest}'")


def test_suggests_the_files_own_spelling() -> None:
    """Prevents a suggestion in capitals where the file's types are in lower case."""
    with pytest.raises(DataError, match="'B-person'"):
        parse_tag("b-Person", "f:1", {"B-person", "O"})


def test_scheme_names() -> None:
    """Prevents two names of one scheme giving two results, and typos being ignored."""
    assert (scheme_of("BIO"), scheme_of("IOB2"), scheme_of("iobes")) == ("iob2", "iob2", "bioes")
    with pytest.raises(ConfigError, match="unknown tag scheme 'bmes'; known: auto"):
        scheme_of("bmes")

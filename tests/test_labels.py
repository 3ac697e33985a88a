"""Tests of `nerdistill.labels`."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerdistill.labels import LabelScheme, repair, spans_of, tag_type, tags_of
from nerdistill.records import WordSpan

SCHEME = LabelScheme(("PER", "LOC", "a-b"))
ANY_TAGS = st.lists(st.sampled_from(SCHEME.tags), max_size=12)


def is_valid(tags: tuple[str, ...]) -> bool:
    """Whether every ``I-X`` follows ``B-X`` or ``I-X``: the definition of IOB2, in words."""
    return all(not tag.startswith("I-") or before in (f"B-{tag[2:]}", tag) for before, tag in zip(("O", *tags), tags, strict=False))


def test_ids_are_where_the_decoder_expects_them() -> None:
    """Prevents a change of tag order under the decoder's arithmetic: O first, then B and I of each type."""
    assert SCHEME.tags == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-a-b", "I-a-b")
    assert [SCHEME.ids[tag] for tag in SCHEME.tags] == list(range(7))


def test_a_type_may_contain_a_hyphen() -> None:
    """Prevents a type such as ``a-b`` from being cut at its own hyphen."""
    assert tag_type("B-a-b") == "a-b"
    assert spans_of(["B-a-b", "I-a-b"]) == [WordSpan(0, 2, "a-b")]


@pytest.mark.parametrize("types", [("PER", "PER"), ("PER", ""), ("",)])
def test_ambiguous_types_are_refused(types: tuple[str, ...]) -> None:
    """Prevents two ids for one tag, or a tag without a type."""
    with pytest.raises(ValueError, match="distinct and not empty"):
        LabelScheme(types)


def test_encode_names_an_unknown_tag() -> None:
    """Prevents an unknown tag from becoming some id."""
    with pytest.raises(KeyError, match="B-ORG"):
        SCHEME.encode(["O", "B-ORG"])


@given(ANY_TAGS)
def test_encode_and_decode_are_inverse(tags: list[str]) -> None:
    """Prevents tags from changing on their way through ids."""
    assert list(SCHEME.decode(SCHEME.encode(tags))) == tags


def test_the_table_of_steps_is_iob2() -> None:
    """Prevents a decoder that forbids a valid step or allows an invalid one: all pairs, and every start."""
    for start, tag in enumerate(SCHEME.tags):
        assert SCHEME.allowed[-1, start] == is_valid((tag,))
    for (j, before), (k, tag) in itertools.product(enumerate(SCHEME.tags), repeat=2):
        assert SCHEME.allowed[j, k] == (not tag.startswith("I-") or before[2:] == tag[2:])


@given(ANY_TAGS)
def test_repair_makes_valid_tags_and_counts(tags: list[str]) -> None:
    """Prevents invalid tags after repair, changes that are not counted, and changes of anything but a lost ``I-``."""
    fixed, changes = repair(tags)
    assert is_valid(fixed)
    changed = [(old, new) for old, new in zip(tags, fixed, strict=True) if old != new]
    assert len(changed) == changes
    assert all(old == f"I-{new[2:]}" and new.startswith("B-") for old, new in changed)
    assert repair(fixed) == (fixed, 0)


@given(ANY_TAGS)
def test_spans_and_tags_are_inverse(tags: list[str]) -> None:
    """Prevents entities that merge, split or shift between tags and spans; neighbours of one type above all."""
    fixed, _ = repair(tags)
    spans = spans_of(fixed)
    assert tags_of(spans, len(fixed)) == fixed
    assert len(spans) == sum(tag.startswith("B-") for tag in fixed)


def test_neighbours_of_one_type_stay_apart() -> None:
    """Prevents ``B-X B-X`` from being read as one entity."""
    assert spans_of(["B-PER", "B-PER", "I-PER"]) == [WordSpan(0, 1, "PER"), WordSpan(1, 3, "PER")]

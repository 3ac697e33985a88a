"""Label maps: renaming, dropping and refusing entity types."""

from __future__ import annotations

import pytest

from nerdistill.corpus.labelmap import LabelMap
from nerdistill.errors import ConfigError, DataError
from nerdistill.records import Sentence

TARGETS = ("PER", "LOC", "ORG")


def sentence(*tags: str) -> Sentence:
    return Sentence(tuple(f"w{at}" for at in range(len(tags))), tags, "de", "f:1")


def test_renames_drops_and_keeps() -> None:
    """Prevents types that lose their prefix, or neighbours that grow together, when they are mapped."""
    mapped = LabelMap(TARGETS, {"GPE": "LOC", "MISC": "O"}).apply(sentence("B-GPE", "I-GPE", "B-LOC", "B-MISC", "I-MISC", "B-PER"))
    assert mapped.tags == ("B-LOC", "I-LOC", "B-LOC", "O", "O", "B-PER")
    assert (mapped.words, mapped.language, mapped.origin) == (sentence(*mapped.tags).words, "de", "f:1")


def test_refuses_unknown_types_by_name() -> None:
    """Prevents an unknown type becoming O in silence, which teaches the student to miss it."""
    with pytest.raises(DataError, match=r"f:1: found 'DATE', 'GPE', expected the types PER, LOC, ORG; add them to the label map") as error:
        LabelMap(TARGETS).apply(sentence("B-GPE", "O", "B-DATE", "B-PER"))
    assert 'DATE = "O"' in str(error.value)


def test_notes_what_the_source_does_not_mark() -> None:
    """Prevents O being learned as "no MISC" from a source that never marks MISC."""
    mapped = LabelMap((*TARGETS, "MISC"), unannotated=frozenset({"MISC"})).apply(sentence("B-PER", "O"))
    assert mapped.unannotated == {"MISC"}


def test_refuses_a_type_that_was_said_not_to_be_marked() -> None:
    """Prevents training on a type and ignoring it at the same time."""
    with pytest.raises(DataError, match="f:1: found 'MISC', which this source is said not to annotate"):
        LabelMap((*TARGETS, "MISC"), unannotated=frozenset({"MISC"})).apply(sentence("B-MISC"))


def test_a_partly_marked_type_can_be_dropped() -> None:
    """Prevents a dead end: noise of an unannotated type can be mapped to O."""
    labels = LabelMap((*TARGETS, "MISC"), {"MISC": "O"}, frozenset({"MISC"}))
    assert labels.apply(sentence("B-MISC", "B-PER")).tags == ("O", "B-PER")


def test_the_map_comes_before_the_targets() -> None:
    """Prevents a type that is also a target from escaping the map."""
    assert LabelMap(TARGETS, {"ORG": "LOC"}).apply(sentence("B-ORG", "I-ORG")).tags == ("B-LOC", "I-LOC")


def test_passes_unlabelled_text() -> None:
    """Prevents a crash on transfer text, which has no tags."""
    assert LabelMap(TARGETS).apply(Sentence(("a",))).tags is None


@pytest.mark.parametrize(
    ("mapping", "unannotated", "message"),
    [
        ({"GPE": "PLACE"}, frozenset(), "leads to 'PLACE', expected 'O' or one of the types PER, LOC, ORG"),
        ({"O": "LOC"}, frozenset(), "names 'O' as an entity type"),
        ({}, frozenset({"MISC"}), "unannotated names 'MISC'"),
        ({"GPE": "LOC"}, frozenset({"LOC"}), "leads to 'LOC', which unannotated says"),
    ],
)
def test_refuses_a_map_that_contradicts_itself(mapping: dict[str, str], unannotated: frozenset[str], message: str) -> None:
    """Prevents a typo in the map from showing only after hours of training."""
    with pytest.raises(ConfigError, match=message):
        LabelMap(TARGETS, mapping, unannotated)


def test_is_frozen() -> None:
    """Prevents a map that changes after its fingerprint was taken."""
    mapping = {"GPE": "LOC"}
    labels = LabelMap(TARGETS, mapping)
    mapping["GPE"] = "PER"
    assert labels.mapping["GPE"] == "LOC"
    assert labels == LabelMap(TARGETS, {"GPE": "LOC"})
    assert hash(labels) == hash(LabelMap(TARGETS, {"GPE": "LOC"}))
    with pytest.raises(TypeError):
        labels.mapping["GPE"] = "PER"  # type: ignore[index]

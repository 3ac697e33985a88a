"""Swapped entities: new sentences of the same shape, with names of the same language and type."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerdistill.corpus.augment import Names, names_in, read_names, swap_entities
from nerdistill.errors import DataError
from nerdistill.labels import spans_of, tags_of
from nerdistill.records import Sentence, WordSpan

VISIT = Sentence(("Anna", "Schmidt", "besucht", "Berlin", "."), ("B-PER", "I-PER", "O", "B-LOC", "O"), "de", "a:1")
PLAIN = Sentence(("Es", "regnet", "."), ("O", "O", "O"), "de", "a:2")


def test_by_hand() -> None:
    """Words outside stay, names change, longer and shorter ones fit."""
    names: Names = {("de", "PER"): [("Ola",)], ("de", "LOC"): [("New", "York")]}
    made = swap_entities([VISIT, PLAIN], names, copies=2, seed=0)
    assert [sentence.words for sentence in made] == [("Ola", "besucht", "New", "York", ".")] * 2
    assert {sentence.origin for sentence in made} == {"a:1 (swapped)"}


def test_no_gold_tag_is_made_up() -> None:
    """A swapped sentence with tags would count as labelled by hand."""
    assert all(sentence.tags is None for sentence in swap_entities([VISIT], names_in([VISIT]), 3, 0))


def test_types_and_languages_stay_apart() -> None:
    """A place for a person, or a German name in Arabic text, teaches the teacher's mistakes."""
    arabic = Sentence(("محمد", "زار", "دبي"), ("B-PER", "O", "B-LOC"), "ar")
    names = names_in([VISIT, arabic])
    assert names == {
        ("de", "PER"): [("Anna", "Schmidt")],
        ("de", "LOC"): [("Berlin",)],
        ("ar", "PER"): [("محمد",)],
        ("ar", "LOC"): [("دبي",)],
    }
    made = swap_entities([VISIT, arabic], names, 4, 0)
    assert {sentence.words for sentence in made} == {VISIT.words, arabic.words}
    assert {(sentence.language, sentence.words) for sentence in made} == {("de", VISIT.words), ("ar", arabic.words)}


def test_a_type_without_names_keeps_its_own() -> None:
    """Sentences must not lose the entities that nothing can be put in for."""
    made = swap_entities([VISIT], {("de", "LOC"): [("Oslo",)], ("de", "PER"): []}, 1, 0)
    assert [sentence.words for sentence in made] == [("Anna", "Schmidt", "besucht", "Oslo", ".")]


@st.composite
def sentences(draw: st.DrawFn) -> Sentence:
    """Entities next to each other and at both ends among them; each word of an entity says its type."""
    spans, words = [], []
    for gap, length, label in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(["PER", "LOC"])), max_size=4)):
        words += ["o"] * gap
        spans.append(WordSpan(len(words), len(words) + length, label))
        words += [label] * length
    words += ["o"] * draw(st.integers(0, 2))
    return Sentence(tuple(words), tags_of(spans, len(words)), "de")


@given(texts=st.lists(sentences(), max_size=5), copies=st.integers(0, 3), seed=st.integers(0, 9))
def test_what_is_outside_stays_and_order_is_kept(texts: list[Sentence], copies: int, seed: int) -> None:
    """A word lost or doubled at the seam of two entities."""
    names: Names = {("de", "PER"): [("P1",), ("P1", "P2")], ("de", "LOC"): [("L1",), ("L1", "L2", "L3")]}
    made = swap_entities(texts, names, copies, seed)
    with_entity = [text for text in texts if spans_of(text.tags or ()) for _ in range(copies)]
    assert len(made) == len(with_entity)
    for text, new in zip(with_entity, made, strict=True):
        assert new.words.count("o") == text.words.count("o")
        heads = ["P" if span.label == "PER" else "L" for span in spans_of(text.tags or ())]
        assert [word[0] for word in new.words if word in ("P1", "L1")] == heads
        assert not {"PER", "LOC"} & set(new.words)
    assert made == swap_entities(texts, names, copies, seed)


def test_names_come_once_in_order() -> None:
    """A name that occurs in half the sentences would be put into half the new ones."""
    assert names_in([VISIT, VISIT, PLAIN, Sentence(("Anna",))]) == {("de", "PER"): [("Anna", "Schmidt")], ("de", "LOC"): [("Berlin",)]}


def test_files_of_names(tmp_path: Path) -> None:
    """Names are split as text is, with the byte order mark, line ends and blank lines that editors leave."""
    file = tmp_path / "names.tsv"
    file.write_bytes("\ufeffPER\tAnna Schmidt\r\n\r\nLOC\tl'Aquila\nPER\tOla\n".encode())
    assert read_names(file, "it", ["PER", "LOC"]) == {("it", "PER"): [("Anna", "Schmidt"), ("Ola",)], ("it", "LOC"): [("l'", "Aquila")]}


@pytest.mark.parametrize("line", ["PER Anna", "ORG\tSiemens", "PER\t", "PER\t  ", "\tAnna"])
def test_wrong_lines_are_named(line: str, tmp_path: Path) -> None:
    """A line with a space for the tab would be lost, or become a name of no type."""
    file = tmp_path / "names.tsv"
    file.write_text(f"PER\tOla\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"names\.tsv:2: .*PER, LOC"):
        read_names(file, "de", ["PER", "LOC"])


@pytest.mark.parametrize("content", [None, b"PER\t\xff\xfe"])
def test_unreadable_files_are_named(content: bytes | None, tmp_path: Path) -> None:
    """A missing or binary file ends in a message."""
    file = tmp_path / "names.tsv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"names\.tsv: cannot be read"):
        read_names(file, "de", ["PER"])

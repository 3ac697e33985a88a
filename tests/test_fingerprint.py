"""Tests of `nerdistill.fingerprint`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerdistill.fingerprint import fingerprint, fingerprint_sentences, sha256_file
from nerdistill.records import Sentence

BASE = Sentence(("Anna", "ruft"), ("B-PER", "O"), "de", "file:1")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), max_size=5))
def test_order_of_keys_does_not_count(value: dict[str, int]) -> None:
    """Prevents a step from being done again because a TOML table was written in another order."""
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("one", "other"),
    [((1,), ("1",)), ((1,), (True,)), (([1, 2],), ([2, 1],)), (("a", "b"), ("ab",)), (("a", "b"), (["a", "b"],)), ((None,), ("",))],
)
def test_different_declarations_differ(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    """Prevents a stale result for a changed setting: types, order and where one declaration ends all count."""
    assert fingerprint(*one) != fingerprint(*other)


def test_what_is_not_json_is_refused() -> None:
    """Prevents a fingerprint of an object's address, which differs at every run."""
    with pytest.raises(TypeError):
        fingerprint(object())


@given(st.lists(JSON, max_size=3))
def test_any_json_has_one(values: list[object]) -> None:
    """Prevents text from outside the basic plane, or any other value of a configuration, from stopping a run."""
    assert len(fingerprint(*values)) == 16


def test_same_in_another_process() -> None:
    """Prevents a fingerprint that depends on Python's hash seed, so that nothing is ever reused; sets are what shows it."""
    code = (
        "from nerdistill.fingerprint import *; from nerdistill.records import Sentence;"
        "print(fingerprint_sentences([Sentence(('a',), None, unannotated=frozenset('abcdefgh'))]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in "123"
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"words": ("Anna", "rief")},
        {"words": ("Annar", "uft")},
        {"tags": ("O", "O")},
        {"tags": None},
        {"language": "nl"},
        {"unannotated": frozenset(["LOC"])},
    ],
)
def test_what_counts_in_a_sentence(change: dict[str, object]) -> None:
    """Prevents stored signals of one text from being used for another."""
    changed = dataclasses.replace(BASE, **change)  # type: ignore[arg-type]
    assert fingerprint_sentences([BASE]) != fingerprint_sentences([changed])


def test_sentences_are_kept_apart_and_in_order() -> None:
    """Prevents another cut or order of the same words from passing for the same text."""
    one, other, both = Sentence(("a",)), Sentence(("b",)), Sentence(("a", "b"))
    assert len({fingerprint_sentences(text) for text in ([one, other], [other, one], [both], [one], [])}) == 5


def test_where_a_sentence_comes_from_does_not_count() -> None:
    """Prevents a moved file from costing a teacher's whole reading again."""
    assert fingerprint_sentences([BASE]) == fingerprint_sentences([dataclasses.replace(BASE, origin="elsewhere:9")])


def test_half_a_surrogate_pair_does_not_stop_it() -> None:
    """Prevents a run from dying on text that a JSON escape brought in."""
    assert fingerprint_sentences([Sentence(("a\ud83d",))]) != fingerprint_sentences([Sentence(("a\ud83e",))])
    assert fingerprint("\ud83d") != fingerprint("\ud83e")


def test_of_a_file(tmp_path: Path) -> None:
    """Prevents a digest of anything but the whole content, however large the file."""
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()

"""Tests of `nerdistill.pipeline.tokenizer`."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import spacy
from hypothesis import example, given
from hypothesis import strategies as st
from spacy.vocab import Vocab

from nerdistill.errors import BundleError
from nerdistill.pipeline.tokenizer import SplitterTokenizer
from nerdistill.text.splitter import split_words

SPLITTER = SplitterTokenizer(Vocab())
SPACES = " \t\n\r\u00a0\u3000\u2028\u0085"


@given(st.text() | st.text(alphabet="ab'’. -\u0600\u0301\u200d\x00\x1c😀東" + SPACES))
@example("")
@example(" \n ")
@example("a  b   ")
def test_text_is_kept(text: str) -> None:
    """Prevents offsets that shift because white space, controls or marks were dropped or doubled."""
    doc = SPLITTER(text)
    assert doc.text == text
    assert all(token.text for token in doc)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"])))
def test_splits_as_training_does(text: str) -> None:
    """Prevents a pipeline that shows the student other words than it was trained on."""
    assert [token.text for token in SPLITTER(text) if token.text.strip()] == split_words(text)


@pytest.mark.parametrize("text", ["a  b", " a", "a ", "a  ", "a \n b", "\n", "  ", "a\nb", "a\u00a0b", "a \u00a0 b", ""])
def test_white_space_is_kept_as_spacy_keeps_it(text: str) -> None:
    """Prevents docs whose white-space tokens do not align with those of spaCy's own tokenizer, as in gold data."""
    expected = [(token.text, token.whitespace_) for token in spacy.blank("xx")(text)]
    assert [(token.text, token.whitespace_) for token in SPLITTER(text)] == expected


def test_round_trips(tmp_path: Path) -> None:
    """Prevents a tokenizer that cannot be saved, or that spaCy silently replaces by its own when a pipeline is loaded."""
    SPLITTER.to_disk(tmp_path / "tokenizer", exclude=["vocab"])
    copies = [
        SplitterTokenizer(Vocab()).from_disk(tmp_path / "tokenizer", exclude=["vocab"]),
        SplitterTokenizer(Vocab()).from_bytes(SPLITTER.to_bytes(exclude=["vocab"])),
        pickle.loads(pickle.dumps(SPLITTER)),
    ]
    for copy in copies:
        assert [token.text for token in copy("l'Italie de Paris.")] == ["l'", "Italie", "de", "Paris", "."]


@pytest.mark.parametrize("raw", [b'{"splitter": "unicode-999"}', b"", b"[]", b"\xff"])
def test_another_rule_is_refused(raw: bytes) -> None:
    """Prevents a pipeline made with another splitting rule from tagging worse without a word."""
    with pytest.raises(BundleError, match="tokenizer"):
        SPLITTER.from_bytes(raw)


@pytest.mark.parametrize("lang", ["ja", "th", "de"])
def test_in_a_pipeline_of_any_language(lang: str) -> None:
    """Prevents settings of a language's own tokenizer (such as Japanese split modes) from being handed to ours."""
    nlp = spacy.blank(lang, config={"nlp": {"tokenizer": {"@tokenizers": "nerdistill.Splitter.v1"}}})
    assert [token.text for token in nlp("東京 Tokyo")] == ["東", "京", "Tokyo"]

"""Tests of `nerdistill.pipeline` in memory zones: what ends with a zone is not ours, and nothing of ours ends with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from spacy.language import Language

from nerdistill.pipeline.tokenizer import SplitterTokenizer
from tests.pipeline.shared import TEXT, TEXTS, Found, Make, pipe_of


@pytest.mark.parametrize("ours", [True, False])
def test_same_entities_zone_after_zone(with_config: Make, found: Found, bundle_path: Path, ours: bool) -> None:
    """Prevents a word, label or lexeme that is kept from one zone and read in the next, where its memory holds something else."""
    nlp = with_config(bundle_path, variant="fp32")
    if ours:
        nlp.tokenizer = SplitterTokenizer(nlp.vocab)
    texts = [f"{text} Wort{at}" for at in range(40) for text in TEXTS]
    expected = [[span[:3] for span in found(doc)] for doc in nlp.pipe(texts)]
    fresh = with_config(bundle_path, variant="fp32")
    fresh.tokenizer = SplitterTokenizer(fresh.vocab) if ours else fresh.tokenizer
    read = []
    for at in range(0, len(texts), 16):
        with fresh.memory_zone():
            read += [[span[:3] for span in found(doc)] for doc in fresh.pipe(texts[at : at + 16])]
    assert read == expected
    assert any(read)


def test_a_zone_leaves_no_strings_of_the_text(nlp: Language) -> None:
    """Prevents memory that grows with every new word although zones are used."""
    with nlp.memory_zone():
        assert nlp(TEXT).ents
    before = set(nlp.vocab.strings)
    for at in range(20):
        with nlp.memory_zone():
            assert nlp(f"{TEXT} neu{at}").ents
    assert set(nlp.vocab.strings) == before


def test_labels_outlive_the_zone(nlp: Language) -> None:
    """Prevents entities without a readable label in docs that were made before the zone in which they were tagged."""
    doc = nlp.make_doc(TEXT)
    with nlp.memory_zone():
        pipe_of(nlp)(doc)
        labels = [ent.label_ for ent in doc.ents]
    assert labels
    assert [ent.label_ for ent in doc.ents] == labels
    assert [span.label_ for span in doc.spans["nerdistill"]]

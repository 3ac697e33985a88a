"""The rival: spaCy's network, trained on what the run's student learns from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from nerdistill.config import load_config
from nerdistill.errors import ConfigError
from nerdistill.records import Sentence
from nerdistill.steps import rival
from nerdistill.training.runlog import RunLog


def test_docs_have_the_words_and_entities_as_they_are(tmp_path: Path) -> None:
    """Prevents a rival that learns from other words or entities than the student, or that types which a source leaves out are no names."""
    sentences = [
        Sentence(("Anna", "Schmidt", "in", "Köln-Deutz", "."), ("B-PER", "I-PER", "O", "B-LOC", "O")),
        Sentence(("Anna", "da"), ("B-PER", "O"), unannotated=frozenset({"ORG"})),
    ]
    rival.write_docs(sentences, tmp_path / "a.spacy")
    docs = list(DocBin().from_disk(tmp_path / "a.spacy").get_docs(spacy.blank("xx").vocab))
    assert [tuple(token.text for token in doc) for doc in docs] == [sentence.words for sentence in sentences]
    assert [(span.text, span.label_) for span in docs[0].ents] == [("Anna Schmidt", "PER"), ("Köln-Deutz", "LOC")]
    assert [token.ent_iob_ for token in docs[0]] == ["B", "I", "O", "B", "O"]
    assert [token.ent_iob_ for token in docs[1]] == ["B", ""]


def test_a_rival_is_trained_once_and_loads(toy_config: Path, tmp_path: Path) -> None:
    """Prevents a configuration that `spacy train` refuses, and a training that is done again for nothing."""
    config, folder, log = load_config(toy_config), tmp_path / "rival", RunLog(None, quiet=True)
    best = rival.train_rival(config, folder, limit=2, steps=2, log=log)
    assert spacy.load(best).pipe_names == ["tok2vec", "ner"]
    docs = list(DocBin().from_disk(folder / "train.spacy").get_docs(spacy.blank("xx").vocab))
    assert len(docs) == 2 * len(config.data.languages)
    made = best.stat().st_mtime_ns
    assert rival.train_rival(config, folder, limit=2, steps=2, log=log) == best
    assert best.stat().st_mtime_ns == made


def test_an_error_of_spacy_leaves_no_rival(toy_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents half a rival from being measured."""
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(ConfigError, match="exit code 1"):
        rival.train_rival(load_config(toy_config), tmp_path / "rival", limit=2, steps=2, log=RunLog(None, quiet=True))
    assert not (tmp_path / "rival").exists()

"""Bundles of random students with opinions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from nerdistill.export.bundle_writer import Manifest, write_bundle
from nerdistill.runtime.tagger import Tagger
from nerdistill.students.base import Shape, Student, build_student
from nerdistill.students.vocabulary import Vocabulary, prune
from tests.conftest import TEXT

MANIFEST = Manifest("tiny", ("PER", "LOC", "ORG"), ("de", "fr"), {})


def with_opinions(student: Student) -> Student:
    """Give a student weights that make its tags change from word to word."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in student.named_parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * (0.0 if "bias" in name else 1.0))
        student.get_parameter("embeddings.table.weight")[0] = 0  # padding
    return student


@pytest.fixture
def path(student: Student, vocabulary: Vocabulary, tmp_path: Path) -> Path:
    """A bundle of a BiLSTM."""
    write_bundle(tmp_path / "sure", with_opinions(student), vocabulary, MANIFEST)
    return tmp_path / "sure"


@pytest.fixture
def tagger(path: Path) -> Tagger:
    """That student, one thread."""
    return Tagger.load(path, threads=1)


@pytest.fixture
def transformer_path(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A bundle of a Transformer that reads 62 pieces at once."""
    pieces = prune(tokenizer, unk_id=3, pad_id=1, words=Counter(TEXT), budget=150, ends=(0, 2))
    options = {"layers": 2, "width": 12, "heads": 3, "ffn": 24, "positions": 64, "embedding_width": 8}
    student = build_student("transformer", options, Shape(pieces.tokenizer.get_vocab_size(), 7), None, seed=3).eval()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in student.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=draw))
    write_bundle(tmp_path / "reader", student, pieces, MANIFEST)
    return tmp_path / "reader"

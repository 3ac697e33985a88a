"""Small things that many tests need: a tokenizer, a student, a bundle, a corpus. No network, one thread, fixed seeds."""

from __future__ import annotations

import importlib
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from nerdistill.export.bundle_writer import Manifest, write_bundle
from nerdistill.students.base import Shape, Student, build_student
from nerdistill.students.vocabulary import Vocabulary, prune
from tests.toy_run import write_toy_run

settings.register_profile("any machine", deadline=None)  # how long a test takes says nothing about what it tests
settings.load_profile("any machine")

TEXT: list[str] = (  # noqa: SIM905
    "Anna Schmidt besucht Berlin . La France a gagné contre l' Italie à Paris . Ola Nordmann bor i Oslo no . "
    "محمد علي زار القاهرة أمس . 东 京 是 日 本 的 首 都 。 राम दिल्ली में रहता है । Siemens AG opens in London"
).split()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, one thread, one seed: a test that needs more is wrong."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("tests have no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A Unigram tokenizer over the characters of `TEXT` and some longer pieces; 0 begin, 1 pad, 2 end, 3 unknown, as in XLM-R."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("▁" + word, -8.0) for word in sorted({*TEXT[::2]})]
    pieces += [
        (character, -12.0) for character in sorted({*"".join(TEXT), *"▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"})
    ]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=3))
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return unigram


@pytest.fixture(scope="session")
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """The student's cut of it."""
    return prune(tokenizer, unk_id=3, pad_id=1, words=Counter(TEXT), budget=150)


@pytest.fixture
def student(vocabulary: Vocabulary) -> Student:
    """A random BiLSTM over PER, LOC, ORG."""
    options = {"embedding_width": 8, "hidden_width": 6, "projection_width": 10}
    shape = Shape(vocabulary.tokenizer.get_vocab_size(), 7)
    built = build_student("bilstm", options, shape, None, seed=3).eval()
    strong = torch.Generator().manual_seed(3)  # opinions that differ from word to word
    with torch.no_grad():
        for weight in built.parameters():
            weight.copy_(torch.randn(weight.shape, generator=strong) if weight.ndim > 1 else torch.zeros_like(weight))
        built.get_parameter("embeddings.table.weight")[0] = 0.0
    return built


@pytest.fixture
def bundle_path(tmp_path: Path, student: Student, vocabulary: Vocabulary) -> Path:
    """A bundle of that student: random, so it finds many entities of all types in anything."""
    manifest = Manifest("tiny", ("PER", "LOC", "ORG"), ("de", "fr", "no", "ar", "zh", "hi", "en"), {"kind": "bilstm"})
    write_bundle(tmp_path / "bundle", student, vocabulary, manifest, score=lambda tagger: {"de": 0.5}, tolerance=0.01)
    return tmp_path / "bundle"


@pytest.fixture
def toy_config(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A whole run that takes seconds: four languages, a random two-layer teacher."""
    return write_toy_run(tmp_path, tokenizer)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of this machine with two workers, which believes in a GPU."""
    ray = importlib.import_module("ray")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_worker_niceness", "0")  # its own is to stand back, for minutes beside anything that is busy
        patched.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=100 << 20)
        yield ray
        ray.shutdown()

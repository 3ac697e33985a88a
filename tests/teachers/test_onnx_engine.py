"""A teacher read through ONNX Runtime says what it says through torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer
from typer.testing import CliRunner

from nerdistill.cli.app import app
from nerdistill.config import load_config
from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.errors import ConfigError
from nerdistill.steps.annotate import annotate_transfer
from nerdistill.steps.context import Context
from nerdistill.steps.teach import open_teacher, teach
from nerdistill.teachers import onnx_engine as module
from nerdistill.teachers.annotate import Annotator
from nerdistill.teachers.as_transformer import as_transformer
from nerdistill.teachers.huggingface import TeacherModel, load_pieces, load_teacher
from nerdistill.teachers.onnx_engine import OnnxEngine
from nerdistill.teachers.reconcile import reconcile
from tests.teachers.tiny_teacher import LAYERS, POSITIONS, SCHEME, WIDTH, save_tokenizer, text

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("Bert", {}),
    "BERT with ReLU": ("Bert", {"hidden_act": "relu"}),
    "RoBERTa": ("Roberta", {"max_position_embeddings": POSITIONS + 2}),
    "XLM-R": ("XLMRoberta", {"max_position_embeddings": POSITIONS + 2, "layer_norm_eps": 0.1}),
}
"""The last one's constant is large enough to be seen in the states."""


def save(folder: Path, tokenizer: Tokenizer, family: str, **settings: Any) -> str:
    """A random token classifier in which everything counts: token types, the normalisations' weights, the rows of technical pieces."""
    shape = {
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": POSITIONS, "pad_token_id": 1, "type_vocab_size": 2,
    }  # fmt: skip
    labels = {"id2label": dict(enumerate(SCHEME.tags)), "label2id": {tag: number for number, tag in enumerate(SCHEME.tags)}}
    config = getattr(transformers, f"{family}Config")(**{**shape, **labels, **settings})
    network = getattr(transformers, f"{family}ForTokenClassification")(config)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn_like(weight) * (0.6 if weight.ndim > 1 else 0.3) + (weight.ndim == 1))
    network.save_pretrained(folder)
    save_tokenizer(folder, tokenizer)
    return str(folder)


@pytest.fixture(params=KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path, tokenizer: Tokenizer) -> str:
    """One of every kind."""
    family, settings = KINDS[request.param]
    return save(tmp_path / "teacher", tokenizer, family, **settings)


def open_at(checkpoint: str, layers: tuple[int, ...] = ()) -> Annotator:
    model = load_teacher(checkpoint, None, "float32", 0)
    return Annotator(model, load_pieces(checkpoint).encoder(30), SCHEME, reconcile(model.tags, SCHEME, None), 60, layers)


def test_weights_are_taken_over(checkpoint: str) -> None:
    """A position off by RoBERTa's two, a lost token type, begin piece or constant would pass for a slightly worse teacher."""
    annotator = open_at(checkpoint)
    corpus = EncodedCorpus(text([4, 1, 7]), annotator.encoder)
    batch = corpus.collate(np.arange(3))
    assert not batch["attention_mask"].all()
    with torch.inference_mode():
        expected, found = annotator.model(batch), as_transformer(annotator.model)(batch)
    real = batch["word_mask"]
    torch.testing.assert_close(found.logits[real], expected.logits[real], rtol=0, atol=1e-4)
    assert len(found.hidden) == len(expected.hidden) == LAYERS + 1
    for one, other in zip(found.hidden, expected.hidden, strict=True):
        torch.testing.assert_close(one[real], other[real], rtol=0, atol=1e-4)


@pytest.mark.parametrize("layers", [(), (1,), (LAYERS, 0, -2)], ids=str)
def test_it_reads_what_torch_reads(checkpoint: str, layers: tuple[int, ...]) -> None:
    """States of another layer or in another order; long sentences that are read without windows or not to their end."""
    plain, sentences = open_at(checkpoint, layers), text([4, 60, 1, 7])
    logits, states, offsets = replace(plain, engine=OnnxEngine(plain.model, layers)).read(sentences)
    expected = plain.read(sentences)
    assert states.shape == ((72, len(layers), WIDTH) if layers else (72, 0, 0))
    np.testing.assert_allclose(logits, expected[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(states, expected[1], rtol=0, atol=1e-4)
    assert offsets.tolist() == expected[2].tolist()


def test_eight_bits_are_close(checkpoint: str) -> None:
    """A quantised network that is noise, or float32 under another name."""
    plain, sentences = open_at(checkpoint, (LAYERS,)), text([4, 60, 1, 7])
    logits, states, _ = replace(plain, engine=OnnxEngine(plain.model, (LAYERS,), int8=True)).read(sentences)
    expected = plain.read(sentences)
    for found, other in ((logits, expected[0]), (states[:, 0], expected[1][:, 0])):
        error = np.sqrt(np.square(found - other).mean() / other.var(axis=0).mean())
        assert 1e-4 < error < 0.3


def test_nothing_is_left_on_disk(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a gigabyte left behind by every annotation."""
    model = load_teacher(save(tmp_path / "t", tokenizer, "Bert"), None, "float32", 0)
    space = tmp_path / "space"
    space.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(space))
    OnnxEngine(model, (1,), int8=True)
    assert not list(space.iterdir())


@pytest.mark.parametrize(
    ("family", "settings", "says"),
    [
        ("DistilBert", {"dim": WIDTH, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 24}, "'distilbert'"),
        ("Bert", {"hidden_act": "gelu_new"}, "'gelu_new'"),
    ],
)
def test_what_cannot_be_taken_over_is_a_message(
    family: str, settings: dict[str, Any], says: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """A network that is nearly BERT, read as if it were: every signal would be slightly wrong."""
    labels = {"num_labels": len(SCHEME.tags), "vocab_size": tokenizer.get_vocab_size()}
    shape = (
        {} if family == "DistilBert" else {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    )
    config = getattr(transformers, f"{family}Config")(**labels, **shape, **settings)
    network = getattr(transformers, f"{family}ForTokenClassification")(config)
    with pytest.raises(ConfigError, match=rf"{says}.*signals\.engine = \"torch\""):
        OnnxEngine(TeacherModel(network, SCHEME.tags, "float32"))


def test_too_large_is_a_message(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file format's limit, met after minutes of copying as an error of another library."""
    model = load_teacher(save(tmp_path / "t", tokenizer, "Bert"), None, "float32", 0)
    monkeypatch.setattr(module, "LARGEST", 1000)
    with pytest.raises(ConfigError, match=r"signals\.engine = \"torch\""):
        OnnxEngine(model)


def test_signals_belong_to_their_engine(toy_config: Path, tmp_path: Path) -> None:
    """Signals of 8 bits taken for torch's, or torch's made anew because there are other engines now."""

    def context(engine: str) -> Context:
        return Context(load_config(toy_config, [f"signals.engine={engine}"]), tmp_path / "out", quiet=True, cpu=True)

    made = {engine: annotate_transfer(context(engine)) for engine in ("torch", "onnx", "onnx-int8")}
    assert len({signals.identity for signals in made.values()}) == 3
    plain = context("torch")
    settings = {"layers": (1,), "width": 8, "window": plain.config.teacher.max_pieces}
    inputs = teach(plain).identity, plain.transfer_digest, settings, "float32", None, plain.config.data.types
    assert made["torch"].identity == plain.identity("annotate", *inputs)
    rows = np.arange(20)
    logits = {engine: signals.open().targets().logits[rows] for engine, signals in made.items()}
    np.testing.assert_allclose(logits["onnx"], logits["torch"], atol=5e-3)
    assert np.abs(logits["onnx-int8"].astype(np.float32) - logits["torch"]).max() > 0


def test_a_layer_that_is_not_there_is_a_message(toy_config: Path, tmp_path: Path) -> None:
    """The graph of states that the teacher has not, as an error without a key."""
    context = Context(load_config(toy_config), tmp_path / "out", quiet=True, cpu=True)
    with pytest.raises(ConfigError, match=r"signals\.layers = \[1, 3\].*0 \(embeddings\) to 2"):
        open_teacher(context, teach(context), (1, 3), engine="onnx")


def test_engines_are_measured(toy_config: Path, tmp_path: Path) -> None:
    """A comparison of engines that read different text, or of one engine under two names."""
    results = tmp_path / "engines.json"
    arguments = ["engines", str(toy_config), "--out", str(tmp_path / "out"), "--cpu", "--quiet", "--sentences", "12"]
    done = CliRunner().invoke(app, [*arguments, "--results", str(results)], catch_exceptions=False)
    assert done.exit_code == 0
    measured = json.loads(results.read_text())
    rows = {row["system"]: row for row in measured["rows"]}
    assert measured["what"] == "engines"
    assert measured["data"]["sentences"] == 12
    assert next(iter(rows)) == "torch float32"
    assert {"onnx", "onnx-int8"} <= set(rows)
    for name, row in rows.items():
        assert name in done.stdout
        assert row["words_per_second"] > 0
        assert row["pieces_per_second"] > row["words_per_second"]
        assert 0 <= row["distance_mean"] <= row["distance_max"] <= 1
    changes = ("tags_changed", "distance_max", "states_error")
    assert [rows["torch float32"][key] for key in changes] == [0, 0, 0]
    assert rows["onnx"]["distance_max"] < 1e-4
    assert rows["onnx-int8"]["states_error"] > rows["onnx"]["states_error"]
    assert rows["onnx"]["f1_mean"] == rows["torch float32"]["f1_mean"]

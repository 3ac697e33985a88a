"""Annotation: what is stored is what the frozen teacher says, word by word, however it was interrupted."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.errors import ConfigError
from nerdistill.files import DONE
from nerdistill.labels import repair
from nerdistill.records import Sentence
from nerdistill.teachers import annotate as module
from nerdistill.teachers.annotate import Annotator, annotate
from nerdistill.teachers.huggingface import load_pieces, load_teacher
from nerdistill.teachers.reconcile import reconcile
from nerdistill.teachers.store import SignalStore, shard_path, write_shard
from nerdistill.training.runlog import RunLog
from tests.teachers.tiny_teacher import LAYERS, SCHEME, WIDTH, save_checkpoint, text

LENGTHS = [4, 1, 7, 3, 5, 2, 6, 3]
QUIET = RunLog(None, quiet=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> str:
    return str(save_checkpoint(tmp_path_factory.mktemp("teacher") / "t", tokenizer))


def make(checkpoint: str, limit: int = 30, layer: int = 1, width: int = 4, batch: int = 60, tags: Any = None) -> Annotator:
    model = load_teacher(checkpoint, None, "float32", 0)
    targets = reconcile(model.tags, SCHEME, tags)
    return Annotator(model, load_pieces(checkpoint).encoder(limit), SCHEME, targets, batch, (layer,), width)


def direct(annotator: Annotator, sentences: list[Sentence]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Logits and states by one forward pass a sentence."""
    logits, states = [], []
    for sentence in sentences:
        with torch.inference_mode():
            output = annotator.model(EncodedCorpus([sentence], annotator.encoder).collate(np.arange(1)))
        logits.append(output.logits[0].numpy())
        states.append(output.hidden[annotator.layers[0]][0].numpy())
    return np.concatenate(logits), np.concatenate(states)


def test_stored_is_what_the_teacher_says(checkpoint: str, tmp_path: Path) -> None:
    """Batches sorted by length and not sorted back; states of another layer; a reduction that is not the stored one."""
    from safetensors.numpy import load_file

    annotator, sentences = make(checkpoint), text(LENGTHS)
    annotate(annotator, sentences, tmp_path / "s", "x", QUIET)
    store = SignalStore(tmp_path / "s", "x")
    found = store.targets()
    logits, states = direct(annotator, sentences)
    np.testing.assert_allclose(found.logits[np.arange(len(logits))], logits, rtol=2e-3, atol=2e-3)
    reduction = load_file(tmp_path / "s" / "reduction.safetensors")
    reduced = (states - reduction["mean"][0]) @ reduction["directions"][0] / reduction["scale"][0]
    assert found.hidden is not None
    np.testing.assert_allclose(found.hidden[np.arange(len(reduced))][:, 0], reduced, rtol=5e-3, atol=5e-3)
    assert np.square(reduced).mean() == pytest.approx(1.0, abs=1e-3)
    assert (np.diff(np.square(reduced).sum(axis=0)) < 0).all(), "the widest direction comes first"
    assert store.counts["words"] == sum(LENGTHS)
    assert store.counts["sentences"] == len(LENGTHS)
    tags = store.tags()
    offsets = np.cumsum([0, *LENGTHS])
    for number, (start, stop) in enumerate(pairwise(offsets)):
        named = SCHEME.decode(tags[start:stop])
        assert repair(named) == (named, 0), f"sentence {number}: hard tags are not valid IOB2"
        best = SCHEME.decode(logits[start:stop].argmax(axis=1))
        assert repair(best) != (best, 0) or named == best
    assert [SCHEME.encode(named).tolist() for named in annotator.tag(sentences)] == [
        tags[start:stop].tolist() for start, stop in pairwise(offsets)
    ]


def test_the_teacher_is_frozen_and_silent(checkpoint: str, tmp_path: Path) -> None:
    """Dropout in the signals, or a teacher that learns: the published code had both."""
    model = load_teacher(checkpoint, None, "float32", 0).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    targets = reconcile(model.tags, SCHEME, None)
    annotator = Annotator(model, load_pieces(checkpoint).encoder(30), SCHEME, targets, 60, (1,), 4)
    assert not any(part.training for part in model.modules())
    assert not any(weight.requires_grad for weight in model.parameters())
    annotate(annotator, text(LENGTHS), tmp_path / "s", "x", QUIET)
    assert not any(part.training for part in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    one, other = annotator.read(text([5])), annotator.read(text([5]))
    assert np.array_equal(one[0], other[0])
    model.train()
    with pytest.raises(RuntimeError, match="training mode"):
        annotator.read(text([5]))


def test_long_sentences_are_windowed(checkpoint: str) -> None:
    """A sentence beyond the model's input must get signals for its last word too, read with context, and not crash the run."""
    annotator, sentences = make(checkpoint, limit=30), text([4, 60, 3])
    logits, states, offsets = annotator.read(sentences)
    assert logits.shape == (67, len(SCHEME.tags))
    assert states.shape == (67, 1, WIDTH)
    assert offsets.tolist() == [0, 4, 64, 67]
    assert np.isfinite(logits).all()
    assert (np.abs(logits).sum(axis=1) > 0).all(), "a word without signals"
    short = direct(annotator, [sentences[0], sentences[2]])[0]
    np.testing.assert_allclose(np.concatenate([logits[:4], logits[64:]]), short, rtol=1e-3, atol=1e-3)
    parts = EncodedCorpus([sentences[1]], annotator.encoder, overlap=module.OVERLAP)
    assert len(parts.items) > 2
    for (start, stop), (first, last) in zip(parts.items.tolist(), parts.kept.tolist(), strict=True):
        alone = direct(annotator, [Sentence(sentences[1].words[start:stop])])[0]
        np.testing.assert_allclose(logits[4 + first : 4 + last], alone[first - start : last - start], rtol=1e-3, atol=1e-3)


def run(annotator: Annotator, folder: Path) -> dict[str, bytes]:
    annotate(annotator, text(LENGTHS), folder, "x", QUIET)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != DONE}


@pytest.mark.parametrize(("lost", "marked"), [(0, False), (1, False), (2, False), (1, True)])
def test_continued_equals_uninterrupted(lost: int, marked: bool, checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing shard is read again and put at its own place; finished ones are not read twice."""
    monkeypatch.setattr(module, "SHARD_SENTENCES", 3)
    annotator = make(checkpoint)
    whole = run(annotator, tmp_path / "whole")
    assert len([name for name in whole if name.endswith(".arrow")]) == 3
    run(annotator, tmp_path / "cut")
    shard_path(tmp_path / "cut", lost).unlink()
    if not marked:
        (tmp_path / "cut" / DONE).unlink()
    written: list[int] = []

    def counted(folder: Path, number: int, *arguments: Any) -> None:
        written.append(number)
        write_shard(folder, number, *arguments)

    monkeypatch.setattr(module, "write_shard", counted)
    assert run(annotator, tmp_path / "cut") == whole
    assert written == [lost]
    assert run(annotator, tmp_path / "cut") == whole
    assert written == [lost], "a complete store is read again"


def test_killed_between_shards(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The marker is written last: a killed annotation is never taken for a complete one."""
    monkeypatch.setattr(module, "SHARD_SENTENCES", 3)
    annotator = make(checkpoint)
    whole = run(annotator, tmp_path / "whole")

    def dies(folder: Path, number: int, *arguments: Any) -> None:
        if number == 1:
            raise KeyboardInterrupt
        write_shard(folder, number, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_shard", dies)
        with pytest.raises(KeyboardInterrupt):
            run(annotator, tmp_path / "cut")
    assert not (tmp_path / "cut" / DONE).exists()
    assert run(annotator, tmp_path / "cut") == whole


def test_without_states(checkpoint: str, tmp_path: Path) -> None:
    """A width of 0 keeps no states and makes no reduction."""
    annotator, sentences = make(checkpoint, width=0), text(LENGTHS)
    annotate(annotator, sentences, tmp_path / "s", "x", QUIET)
    assert SignalStore(tmp_path / "s", "x").targets().hidden is None
    assert not (tmp_path / "s" / "reduction.safetensors").exists()
    assert json.loads((tmp_path / "s" / DONE).read_text())["hidden_width"] == 0


def test_all_dimensions_can_be_kept_but_no_more(checkpoint: str, tmp_path: Path) -> None:
    """More columns than the states have: two words' states would be read as one."""
    annotate(make(checkpoint, width=WIDTH), text(LENGTHS), tmp_path / "all", "x", QUIET)
    hidden = SignalStore(tmp_path / "all", "x").targets().hidden
    assert hidden is not None
    assert hidden.shape == (sum(LENGTHS), 1, WIDTH)
    with pytest.raises(ConfigError, match=rf"signals\.width = {2 * WIDTH}.*{WIDTH} dimensions"):
        annotate(make(checkpoint, width=2 * WIDTH), text(LENGTHS), tmp_path / "more", "x", QUIET)


@pytest.mark.parametrize(("layer", "depth"), [(0, 0), (LAYERS, LAYERS), (-1, LAYERS), (-LAYERS - 1, 0)])
def test_the_chosen_layer_is_read(layer: int, depth: int, checkpoint: str) -> None:
    """Layer 0 is the embeddings; counted from the end, -1 is the last."""
    annotator, sentences = make(checkpoint, layer=layer), text([5])
    with torch.inference_mode():
        states = annotator.model(EncodedCorpus(sentences, annotator.encoder).collate(np.arange(1))).hidden[depth]
    np.testing.assert_allclose(annotator.read(sentences)[1][:, 0], states[0].numpy(), rtol=1e-4, atol=1e-4)


def test_the_reduction_sees_the_whole_text(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text comes language after language: the first sentences would give the directions of the first languages."""
    monkeypatch.setattr(module, "_REDUCTION_SENTENCES", 4)
    annotator, sentences = make(checkpoint), text([3] * 7)
    read: list[list[Sentence]] = []
    reading = Annotator.read

    def counted(self: Annotator, part: Any) -> Any:
        read.append(list(part))
        return reading(self, part)

    monkeypatch.setattr(Annotator, "read", counted)
    annotate(annotator, sentences, tmp_path / "s", "x", QUIET)
    assert read[0] == [sentences[n] for n in (0, 1, 3, 5)]


def test_tags_in_another_order_are_stored_in_the_order_of_the_data(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """The signals are in the data's tags, whatever order the teacher's head has."""
    order = ("B-LOC", "I-LOC", "O", "I-PER", "B-PER")
    annotator = make(str(save_checkpoint(tmp_path / "t", tokenizer, tags=order)))
    sentences = text([5])
    logits = annotator.read(sentences)[0]
    own = direct(annotator, sentences)[0]
    np.testing.assert_allclose(logits, own[:, [order.index(tag) for tag in SCHEME.tags]], rtol=1e-4, atol=1e-4)

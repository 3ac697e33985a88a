"""Tests of `nerdistill.evaluation.profile_tagger` and `nerdistill.evaluation.ideas`: not of any time, but of what is timed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from nerdistill.evaluation import ideas, operators, parts, profile_tagger
from nerdistill.evaluation.ideas import IDEAS, _decode_sentences, _lstm_ways
from nerdistill.evaluation.network_ideas import without_pooling
from nerdistill.files import read_json
from nerdistill.labels import LabelScheme
from nerdistill.runtime.decode import decode_tags
from nerdistill.runtime.session import open_session
from nerdistill.runtime.tagger import Tagger
from nerdistill.text.splitter import split_words

SCHEME = LabelScheme(("PER", "LOC", "ORG"))
LINES = ["Anna Schmidt besucht Berlin .", "東京は日本の首都。", "Siemens AG opens in London " * 4]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file of plain text, one text a line."""
    (tmp_path / "text.txt").write_text("\n".join(LINES), encoding="utf-8")
    return tmp_path / "text.txt"


@pytest.fixture(autouse=True)
def _once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round each."""
    monkeypatch.setattr(parts, "ROUNDS", 1)
    monkeypatch.setattr(operators, "ROUNDS", 1)
    monkeypatch.setattr(ideas, "_CALLS", {"scan": (2, 3, 4)})


@pytest.mark.parametrize("installed", [True, False])
def test_a_row_for_each_backend(
    bundle_path: Path, text: Path, tmp_path: Path, installed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a backend that is left out, a part without a time, and a failure where an optional backend is not installed."""
    if installed:
        pytest.importorskip("openvino")
    else:
        monkeypatch.setitem(sys.modules, "openvino", None)
    assert profile_tagger.main([str(bundle_path), str(text), "--limit", "3", "--results", str(tmp_path / "p.json")]) == 0
    results = read_json(tmp_path / "p.json")
    systems = [row["system"] for row in results["rows"]]
    assert systems == ["onnxruntime fp32", "onnxruntime int8", *(["openvino fp32", "openvino-bf16 fp32"] if installed else [])]
    for row in results["rows"]:
        assert tuple(row["microseconds"]) == profile_tagger.PARTS
        assert row["words"] == 5 + 9 + 20
        assert row["latency_ms_p50"] > 0
        assert row["spacy_latency_ms_p50"] > 0
    printed = capsys.readouterr().out
    assert all(system in printed for system in systems)
    assert profile_tagger.profile_tables(results, "ideas") in printed
    assert set(results["ideas"]) <= set(IDEAS)
    assert [sorted(row["lstm_alone"]) for row in results["rows"] if "operators" in row] == [["activations", "states", "words"]] * 2


def test_what_cannot_be_read_is_said(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a traceback for a misspelt folder."""
    assert profile_tagger.main([str(tmp_path / "nothing"), str(text)]) == 5
    assert "expected a folder written by nerdistill" in capsys.readouterr().err


def test_both_ways_decode_the_same() -> None:
    """Prevents a comparison with something that does less."""
    logits = np.random.default_rng(0).normal(size=(300, len(SCHEME.tags))).astype(np.float32)
    offsets = np.array([0, 7, 7, 20, 300])
    assert _decode_sentences(logits, offsets, SCHEME).tolist() == decode_tags(logits, offsets, SCHEME).tolist()


def test_both_ways_are_the_same_lstm() -> None:
    """Prevents the same for the recurrent layer; the second way gives the backward direction in the order in which it reads."""
    operator, scan = (np.array(way()[0]) for way in _lstm_ways(3, 5, 4))  # type: ignore[index]
    np.testing.assert_allclose(operator[:, 0], scan[:, 0], atol=1e-5)
    np.testing.assert_allclose(operator[:, 1], scan[::-1, 1], atol=1e-5)


def test_a_network_without_pooling_says_the_same(bundle_path: Path) -> None:
    """Prevents a comparison with a network that computes something else once words have vectors."""
    tagger = Tagger.load(bundle_path, "fp32", 1)
    inputs = parts.Parts(tagger, LINES, [split_words(line) for line in LINES]).arrays[0]
    part = without_pooling(tagger.bundle.network)
    assert part is not None
    vectors, *others = (given.name for given in part.graph.input)
    whole = onnx.load_from_string(tagger.bundle.network)
    whole.graph.output.append(helper.make_tensor_value_info(vectors, onnx.TensorProto.FLOAT, None))
    logits, of_words = open_session(whole.SerializeToString(), threads=1).run(None, inputs)
    (again,) = open_session(part.SerializeToString(), threads=1).run(None, {vectors: of_words, **{name: inputs[name] for name in others}})
    np.testing.assert_allclose(again, logits, atol=1e-6)

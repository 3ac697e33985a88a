"""Annotation: the teacher reads unlabelled text once, and what it says is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from safetensors.numpy import load_file, save_file
from torch import Tensor

from nerdistill.corpus.encoded import EncodedCorpus, Encoder
from nerdistill.corpus.splits import evenly
from nerdistill.errors import ConfigError
from nerdistill.labels import LabelScheme
from nerdistill.records import Sentence
from nerdistill.runtime.decode import decode_tags, log_softmax
from nerdistill.teachers.huggingface import TeacherModel
from nerdistill.teachers.reconcile import merge_logits
from nerdistill.teachers.store import SHARD_SENTENCES, finish_store, shard_path, store_ready, write_shard
from nerdistill.training.processes import of_main, total
from nerdistill.training.runlog import RunLog, clock

OVERLAP = 16
"""Words shared by the windows of a sentence that is too long for the teacher."""

_REDUCTION_SENTENCES = 1000


@dataclass(frozen=True)
class Annotator:
    """A frozen teacher with all it takes to read text.

    Attributes:
        model: In evaluation mode; gradients are off.
        encoder: Its reader.
        scheme: Tags of the data, which the signals are in.
        targets: From `reconcile`.
        batch: Padded pieces in one forward pass.
        layers: Which layers' states are kept; 0 is the embeddings.
        width: To how many dimensions each is reduced; 0 keeps none.
        engine: Reads batches in place of the model, such as an `OnnxEngine` of it with the same layers: logits ``[B, W, K']`` and, if there
            are layers, states ``[B, W, L, d]``. None for the model itself.
    """

    model: TeacherModel
    encoder: Encoder
    scheme: LabelScheme
    targets: tuple[int, ...]
    batch: int = 8192
    layers: tuple[int, ...] = ()
    width: int = 0
    engine: Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]] | None = None

    def __post_init__(self) -> None:
        """Freeze the teacher."""
        self.model.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the teacher is."""
        return next(self.model.parameters()).device

    def read(self, sentences: Sequence[Sentence]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Logits over the data's tags ``[N, K]``, states of the chosen layers ``[N, L, d]``, and sentence offsets ``[S + 1]``."""
        if self.model.training:
            raise RuntimeError("the teacher is in training mode; its dropout would be in the signals")
        corpus = EncodedCorpus(sentences, self.encoder, overlap=OVERLAP)

        def run(batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
            logits, *states = (self.engine or self._through_model)(batch)
            return merge_logits(logits, self.targets, len(self.scheme.tags)), *states

        with torch.inference_mode():
            logits, *hidden = corpus.predict(run, self.batch)
        return logits, hidden[0] if hidden else np.zeros((len(logits), 0, 0), dtype=np.float32), corpus.offsets

    def _through_model(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        output = self.model({name: tensor.to(self.device) for name, tensor in batch.items()})
        states = [output.hidden[layer] for layer in self.layers]
        return output.logits, *([torch.stack(states, dim=2)] if states else [])

    def tag(self, sentences: Sequence[Sentence]) -> list[tuple[str, ...]]:
        """The most probable valid tags of each sentence."""
        logits, _, offsets = self.read(sentences)
        tags = decode_tags(log_softmax(logits), offsets, self.scheme)
        return [self.scheme.decode(tags[start:stop]) for start, stop in pairwise(offsets)]


Reduction: TypeAlias = dict[str, npt.NDArray[np.float32]]
"""How states are reduced, as `nerdistill.teachers.store` has it; empty where none are kept."""

Shards: TypeAlias = Mapping[int, Sequence[Sentence]]
"""Numbers of shards to their text."""

Write: TypeAlias = Callable[[Annotator, Shards, Path, Reduction], Iterator[int]]
"""Reads and writes shards into a folder, and gives the number of each when it is there."""


def write_here(annotator: Annotator, shards: Shards, folder: Path, reduction: Reduction) -> Iterator[int]:
    """The shards one after the other, in this process."""
    for number, part in shards.items():
        write_signals(annotator, part, folder, number, reduction)
        yield number


def annotate(
    annotator: Annotator, sentences: Sequence[Sentence], folder: Path, identity: str, log: RunLog, write: Write = write_here,
    accelerator: Accelerator | None = None,
) -> None:  # fmt: skip
    """Store the teacher's signals for some text; finished shards are kept, so it can be interrupted.

    Of several processes each writes every so many-th of the shards that are missing, and the main one marks the store complete.

    Args:
        annotator: The teacher.
        sentences: The text.
        folder: The store, which belongs to `identity` alone.
        identity: Fingerprint of teacher, text and settings.
        log: Where to tell.
        write: Who writes the shards; `nerdistill.teachers.on_ray` shares them among the actors of a cluster.
        accelerator: The processes of the run, all of which call this; None for one.

    Raises:
        ConfigError: The states have fewer dimensions than are to be kept.
    """
    accelerator = accelerator or Accelerator()
    if of_main(accelerator, store_ready(folder, identity)):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with accelerator.main_process_first():
        reduction = _reduction(annotator, sentences, folder)
    n_shards = -(-len(sentences) // SHARD_SENTENCES)
    shards = {number: sentences[number * SHARD_SENTENCES : (number + 1) * SHARD_SENTENCES] for number in range(n_shards)}
    n_words = sum(len(sentence.words) for sentence in sentences)
    missing = {number: part for number, part in shards.items() if not shard_path(folder, number).is_file()}
    done = n_words - sum(len(sentence.words) for part in missing.values() for sentence in part)
    accelerator.wait_for_everyone()  # until all have seen what is missing
    mine = {number: missing[number] for number in list(missing)[accelerator.process_index :: accelerator.num_processes]}
    began, read = time.monotonic(), 0
    for number in write(annotator, mine, folder, reduction):
        words = sum(len(sentence.words) for sentence in mine[number])
        done, read = done + words, read + words
        rate = read / (time.monotonic() - began)
        log.event("annotate", words=done, of=n_words, words_per_second=round(rate))
        log.show(f"  signals {done:>10,}/{n_words:,} words  {rate:>8,.0f} words/s  {clock((n_words - done) / rate)} left")
    read = int(total(accelerator, torch.tensor(read, device=accelerator.device)))  # all have written their shards when this is known
    seconds = time.monotonic() - began
    if accelerator.is_main_process:
        finish_store(
            folder, identity, shards=n_shards, sentences=len(sentences), words=n_words, tags=len(annotator.scheme.tags),
            hidden_width=annotator.width, layers=list(annotator.layers),
            seconds=round(seconds, 2), words_per_second=round(read / max(seconds, 1e-9)),
        )  # fmt: skip
    accelerator.wait_for_everyone()
    log.say(f"  signals: {n_words:,} words of {len(sentences):,} sentences in {clock(seconds)}")


def write_signals(annotator: Annotator, part: Sequence[Sentence], folder: Path, number: int, reduction: Reduction) -> None:
    """Read the text of a shard and write what the teacher says of it."""
    logits, hidden, offsets = annotator.read(part)
    tags = decode_tags(log_softmax(logits), offsets, annotator.scheme).astype(np.int8)
    reduced = None
    if annotator.width:
        centred = hidden - reduction["mean"]
        layers = [centred[:, at] @ directions / reduction["scale"][at] for at, directions in enumerate(reduction["directions"])]
        reduced = np.stack(layers, axis=1).astype(np.float16)
    write_shard(folder, number, [len(sentence.words) for sentence in part], logits.astype(np.float16), reduced, tags)


def _reduction(annotator: Annotator, sentences: Sequence[Sentence], folder: Path) -> Reduction:
    """PCA of each layer's states over an even sample of the text, scaled to unit mean square; made once per store."""
    path = folder / "reduction.safetensors"
    if not annotator.width:
        return {}
    if not path.is_file():
        _, states, _ = annotator.read(evenly(sentences, _REDUCTION_SENTENCES))
        if annotator.width > states.shape[2]:
            raise ConfigError(
                f"signals.width = {annotator.width}: the teacher's states have {states.shape[2]} dimensions; take at most these"
            )
        parts = [_directions(states[:, at], annotator.width) for at in range(states.shape[1])]
        beside = path.with_suffix(".part")
        save_file({name: np.stack([part[name] for part in parts]) for name in parts[0]}, beside)
        beside.replace(path)
    return load_file(path)


def _directions(states: npt.NDArray[np.float32], width: int) -> Reduction:
    """The principal directions of ``[N, d]``: ``mean`` ``[d]``, ``directions`` ``[d, width]``, ``scale`` ``[]``."""
    mean = states.mean(axis=0)
    centred = (states - mean).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    directions = vectors[:, np.argsort(-values)[:width]]
    scale = np.sqrt(np.square(centred @ directions).mean())
    return {"mean": mean, "directions": np.ascontiguousarray(directions, dtype=np.float32), "scale": np.asarray(scale, dtype=np.float32)}

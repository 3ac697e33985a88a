"""The tagger: words or text in, entities out. Needs numpy, onnxruntime and tokenizers, nothing that trains."""

from __future__ import annotations

import copy
import ctypes
import multiprocessing
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nerdistill.errors import BundleError, ConfigError
from nerdistill.labels import LabelScheme
from nerdistill.records import Entity, WordSpan
from nerdistill.runtime.bundle import TOKENIZER, VARIANTS, Bundle, Variant, bundle_from_bytes, open_bundle
from nerdistill.runtime.decode import Floats, decode_tags, log_softmax, spans_of_tags
from nerdistill.text.collate import Rows, collate_pieces, collate_words
from nerdistill.text.encoder import WordTable
from nerdistill.text.splitter import split
from nerdistill.text.windows import Window, cut

if TYPE_CHECKING:
    import onnxruntime

BATCH_BUDGET = 1024
"""Padded words (or pieces) in one call of the network: large enough to fill a core, small enough to stay in its cache."""

_SLOWER_FUSIONS = ["SkipLayerNormFusion"]
"""Rewritings of the network that cost more than they save: this one's kernel took a quarter of an 8-bit Transformer's time."""

_HOME = os.getpid()


class Tagger:
    """A student ready to tag. Any number of threads may share it, and a process that is forked from this one may go on using it.

    Args:
        bundle: An opened bundle; `Tagger.load` opens one from a folder.
        threads: Threads of the network; None takes one in a worker process and every core this process may use elsewhere. Give workers
            that share a machine cores / workers.

    Raises:
        BundleError: The tokenizer or the network cannot be read.
        ConfigError: `threads` is below 1.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads = {threads}, expected 1 or more, or None")
        self.bundle = bundle
        self.info = bundle.info
        self.scheme = LabelScheme(bundle.info.types)
        self._threads = threads
        self._network: _Network | None = _Network(bundle, self.threads)
        _TAGGERS.add(self)

    @classmethod
    def load(cls, path: str | Path, variant: Variant | None = None, threads: int | None = None) -> Tagger:
        """Open a bundle folder.

        Args:
            path: The folder that ``nerdistill run`` or ``nerdistill distill`` wrote.
            variant: ``fp32`` or ``int8``; None takes the bundle's own choice.
            threads: As in the constructor.

        Raises:
            BundleError: There is no sound bundle at that path.
        """
        return cls(open_bundle(Path(path), variant), threads)

    @property
    def threads(self) -> int:
        """Threads of the network in this process."""
        return self._threads or _cores()

    @property
    def labels(self) -> tuple[str, ...]:
        """Entity types that it can find."""
        return self.info.types

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that it was trained for."""
        return self.info.languages

    def __call__(self, text: str) -> list[Entity]:
        """The entities of one text of any length, in order."""
        return next(self.pipe([text]))

    def pipe(self, texts: Iterable[str], batch_size: int = 1000) -> Iterator[list[Entity]]:
        """The entities of each text, in order, for a stream that need not fit in memory.

        Args:
            texts: Texts of any length.
            batch_size: Texts read ahead, so that those of like length share a call of the network.

        Raises:
            ConfigError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size = {batch_size}, expected 1 or more")
        stream = iter(texts)
        while batch := list(islice(stream, batch_size)):
            offsets = [split(text) for text in batch]
            words = [[text[start:stop] for start, stop in spans] for text, spans in zip(batch, offsets, strict=True)]
            for text, spans, found in zip(batch, offsets, self.tag_words(words), strict=True):
                yield [_entity(text, spans, span) for span in found]

    def tag_words(self, sentences: Sequence[Sequence[str]]) -> list[list[WordSpan]]:
        """The entities of texts that are split into words already, such as spaCy's or CoNLL's.

        Args:
            sentences: One sequence of words for each text; may be empty, may be longer than a window.

        Returns:
            One list of spans for each text, in order, not overlapping.
        """
        scores, offsets = self.log_probabilities(sentences)
        return spans_of_tags(decode_tags(scores, offsets, self.scheme), scores, offsets, self.scheme)

    def log_probabilities(self, sentences: Sequence[Sequence[str]]) -> tuple[Floats, npt.NDArray[np.int64]]:
        """What the network says of each word, before a valid sequence is chosen.

        Returns:
            ``[N, K]`` log-probabilities of the tags of all words laid end to end, and ``[S + 1]`` offsets of the sentences in them.
        """
        network = self._open()
        offsets = np.concatenate([[0], np.cumsum([len(words) for words in sentences])]).astype(np.int64)
        rows, table = network.encode([word for words in sentences for word in words])
        logits = np.zeros((len(rows), len(self.scheme.tags)), dtype=np.float32)
        costs = np.ones(len(rows), dtype=np.int64) if self.info.inputs == "words" else table.lengths[rows].astype(np.int64)
        for batch in _batches(cut(costs, offsets, self.info.window, self.info.overlap)):
            outputs = network.run([rows[window.start : window.stop] for window in batch], table)
            for window, output in zip(batch, outputs, strict=True):
                start, _, first, last = window
                logits[first:last] = output[first - start : last - start]
        return log_softmax(logits), offsets

    def _open(self) -> _Network:
        if self._network is None:
            self._network = _Network(self.bundle, self.threads)
        return self._network

    def _leave(self) -> None:
        """Give up a network that was inherited by a fork, and see to it that nothing ever closes it, not even the end of the process.

        Its threads stayed in the parent, and to close it would be to wait for them for ever. Its lock may be held by one of them.
        """
        if self._network is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._network))
            self._network = None

    def to_bytes(self) -> bytes:
        """The whole tagger as bytes, weights included."""
        return self.bundle.to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes, threads: int | None = None) -> Tagger:
        """The inverse of `to_bytes`; raises `BundleError` on anything else."""
        return cls(bundle_from_bytes(raw), threads)

    def __reduce__(self) -> tuple[Callable[[bytes, int | None], Tagger], tuple[bytes, int | None]]:
        """Pickle as bytes; the copy makes its own session, so it may go to a worker process."""
        return Tagger.from_bytes, (self.to_bytes(), self._threads)


class _Network:
    """What one process holds open of a bundle: the words met so far, and the network."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._table = _word_table(bundle)
        self._session = _session(bundle, threads)
        self._collate = _collator(bundle)
        self._lock = threading.Lock()

    def encode(self, words: Sequence[str]) -> tuple[Rows, WordTable]:
        """The rows of words, and the table that they are of as it is now: other threads may let it grow or start anew."""
        with self._lock:
            self._table.make_room()
            return self._table.rows(words), copy.copy(self._table)

    def run(self, rows: Sequence[Rows], table: WordTable) -> Floats:
        """Logits ``[B, W, K]`` of some windows."""
        logits: Floats = self._session.run(["logits"], self._collate(rows, table))[0]
        return logits


_TAGGERS: weakref.WeakSet[Tagger] = weakref.WeakSet()


def _leave_inherited() -> None:
    for tagger in _TAGGERS:
        tagger._leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_inherited)


def _cores() -> int:
    """One in a worker, which shares the machine with others; else the cores that this process may use."""
    if multiprocessing.parent_process() is not None or os.getpid() != _HOME:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _batches(jobs: Iterable[tuple[int, Window, int]]) -> Iterator[list[Window]]:
    """Windows of like cost together, each batch within `BATCH_BUDGET` after padding."""
    batch: list[Window] = []
    for _, window, cost in sorted(jobs, key=lambda job: job[2]):
        if batch and (len(batch) + 1) * cost > BATCH_BUDGET:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _entity(text: str, offsets: list[tuple[int, int]], span: WordSpan) -> Entity:
    start, stop = offsets[span.start][0], offsets[span.stop - 1][1]
    return Entity(start, stop, text[start:stop], span.label, span.score)


def _word_table(bundle: Bundle) -> WordTable:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(bundle.files[TOKENIZER].decode())
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{TOKENIZER}: not readable ({error})") from error
    return WordTable(tokenizer, bundle.info.unk_id, bundle.info.pad_id, bundle.info.max_pieces)


def _session(bundle: Bundle, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            bundle.network, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER_FUSIONS
        )
    except Exception as error:  # onnxruntime's own exception classes are not public
        raise BundleError(f"{bundle.info.name}: the {bundle.variant} network cannot be opened ({error})") from error
    found, expected = session.get_outputs()[0].shape[-1], len(LabelScheme(bundle.info.types).tags)
    if found != expected:
        raise BundleError(f"{VARIANTS[bundle.variant]}: gives {found} scores a word, expected {expected} for the types in bundle.json")
    return session


def _collator(bundle: Bundle) -> Callable[[Sequence[Rows], WordTable], dict[str, Rows]]:
    bos, eos = bundle.info.bos_id, bundle.info.eos_id
    if bundle.info.inputs == "words":
        return collate_words
    if bos is None or eos is None:
        raise BundleError(f"{bundle.info.name}: a network over pieces needs bos_id and eos_id in bundle.json")
    return lambda rows, table: collate_pieces(rows, table, bos, eos)

"""The tagger: words or text in, entities out. Needs numpy, onnxruntime and tokenizers, nothing that trains."""

from __future__ import annotations

import copy
import ctypes
import multiprocessing
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nerdistill.errors import BundleError, ConfigError
from nerdistill.labels import LabelScheme
from nerdistill.records import Entity, WordSpan
from nerdistill.runtime.backends import Backend, Run, open_for, open_network
from nerdistill.runtime.bundle import TOKENIZER, Bundle, Variant, bundle_from_bytes
from nerdistill.runtime.decode import Floats, decode_tags, log_softmax, spans_of_tags
from nerdistill.runtime.session import cores
from nerdistill.text.collate import Rows, collate_pieces, collate_words
from nerdistill.text.encoder import WordTable
from nerdistill.text.splitter import places, split_words
from nerdistill.text.windows import Window, cut

BATCH_BUDGET = 1024
"""Padded words (or pieces) in one call of the network: large enough to fill a core, small enough to stay in its cache.

Twice as many in bfloat16, where the call itself costs more and the words in it less; many more on a GPU, whose cores they are to fill.
"""

_TIMES = {"openvino-bf16": 2, "onnxruntime-cuda": 32}
"""By backend, how many times that budget."""

_HOME = os.getpid()


class Tagger:
    """A student ready to tag. Any number of threads may share it, and a process that is forked from this one may go on using it.

    Args:
        bundle: An opened bundle; `Tagger.load` opens one from a folder.
        threads: Threads of the network; None takes one in a worker process and every core this process may use elsewhere. Give workers
            that share a machine cores / workers.
        backend: What runs the network; see `nerdistill.runtime.backends`.

    Attributes:
        budget: Padded words (or pieces) in one call of the network.

    Raises:
        BundleError: The tokenizer or the network cannot be read.
        ConfigError: `threads` is below 1; or there is no such backend, it does not run the bundle's variant, or is not installed.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, backend: Backend = "onnxruntime") -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads = {threads}, expected 1 or more, or None")
        self.bundle = bundle
        self.info = bundle.info
        self.scheme = LabelScheme(bundle.info.types)
        self.backend = backend
        self.budget = _TIMES.get(backend, 1) * BATCH_BUDGET
        self._threads = threads
        self._network: _Network | None = _Network(bundle, self.threads, backend)
        _TAGGERS.add(self)

    @classmethod
    def load(cls, path: str | Path, variant: Variant | None = None, threads: int | None = None, backend: Backend = "onnxruntime") -> Tagger:
        """Open a bundle folder.

        Args:
            path: The folder that ``nerdistill run`` or ``nerdistill distill`` wrote.
            variant: ``fp32`` or ``int8``; None takes the bundle's own choice, and ``fp32`` for OpenVINO.
            threads: As in the constructor.
            backend: As in the constructor.

        Raises:
            BundleError: There is no sound bundle at that path.
            ConfigError: As in the constructor.
        """
        return cls(open_for(Path(path), variant, backend), threads, backend)

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
            words = [split_words(text) for text in batch]
            for text, inside, spans in zip(batch, words, self.tag_words(words), strict=True):
                yield entities(text, inside, spans)

    def tag_words(self, sentences: Sequence[Sequence[str]]) -> list[list[WordSpan]]:
        """The entities of texts that are split into words already, such as spaCy's or CoNLL's.

        Args:
            sentences: One sequence of words for each text; may be empty, may be longer than a window.

        Returns:
            One list of spans for each text, in order, not overlapping.
        """
        logits, offsets = self.logits(sentences)
        return spans_of_tags(decode_tags(logits, offsets, self.scheme), logits, offsets, self.scheme)

    def log_probabilities(self, sentences: Sequence[Sequence[str]]) -> tuple[Floats, npt.NDArray[np.int64]]:
        """As `logits`, normalised over the tags of each word."""
        logits, offsets = self.logits(sentences)
        return log_softmax(logits), offsets

    def logits(self, sentences: Sequence[Sequence[str]]) -> tuple[Floats, npt.NDArray[np.int64]]:
        """What the network says of each word, before a valid sequence is chosen.

        Returns:
            ``[N, K]`` logits of the tags of all words laid end to end, and ``[S + 1]`` offsets of the sentences in them.
        """
        network = self._open()
        offsets = np.concatenate([[0], np.cumsum([len(words) for words in sentences])]).astype(np.int64)
        rows, table = network.encode([word for words in sentences for word in words])
        logits = np.zeros((len(rows), len(self.scheme.tags)), dtype=np.float32)
        costs = np.ones(len(rows), dtype=np.int64) if self.info.inputs == "words" else table.lengths[rows].astype(np.int64)
        together = [*batches(cut(costs, offsets, self.info.window, self.info.overlap), self.budget)]
        read = network.read([[rows[window.start : window.stop] for window in batch] for batch in together], table)
        for batch, outputs in zip(together, read, strict=True):
            for window, output in zip(batch, outputs, strict=True):
                start, _, first, last = window
                logits[first:last] = output[first - start : last - start]
        return logits, offsets

    def _open(self) -> _Network:
        if self._network is None:
            self._network = _Network(self.bundle, self.threads, self.backend)
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
    def from_bytes(cls, raw: bytes, threads: int | None = None, backend: Backend = "onnxruntime") -> Tagger:
        """The inverse of `to_bytes`; raises `BundleError` on anything else."""
        return cls(bundle_from_bytes(raw), threads, backend)

    def __reduce__(self) -> tuple[Callable[[bytes, int | None, Backend], Tagger], tuple[bytes, int | None, Backend]]:
        """Pickle as bytes; the copy opens the network itself, so it may go to a worker process."""
        return Tagger.from_bytes, (self.to_bytes(), self._threads, self.backend)


class _Network:
    """What one process holds open of a bundle: the words met so far, what makes arrays of them, and the network."""

    def __init__(self, bundle: Bundle, threads: int, backend: Backend) -> None:
        self._table = _word_table(bundle)
        self.run = open_network(bundle, threads, backend)
        self.collate = _collator(bundle)
        self._lock = threading.Lock()
        self._open_beside = partial(open_network, bundle, 1, backend)
        self._at_once = threads if backend == "onnxruntime" else 1  # OpenVINO shares its threads out itself, and so does a GPU
        self._beside: tuple[Run, ThreadPoolExecutor] | None = None

    def read(self, batches: Sequence[Sequence[Rows]], table: WordTable) -> Iterator[Floats]:
        """Logits ``[B, W, K]`` of each batch of rows, in order.

        Of several batches each thread takes one, in a network of one thread that is opened for that when it is first needed: threads that
        share one batch of a recurrent network mostly wait for each other. What is in a batch does not depend on the threads.
        """
        if self._at_once == 1 or len(batches) == 1:
            return (self.run(self.collate(batch, table)) for batch in batches)
        with self._lock:
            if self._beside is None:
                self._beside = self._open_beside(), ThreadPoolExecutor(self._at_once, "nerdistill")
        run, pool = self._beside
        return pool.map(lambda batch: run(self.collate(batch, table)), batches)

    def encode(self, words: Sequence[str]) -> tuple[Rows, WordTable]:
        """The rows of words, and the table that they are of as it is now: other threads may let it grow or start anew."""
        with self._lock:
            self._table.make_room()
            return self._table.rows(words), copy.copy(self._table)


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
    return cores()


def batches(jobs: Iterable[tuple[int, Window, int]], budget: int) -> Iterator[list[Window]]:
    """Windows of like cost together, each batch within a budget after padding; the longest come first.

    So the longest of a batch says how many it takes: all batches of one width but the last have one height, and few shapes occur.

    Args:
        jobs: What `cut` yields.
        budget: Largest cost of a batch; a single window above it still gets a batch of its own.
    """
    windows = sorted(((cost, window) for _, window, cost in jobs), key=itemgetter(0), reverse=True)
    start = 0
    while start < len(windows):
        size = max(1, budget // windows[start][0])
        stop = start + (size - size % 8 if size > 8 else size)
        yield [window for _, window in windows[start:stop]]
        start = stop


def entities(text: str, words: Sequence[str], spans: Sequence[WordSpan]) -> list[Entity]:
    """Spans over the words of a text, as entities over its characters."""
    if not spans:
        return []
    at = places(text, words[: spans[-1].stop])
    edges = ((at[span.start][0], at[span.stop - 1][1], span) for span in spans)
    return [Entity(start, stop, text[start:stop], span.label, span.score) for start, stop, span in edges]


def _word_table(bundle: Bundle) -> WordTable:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(bundle.files[TOKENIZER].decode())
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{TOKENIZER}: not readable ({error})") from error
    return WordTable(tokenizer, bundle.info.unk_id, bundle.info.pad_id, bundle.info.max_pieces)


def _collator(bundle: Bundle) -> Callable[[Sequence[Rows], WordTable], dict[str, Rows]]:
    bos, eos = bundle.info.bos_id, bundle.info.eos_id
    if bundle.info.inputs == "words":
        return collate_words
    if bos is None or eos is None:
        raise BundleError(f"{bundle.info.name}: a network over pieces needs bos_id and eos_id in bundle.json")
    return lambda rows, table: collate_pieces(rows, table, bos, eos)

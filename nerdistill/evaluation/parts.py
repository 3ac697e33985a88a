"""The parts of a tagger's way from text to entities, each at hand alone, and how long they take.

Each part works on what the part before gave; words have been met before. Parts take turns, and the fastest of some rounds counts. Times
are those of the processor, so that another process costs little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nerdistill.records import WordSpan
from nerdistill.runtime.decode import decode_tags, spans_of_tags
from nerdistill.runtime.tagger import Tagger, batches, entities
from nerdistill.text.collate import Arrays, Rows
from nerdistill.text.splitter import split_words
from nerdistill.text.windows import cut

ROUNDS = 7


def fastest(jobs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of the processor that each job takes at the least of `ROUNDS`; they take turns."""
    seconds = dict.fromkeys(jobs, float("inf"))
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            began = time.process_time()
            job()
            seconds[name] = min(seconds[name], time.process_time() - began)
    return seconds


def with_rest(seconds: Mapping[str, float], whole: str = "whole") -> dict[str, float]:
    """The parts of a whole, and in place of the whole the ``rest``: what it takes beyond them, never below 0."""
    parts = {name: taken for name, taken in seconds.items() if name != whole}
    return {**parts, "rest": max(0.0, seconds[whole] - sum(parts.values()))}


class Parts:
    """Text on its way through a tagger's parts.

    Args:
        tagger: The tagger.
        texts: The texts.
        sentences: Their words.

    Attributes:
        words: Of all texts laid end to end, N of them.
        table: The word table that knows them.
        windows: Rows of the table, ``[W]`` each, by call of the network and window.
        arrays: The network's inputs, one a call.
    """

    def __init__(self, tagger: Tagger, texts: Sequence[str], sentences: Sequence[Sequence[str]]) -> None:
        self.words = [word for inside in sentences for word in inside]
        self._tagger, self._texts, self._sentences = tagger, texts, sentences
        self._network = tagger._open()
        self._rows, self.table = self._network.encode(self.words)
        self._logits, self._offsets = tagger.logits(sentences)
        self.windows = self._windows()
        self.arrays = self._batch()
        self._tags = decode_tags(self._logits, self._offsets, tagger.scheme)
        self._spans = self._spans_of_tags()

    @property
    def padded(self) -> int:
        """Words of all calls, padding counted."""
        return sum(next(array.size for name, array in inputs.items() if name in ("word_index", "first_piece")) for inputs in self.arrays)

    def jobs(self) -> dict[str, Callable[[], object]]:
        """Every part by its name, in the order of the way; ``batch`` is windowing, sorting and padding."""
        return {
            "split": lambda: [split_words(text) for text in self._texts],
            "encode": lambda: self._network.encode([word for inside in self._sentences for word in inside]),
            "batch": self._batch,
            "network": lambda: [self._network.run(inputs) for inputs in self.arrays],
            "decode": lambda: decode_tags(self._logits, self._offsets, self._tagger.scheme),
            "spans": self._spans_of_tags,
            "entities": lambda: [*map(entities, self._texts, self._sentences, self._spans)],
        }

    def _batch(self) -> list[Arrays]:
        return [self._network.collate(rows, self.table) for rows in self._windows()]

    def _spans_of_tags(self) -> list[list[WordSpan]]:
        return spans_of_tags(self._tags, self._logits, self._offsets, self._tagger.scheme)

    def _windows(self) -> list[list[Rows]]:
        info = self._tagger.info
        costs = np.ones(len(self._rows), dtype=np.int64) if info.inputs == "words" else self.table.lengths[self._rows].astype(np.int64)
        together = batches(cut(costs, self._offsets, info.window, info.overlap), self._tagger.budget)
        return [[self._rows[window.start : window.stop] for window in batch] for batch in together]

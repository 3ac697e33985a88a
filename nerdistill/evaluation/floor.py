"""The floor: what a student's time for a word could not fall below on this machine, and where the rest goes.

The network cannot be faster than the longer of two times (the roofline model, Williams et al. 2009): its matrix products at the rate of the
fastest product that this machine computes, and its table rows and weights at the rate at which memory is copied. Splitting text and looking
up words are taken as they are measured. Everything runs with one thread; words have been met before, but for one figure. Times are those of
the processor, so that another process costs little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from nerdistill.evaluation.graph_cost import Cost, Positions, count_cost
from nerdistill.evaluation.machine_rates import bandwidth, gemm_rate
from nerdistill.runtime.backends import Backend, open_network
from nerdistill.runtime.bundle import TOKENIZER, Variant
from nerdistill.runtime.decode import decode_tags, spans_of_tags
from nerdistill.runtime.tagger import Tagger, batches
from nerdistill.text.collate import Rows, collate_pieces, collate_words
from nerdistill.text.encoder import WordTable
from nerdistill.text.splitter import split_words
from nerdistill.text.windows import cut

ROUNDS = 5
MOST_WORDS = 20_000
"""Of the text: enough for a timing, and little enough for many."""

_WORD_INPUT = {"words": "word_index", "pieces": "first_piece"}


def measure_floor(
    path: Path, sentences: Sequence[Sequence[str]], variant: Variant | None = None, backend: Backend = "onnxruntime"
) -> dict[str, Any]:
    """Measure a bundle on raw text, part by part, beside what each part must take.

    Args:
        path: The bundle's folder.
        sentences: Words, of which the first `MOST_WORDS` are read; raw text is these joined by spaces.
        variant: As in `Tagger.load`.
        backend: The same.

    Returns:
        ``machine``: ``gemm_float32`` (operations per second, in bfloat16 for a backend that computes in it), ``gemm_int8`` and
        ``bandwidth`` (bytes per second). ``per_word``:
        ``operations_float32``, ``operations_int8``, ``bytes`` and table ``rows``. ``microseconds``: part to ``[floor, measured]`` a word:
        ``split``, ``encode`` (words to rows of the word table), ``network``, ``collate``, ``decode`` (to entities of words) and ``rest``
        (what the tagger does beside). ``encode_new_words``: microseconds to encode a word not met before. ``floor`` and ``measured``, the
        sums; ``times_floor``, their ratio; ``largest``, the part with the most time above its floor.

    Raises:
        BundleError: There is no sound bundle.
    """
    tagger = Tagger.load(path, variant, threads=1, backend=backend)
    totals = np.cumsum([0, *map(len, sentences)])
    some = sentences[: max(1, int(np.searchsorted(totals, MOST_WORDS)))]
    reading = _Reading(tagger, some)
    n_words = len(reading.words)
    cost = count_cost(reading.network, _WORD_INPUT[tagger.info.inputs], reading.positions)
    rates = {"gemm_float32": gemm_rate(backend), "gemm_int8": gemm_rate(int8=True), "bandwidth": bandwidth()}
    parts = _measured(tagger, reading, some)
    least = {"split": parts["split"], "encode": parts["encode"], "network": _network_floor(cost, rates)}
    scale = 1e6 / n_words
    both = {name: [round(least.get(name, 0.0) * scale, 4), round(seconds * scale, 4)] for name, seconds in parts.items()}
    floor, measured = (sum(pair[side] for pair in both.values()) for side in (0, 1))
    return {
        "threads": 1,
        "variant": tagger.bundle.variant,
        "backend": backend,
        "machine": {name: round(rate) for name, rate in rates.items()},
        "per_word": {
            **{f"operations_{name}": round(count / n_words) for name, count in cost.operations.items()},
            "bytes": round(cost.bytes / n_words),
            "rows": round(reading.positions.rows / n_words, 3),
        },
        "microseconds": both,
        "encode_new_words": round(1e6 * reading.seconds_a_new_word, 4),
        "floor": round(floor, 4),
        "measured": round(measured, 4),
        "times_floor": round(measured / floor, 3),
        "largest": max(both, key=lambda name: both[name][1] - both[name][0]),
    }


class _Reading:
    """Text on its way through a tagger's parts, each of them at hand alone.

    Args:
        tagger: The tagger.
        sentences: Words.
    """

    def __init__(self, tagger: Tagger, sentences: Sequence[Sequence[str]]) -> None:
        import onnx

        bundle, info = tagger.bundle, tagger.info
        self.info = info
        self.network = onnx.load_from_string(bundle.network)
        self.call = open_network(bundle, 1, tagger.backend)
        self.table = WordTable(Tokenizer.from_str(bundle.files[TOKENIZER].decode()), info.unk_id, info.pad_id, info.max_pieces)
        self.words = [word for words in sentences for word in words]
        self.table.rows(self.words[:1])  # what the tokenizer does only once
        began = time.process_time()
        rows = self.encode()
        self.seconds_a_new_word = (time.process_time() - began) / max(1, len(self.table))
        costs = np.ones(len(rows), dtype=np.int64) if info.inputs == "words" else self.table.lengths[rows].astype(np.int64)
        offsets = np.cumsum([0, *map(len, sentences)]).astype(np.int64)
        together = batches(cut(costs, offsets, info.window, info.overlap), tagger.budget)
        self.batches = [[rows[window.start : window.stop] for window in batch] for batch in together]
        self.arrays = self.collate()
        self.positions = self._count()

    def encode(self) -> Rows:
        """Rows of all words."""
        return self.table.rows(self.words)

    def collate(self) -> list[dict[str, Rows]]:
        """The network's inputs, one a call."""
        bos_id, eos_id = self.info.bos_id, self.info.eos_id
        if bos_id is None or eos_id is None:
            return [collate_words(batch, self.table) for batch in self.batches]
        return [collate_pieces(batch, self.table, bos_id, eos_id) for batch in self.batches]

    def run(self) -> None:
        """Every call of the network."""
        for inputs in self.arrays:
            self.call(inputs)

    def _count(self) -> Positions:
        pieces = self.table.lengths
        n_words = sum(len(rows) for batch in self.batches for rows in batch)
        if self.info.inputs == "words":
            distinct = [np.unique(np.concatenate(batch)) for batch in self.batches]
            looked_up = sum(int(pieces[rows].sum()) for rows in distinct)
            return Positions(n_words, sum(map(len, distinct)), looked_up, 0.0, len(self.batches))
        lengths = np.array([int(pieces[rows].sum()) + 2 for batch in self.batches for rows in batch])
        context = float((lengths**2).sum() / lengths.sum())
        return Positions(n_words, int(lengths.sum()), int(lengths.sum()), context, len(self.batches))


def _network_floor(cost: Cost, rates: dict[str, float]) -> float:
    """Seconds: the longer of computing and fetching."""
    computing = sum(count / rates[f"gemm_{name}"] for name, count in cost.operations.items())
    return max(computing, cost.bytes / rates["bandwidth"])


def _measured(tagger: Tagger, reading: _Reading, sentences: Sequence[Sequence[str]]) -> dict[str, float]:
    """Seconds of each part, the fastest of some rounds; what the tagger does beside its parts is what is left of the whole."""
    texts = [" ".join(words) for words in sentences]
    scores, offsets = tagger.log_probabilities(sentences)

    def decode() -> None:
        spans_of_tags(decode_tags(scores, offsets, tagger.scheme), scores, offsets, tagger.scheme)

    jobs: dict[str, Callable[[], object]] = {
        "split": lambda: [split_words(text) for text in texts],
        "encode": reading.encode,
        "network": reading.run,
        "collate": reading.collate,
        "decode": decode,
        "whole": lambda: tagger.tag_words(sentences),
    }
    seconds = dict.fromkeys(jobs, float("inf"))
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            began = time.process_time()
            job()
            seconds[name] = min(seconds[name], time.process_time() - began)
    whole = seconds.pop("whole")
    return {**seconds, "rest": max(0.0, whole - sum(seconds.values()) + seconds["split"])}

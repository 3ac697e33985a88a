"""The floor: what a student's time for a word could not fall below on this machine, and where the rest goes.

The network cannot be faster than the longer of two times (the roofline model, Williams et al. 2009): its matrix products at the rate of the
fastest product that this machine computes, and its table rows and weights at the rate at which memory is copied. Splitting text and looking
up words are taken as they are measured. Everything runs with one thread; words have been met before, but for one figure. Parts are timed as
`nerdistill.evaluation.parts` says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerdistill.evaluation.graph_cost import Cost, Positions, count_cost
from nerdistill.evaluation.machine_rates import bandwidth, gemm_rate
from nerdistill.evaluation.parts import Parts, fastest, with_rest
from nerdistill.runtime.backends import Backend
from nerdistill.runtime.bundle import Variant
from nerdistill.runtime.tagger import Tagger
from nerdistill.text.splitter import split_words

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
        ``split``, ``encode`` (words to rows of the word table), ``network``, ``collate`` (windowing, sorting and padding), ``decode`` (to
        entities of words) and ``rest`` (what the tagger does beside). ``encode_new_words``: microseconds to encode a word not met before.
        ``floor`` and ``measured``, the sums; ``times_floor``, their ratio; ``largest``, the part with the most time above its floor.

    Raises:
        BundleError: There is no sound bundle.
    """
    import onnx

    tagger = Tagger.load(path, variant, threads=1, backend=backend)
    totals = np.cumsum([0, *map(len, sentences)])
    some = sentences[: max(1, int(np.searchsorted(totals, MOST_WORDS)))]
    texts = [" ".join(words) for words in some]
    new_word = _seconds_a_new_word(tagger, some)
    parts = Parts(tagger, texts, some)
    n_words = len(parts.words)
    positions = _positions(parts, tagger.info.inputs)
    cost = count_cost(onnx.load_from_string(tagger.bundle.network), _WORD_INPUT[tagger.info.inputs], positions)
    rates = {"gemm_float32": gemm_rate(backend), "gemm_int8": gemm_rate(int8=True), "bandwidth": bandwidth()}
    taken = _measured(tagger, parts, texts, some)
    least = {"split": taken["split"], "encode": taken["encode"], "network": _network_floor(cost, rates)}
    scale = 1e6 / n_words
    both = {name: [round(least.get(name, 0.0) * scale, 4), round(seconds * scale, 4)] for name, seconds in taken.items()}
    floor, measured = (sum(pair[side] for pair in both.values()) for side in (0, 1))
    return {
        "threads": 1,
        "variant": tagger.bundle.variant,
        "backend": backend,
        "machine": {name: round(rate) for name, rate in rates.items()},
        "per_word": {
            **{f"operations_{name}": round(count / n_words) for name, count in cost.operations.items()},
            "bytes": round(cost.bytes / n_words),
            "rows": round(positions.rows / n_words, 3),
        },
        "microseconds": both,
        "encode_new_words": round(1e6 * new_word, 4),
        "floor": round(floor, 4),
        "measured": round(measured, 4),
        "times_floor": round(measured / floor, 3),
        "largest": max(both, key=lambda name: both[name][1] - both[name][0]),
    }


def _positions(parts: Parts, inputs: str) -> Positions:
    """What the network's calls read, by kind of network."""
    pieces, windows = parts.table.lengths, parts.windows
    n_words = sum(len(rows) for batch in windows for rows in batch)
    if inputs == "words":
        distinct = [np.unique(np.concatenate(batch)) for batch in windows]
        looked_up = sum(int(pieces[rows].sum()) for rows in distinct)
        return Positions(n_words, sum(map(len, distinct)), looked_up, 0.0, len(windows))
    lengths = np.array([int(pieces[rows].sum()) + 2 for batch in windows for rows in batch])
    context = float((lengths**2).sum() / lengths.sum())
    return Positions(n_words, int(lengths.sum()), int(lengths.sum()), context, len(windows))


def _seconds_a_new_word(tagger: Tagger, sentences: Sequence[Sequence[str]]) -> float:
    """Seconds to encode a word; the tagger must have met none yet."""
    words = [word for inside in sentences for word in inside]
    network = tagger._open()
    network.encode(words[:1])  # what the tokenizer does only once
    began = time.process_time()
    _, table = network.encode(words)
    return (time.process_time() - began) / max(1, len(table))


def _network_floor(cost: Cost, rates: dict[str, float]) -> float:
    """Seconds: the longer of computing and fetching."""
    computing = sum(count / rates[f"gemm_{name}"] for name, count in cost.operations.items())
    return max(computing, cost.bytes / rates["bandwidth"])


def _measured(tagger: Tagger, parts: Parts, texts: Sequence[str], sentences: Sequence[Sequence[str]]) -> dict[str, float]:
    """Seconds of each part."""

    def whole() -> None:
        for text in texts:
            split_words(text)
        tagger.tag_words(sentences)

    jobs = parts.jobs()
    del jobs["entities"]
    seconds = with_rest(fastest({**jobs, "whole": whole}))
    decode = seconds["decode"] + seconds["spans"]
    same = {name: seconds[name] for name in ("split", "encode", "network")}
    return {**same, "collate": seconds["batch"], "decode": decode, "rest": seconds["rest"]}

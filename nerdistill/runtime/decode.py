"""Logits to entities: the most probable valid IOB2 sequence, and a score for each entity.

All functions work on many sentences at once, laid end to end: ``N`` words in all, ``offsets`` ``[S + 1]`` where each begins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nerdistill.labels import LabelScheme
from nerdistill.records import WordSpan

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def log_softmax(logits: Floats) -> Floats:
    """Log-probabilities over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def viterbi(scores: Floats, allowed: npt.NDArray[np.bool_]) -> Ints:
    """The best tag sequence of one sentence in which every step is allowed.

    Args:
        scores: ``[W, K]`` log-probabilities.
        allowed: ``[K + 1, K]``, as in `LabelScheme.allowed`.

    Returns:
        ``[W]`` tag ids.
    """
    cost = np.where(allowed, 0.0, -np.inf).astype(np.float32)
    best = scores[0] + cost[-1]
    back = np.zeros(scores.shape, dtype=np.int64)
    for at in range(1, len(scores)):
        reach = best[:, None] + cost[:-1]
        back[at] = reach.argmax(axis=0)
        best = reach.max(axis=0) + scores[at]
    tags = np.zeros(len(scores), dtype=np.int64)
    tags[-1] = best.argmax()
    for at in range(len(scores) - 1, 0, -1):
        tags[at - 1] = back[at, tags[at]]
    return tags


def decode_tags(scores: Floats, offsets: Ints, scheme: LabelScheme) -> Ints:
    """The most probable valid tags of every sentence.

    Tags are independent given the logits, so where the best tag of every word already makes a valid sequence, that is the answer; the
    dynamic programme runs only over the other sentences.

    Args:
        scores: ``[N, K]`` log-probabilities.
        offsets: ``[S + 1]``.
        scheme: The label scheme, K tags.

    Returns:
        ``[N]`` tag ids.
    """
    tags: Ints = scores.argmax(axis=1)
    before = np.empty_like(tags)
    before[1:] = tags[:-1]
    before[offsets[:-1][offsets[:-1] < len(tags)]] = len(scheme.tags)
    invalid = np.flatnonzero(~scheme.allowed[before, tags])
    for sentence in np.unique(np.searchsorted(offsets, invalid, side="right") - 1):
        part = slice(offsets[sentence], offsets[sentence + 1])
        tags[part] = viterbi(scores[part], scheme.allowed)
    return tags


def spans_of_tags(tags: Ints, scores: Floats, offsets: Ints, scheme: LabelScheme) -> list[list[WordSpan]]:
    """Entities of every sentence, with the score defined in `WordSpan`.

    Args:
        tags: ``[N]`` valid tag ids.
        scores: ``[N, K]`` log-probabilities.
        offsets: ``[S + 1]``.
        scheme: The label scheme.
    """
    spans: list[list[WordSpan]] = [[] for _ in range(len(offsets) - 1)]
    starts = np.flatnonzero(tags % 2 == 1)
    if not len(starts):
        return spans
    outside = np.append(np.flatnonzero((tags == 0) | (tags % 2 == 1)), len(tags))
    stops = outside[np.searchsorted(outside, starts, side="right")]
    chosen = scores[np.arange(len(tags)), tags]
    total = np.concatenate([[0.0], np.cumsum(chosen, dtype=np.float64)])
    confidence = np.clip(np.exp((total[stops] - total[starts]) / (stops - starts)), np.finfo(np.float64).tiny, 1.0)
    owners = np.searchsorted(offsets, starts, side="right") - 1
    base = offsets[owners]
    for owner, start, stop, tag, score in zip(
        owners.tolist(), (starts - base).tolist(), (stops - base).tolist(), tags[starts].tolist(), confidence.tolist(), strict=True
    ):
        spans[owner].append(WordSpan(start, stop, scheme.types[tag // 2], score))
    return spans

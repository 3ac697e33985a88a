"""Logits to entities: the most probable valid IOB2 sequence, and a score for each entity.

All functions work on many sentences at once, laid end to end: ``N`` words in all, ``offsets`` ``[S + 1]`` where each begins. Scores are
logits or log-probabilities: what all tags of a word have in common changes neither tags nor confidence.
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


def viterbi(scores: Floats, allowed: npt.NDArray[np.bool_], begins: bool = True) -> Ints:
    """The best tag sequence of some words in which every step is allowed.

    Args:
        scores: ``[W, K]``.
        allowed: ``[K + 1, K]``, as in `LabelScheme.allowed`.
        begins: The first word begins a sentence; otherwise any tag may stand there.

    Returns:
        ``[W]`` tag ids.
    """
    cost = np.where(allowed, 0.0, -np.inf).astype(np.float32)
    best = scores[0] + cost[-1] if begins else scores[0]
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

    Tags are independent given the logits, so where the best tag of every word already makes a valid sequence, that is the answer. Around
    the words where it does not, the dynamic programme runs over as few words as decide.

    A sentence falls into parts, each an ``O`` or ``B`` with the ``I`` after it, by the best tag of each word. Let every part be decoded as
    if anything could stand before it. If no answer begins with ``I``, then together they are valid, as ``O`` and ``B`` may follow anything,
    and no valid sequence is better, since none is better in any part. A part whose answer does begin with ``I`` joins the one before it.

    Args:
        scores: ``[N, K]``.
        offsets: ``[S + 1]``.
        scheme: The label scheme, K tags.

    Returns:
        ``[N]`` tag ids.
    """
    tags: Ints = scores.argmax(axis=1)
    begins = np.zeros(len(tags), dtype=bool)
    begins[offsets[:-1][offsets[:-1] < len(tags)]] = True
    before = np.empty_like(tags)
    before[1:] = tags[:-1]
    before[begins] = len(scheme.tags)
    invalid = np.flatnonzero(~scheme.allowed[before, tags])
    if not len(invalid):
        return tags
    parts = np.flatnonzero(begins | ~_is_inside(tags))
    stops = np.append(parts[1:], len(tags))
    undone = len(parts)
    for part in np.unique(np.searchsorted(parts, invalid, side="right") - 1)[::-1].tolist():
        if part >= undone:
            continue  # joined to a later one
        stop = stops[part]
        for undone in range(part, -1, -1):
            start = parts[undone]
            best = viterbi(scores[start:stop], scheme.allowed, bool(begins[start]))
            if begins[start] or not _is_inside(best[:1])[0]:
                break
        tags[start:stop] = best
    return tags


def _is_inside(tags: Ints) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (tags > 0) & (tags & 1 == 0)
    return inside


def spans_of_tags(tags: Ints, scores: Floats, offsets: Ints, scheme: LabelScheme) -> list[list[WordSpan]]:
    """Entities of every sentence, with the score defined in `WordSpan`.

    Args:
        tags: ``[N]`` valid tag ids.
        scores: ``[N, K]``.
        offsets: ``[S + 1]``.
        scheme: The label scheme.
    """
    spans: list[list[WordSpan]] = [[] for _ in range(len(offsets) - 1)]
    words = np.flatnonzero(tags)
    if not len(words):
        return spans
    chosen = tags[words]
    opens = np.flatnonzero(chosen & 1)
    sizes = np.diff(opens, append=len(words))
    each = log_softmax(scores[words])[np.arange(len(words)), chosen]
    mean = np.add.reduceat(each, opens, dtype=np.float64) / sizes
    confidence = np.clip(np.exp(mean), np.finfo(np.float64).tiny, 1.0)
    starts = words[opens]
    owners = np.searchsorted(offsets, starts, side="right") - 1
    starts -= offsets[owners]
    for owner, start, stop, tag, score in zip(
        owners.tolist(), starts.tolist(), (starts + sizes).tolist(), chosen[opens].tolist(), confidence.tolist(), strict=True
    ):
        spans[owner].append(WordSpan(start, stop, scheme.types[tag // 2], score))
    return spans

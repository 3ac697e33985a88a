"""Words per second of systems side by side: warm-up, several rounds in turn, the median."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from nerdistill.records import Sentence


def mixed(sentences: Sequence[Sentence], least: int) -> list[Sentence]:
    """Sentences of all languages in turn, repeated if they are fewer than `least`, so that a timing does not rest on one language."""
    step = max(1, len(sentences) // 97)
    turned = [sentence for start in range(step) for sentence in sentences[start::step]]
    return turned * max(1, least // max(1, len(turned)))


Name = TypeVar("Name", bound=Hashable)


def words_per_second(
    systems: Mapping[Name, Callable[[Sequence[Sentence]], object]], sentences: Sequence[Sentence], rounds: int = 3
) -> dict[Name, float]:
    """Measure systems on the same sentences, in turn within each round, so that a busy moment meets them all.

    Args:
        systems: Name to what tags sentences.
        sentences: The text; a slow system gets as much of its front as takes about two seconds.
        rounds: How often each is timed.

    Returns:
        Median words per second by name.
    """
    shares: dict[Name, Sequence[Sentence]] = {}
    for name, tag in systems.items():
        probe = sentences[:32]
        tag(probe)
        began = time.perf_counter()
        tag(probe)
        seconds = max(time.perf_counter() - began, 1e-6)
        shares[name] = sentences[: max(32, int(2.0 / seconds * len(probe)))]
    rates: dict[Name, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, tag in systems.items():
            words = sum(len(sentence.words) for sentence in shares[name])
            began = time.perf_counter()
            tag(shares[name])
            rates[name].append(words / (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in rates.items()}

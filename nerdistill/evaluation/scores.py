"""Strict entity F1 with seqeval: IOB2, word level, sentence by sentence, per language and type."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nerdistill.labels import OUTSIDE, spans_of, tag_type
from nerdistill.records import Sentence, WordSpan


@dataclass(frozen=True)
class Scores:
    """How well a system tags a labelled set.

    Attributes:
        f1_by_language: Strict entity F1, 0 to 1; 0 where a language has neither gold nor found entities.
        f1_by_type: The same over all languages together.
        f1_pooled: Over all entities.
        errors_by_language: Counts of correct, missed, spurious, wrong_type and wrong_boundary entities.
        confusion: Gold type to found type, ``O`` for none, counted over entities whose boundaries agree or that overlap.
    """

    f1_by_language: dict[str, float]
    f1_by_type: dict[str, float]
    f1_pooled: float
    errors_by_language: dict[str, dict[str, int]] = field(default_factory=dict)
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def f1_mean(self) -> float:
        """Mean over languages, the headline."""
        return float(np.mean(list(self.f1_by_language.values()))) if self.f1_by_language else 0.0

    @property
    def f1_std(self) -> float:
        """Standard deviation over languages."""
        return float(np.std(list(self.f1_by_language.values()))) if self.f1_by_language else 0.0

    def as_row(self) -> dict[str, Any]:
        """The keys of a results row."""
        return {
            "f1_mean": round(self.f1_mean, 5),
            "f1_std": round(self.f1_std, 5),
            "f1_pooled": round(self.f1_pooled, 5),
            "f1_by_language": {name: round(value, 5) for name, value in self.f1_by_language.items()},
            "f1_by_type": {name: round(value, 5) for name, value in self.f1_by_type.items()},
            "errors_by_language": self.errors_by_language,
            "confusion": self.confusion,
        }


def strict_f1(gold: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> tuple[float, dict[str, float]]:
    """Micro F1 and F1 by type, by seqeval in strict mode: what is not valid IOB2 is no entity; 0 where nothing is defined."""
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    types = sorted({span.label for tags in (*gold, *found) for span in spans_of(tags)})
    if not types:
        return 0.0, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns of types without gold or found entities; they score 0
        lists = [list(tags) for tags in gold], [list(tags) for tags in found]
        micro = precision_recall_fscore_support(*lists, average="micro", scheme=IOB2)[2]
        each = precision_recall_fscore_support(*lists, average=None, scheme=IOB2)[2]
    return float(micro), dict(zip(types, map(float, each), strict=True))


def f1_by_language(sentences: Sequence[Sentence], found: Sequence[Sequence[str]]) -> dict[str, float]:
    """Strict F1 of each language, in order of first appearance."""
    groups = _by_language(sentences, found)
    return {language: strict_f1(gold, tags)[0] for language, (gold, tags) in groups.items()}


def score(sentences: Sequence[Sentence], found: Sequence[Sequence[str]]) -> Scores:
    """Score found tags against the sentences' own.

    Types that a sentence's source does not annotate are taken out of what was found there.
    """
    masked = [_without(tags, sentence.unannotated) for sentence, tags in zip(sentences, found, strict=True)]
    pooled, types = strict_f1([sentence.tags or () for sentence in sentences], masked)
    errors: dict[str, Counter[str]] = {}
    confusion: dict[str, Counter[str]] = {}
    for sentence, tags in zip(sentences, masked, strict=True):
        _compare(spans_of(sentence.tags or ()), spans_of(tags), errors.setdefault(sentence.language, Counter()), confusion)
    return Scores(
        f1_by_language(sentences, masked),
        types,
        pooled,
        {language: dict(counts) for language, counts in errors.items()},
        {name: dict(counts) for name, counts in sorted(confusion.items())},
    )


def _without(tags: Sequence[str], types: frozenset[str]) -> tuple[str, ...]:
    return tuple(OUTSIDE if tag_type(tag) in types else tag for tag in tags) if types else tuple(tags)


def _by_language(
    sentences: Sequence[Sentence], found: Sequence[Sequence[str]]
) -> dict[str, tuple[list[Sequence[str]], list[Sequence[str]]]]:
    groups: dict[str, tuple[list[Sequence[str]], list[Sequence[str]]]] = {}
    for sentence, tags in zip(sentences, found, strict=True):
        gold, other = groups.setdefault(sentence.language, ([], []))
        gold.append(sentence.tags or ())
        other.append(_without(tags, sentence.unannotated))
    return groups


def _compare(gold: list[WordSpan], found: list[WordSpan], errors: Counter[str], confusion: dict[str, Counter[str]]) -> None:
    """Count each gold entity once by what became of it, and each found one that no gold entity was compared with as spurious."""
    free = list(found)
    for span in gold:
        same = next((other for other in free if (other.start, other.stop) == (span.start, span.stop)), None)
        over = same or next((other for other in free if other.start < span.stop and span.start < other.stop), None)
        row = confusion.setdefault(span.label, Counter())
        if over is None:
            errors["missed"] += 1
            row[OUTSIDE] += 1
            continue
        free.remove(over)
        row[over.label] += 1
        errors["wrong_boundary" if same is None else "correct" if over.label == span.label else "wrong_type"] += 1
    for other in free:
        errors["spurious"] += 1
        confusion.setdefault(OUTSIDE, Counter())[other.label] += 1

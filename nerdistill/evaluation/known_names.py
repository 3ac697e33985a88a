"""How many of the names to be found stand in the training text already: where few do, a student knows less of them than its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import spearmanr

from nerdistill.labels import spans_of
from nerdistill.records import Sentence

FEWEST = 8
"""Languages below which a rank correlation says nothing."""


def known_names(train: Sequence[Sentence], test: Sequence[Sentence]) -> dict[str, float]:
    """Share of the words inside test entities that stand inside an entity of the same language's training sentences, whatever its type.

    Words are compared as they are written. Languages without training sentences, or without a test entity, are left out.
    """
    seen: dict[str, set[str]] = {}
    for sentence in train:
        seen.setdefault(sentence.language, set()).update(_words_inside(sentence))
    found: dict[str, list[bool]] = {}
    for sentence in test:
        if sentence.language in seen:
            found.setdefault(sentence.language, []).extend(word in seen[sentence.language] for word in _words_inside(sentence))
    return {language: sum(known) / len(known) for language, known in found.items() if known}


def known_names_and_kept(known: Mapping[str, float], teacher: Mapping[str, float], student: Mapping[str, float]) -> dict[str, Any]:
    """What `known_names` found beside what the student keeps of its teacher's F1, for the results file.

    Returns:
        ``by_language`` (language to share of known words), and ``rank_correlation`` (Spearman's, of that share with the share of F1
        kept) where `FEWEST` languages or more have both and they differ.
    """
    facts: dict[str, Any] = {"by_language": {language: round(share, 4) for language, share in known.items()}}
    pairs = [(share, student[language] / teacher[language]) for language, share in known.items() if teacher.get(language)]
    shares, kept = [share for share, _ in pairs], [part for _, part in pairs]
    if len(pairs) >= FEWEST and len(set(shares)) > 1 and len(set(kept)) > 1:
        facts["rank_correlation"] = round(float(spearmanr(shares, kept).statistic), 3)
    return facts


def _words_inside(sentence: Sentence) -> list[str]:
    return [word for span in spans_of(sentence.tags or ()) for word in sentence.words[span.start : span.stop]]

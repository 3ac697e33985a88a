"""Texts of many scripts, sentences made of them, and what of a result must never change."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeAlias

from nerdistill.records import Entity, WordSpan
from nerdistill.text.splitter import split_words

TEXTS = [
    "Anna Schmidt besucht Berlin. La France a gagné contre l'Italie à Paris.",
    "",
    "محمد علي زار القاهرة أمس .",
    "东京是日本的首都。",
    "\n",
    "राम दिल्ली में रहता है ।",
    "Siemens AG opens in London",
    "  \t ",
    "กรุงเทพ e\u0301te\u0301 👩🏽‍🚀 in Oslo 🇩🇪🇫🇷",
]

Places: TypeAlias = list[list[tuple[int, int, str]]]


def sentences_of(n: int, longest: int, seed: int = 1) -> list[list[str]]:
    """Random sentences of known and unknown words; some are empty."""
    choose = random.Random(seed)
    words = [*split_words(" ".join(TEXTS)), *(f"w{number}" for number in range(200))]
    return [choose.choices(words, k=choose.randint(0, longest)) for _ in range(n)]


def places_of(found: Sequence[Sequence[Entity | WordSpan]]) -> Places:
    """Offsets and labels; the last digits of a score may depend on what shared a call of the network."""
    return [[(one.start, one.stop, one.label) for one in each] for each in found]

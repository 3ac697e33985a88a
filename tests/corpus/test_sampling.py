"""Sampling by language: shares, and no item forgotten before another comes twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerdistill.corpus.sampling import sample_by_language

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=6)


def languages(sizes: list[int]) -> list[str]:
    return [f"l{number}" for number, size in enumerate(sizes) for _ in range(size)]


def draw(sizes: list[int], alpha: float, seed: int = 0) -> Counter[int]:
    return Counter(sample_by_language(languages(sizes), alpha, np.random.default_rng(seed)).tolist())


@given(sizes=SIZES, alpha=st.floats(0, 1), seed=st.integers(0, 99))
def test_as_many_as_there_are(sizes: list[int], alpha: float, seed: int) -> None:
    """An epoch that shrinks by rounding gives fewer steps than the schedule was made for."""
    assert draw(sizes, alpha, seed).total() == sum(sizes)


@given(sizes=SIZES, alpha=st.floats(0, 1), seed=st.integers(0, 99))
def test_items_of_a_language_come_equally_often(sizes: list[int], alpha: float, seed: int) -> None:
    """Drawing with replacement would leave out a third of the sentences in every epoch."""
    chosen, codes = draw(sizes, alpha, seed), languages(sizes)
    for language in set(codes):
        counts = [chosen[item] for item, code in enumerate(codes) if code == language]
        assert max(counts) - min(counts) <= 1


@given(sizes=SIZES, alpha=st.floats(0, 1))
def test_shares_follow_the_power(sizes: list[int], alpha: float) -> None:
    """Another exponent, or the sizes themselves."""
    chosen, codes = draw(sizes, alpha), languages(sizes)
    share = np.array(sizes, dtype=np.float64) ** alpha
    counts = Counter(codes[item] for item in chosen.elements())
    for number, exact in enumerate(share / share.sum() * sum(sizes)):
        assert abs(counts[f"l{number}"] - exact) < 1 + 1e-6


def test_by_hand() -> None:
    """Sizes 16 and 4 at alpha 1/2: shares 4 to 2, so of 20 items 13 and 7: the small language nearly twice, the large one in part."""
    chosen = draw([16, 4], 0.5)
    assert sum(chosen[item] for item in range(16)) == 13
    assert sorted(chosen[item] for item in range(16, 20)) == [1, 2, 2, 2]


def test_alpha_one_is_the_text_itself() -> None:
    """No share is lost to rounding: 0.1 of 10 items is one item, not none."""
    for sizes in ([7, 2, 1], [3, 3, 3, 1], [49, 49, 2]):
        assert draw(sizes, 1.0) == dict.fromkeys(range(sum(sizes)), 1)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_epochs_draw_other_leftovers(alpha: float) -> None:
    """The items beyond a whole number of rounds must not be the same in every epoch."""
    assert len({tuple(sorted(draw([50, 3], alpha, seed).elements())) for seed in range(6)}) > 1
    assert draw([50, 3], alpha, 4) == draw([50, 3], alpha, 4)

"""Tests of `nerdistill.text.windows`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nerdistill.text.windows import Window, windows

COSTS = st.lists(st.integers(1, 16), max_size=60)


def cut(costs: list[int], budget: int, overlap: int) -> list[Window]:
    """All windows of an input."""
    return list(windows(np.array(costs, dtype=np.int64), budget, overlap))


@given(COSTS, st.integers(1, 40), st.integers(0, 30))
def test_each_word_is_kept_once(costs: list[int], budget: int, overlap: int) -> None:
    """Prevents words without a tag, or with two, in long text; and windows without end."""
    kept = [at for window in cut(costs, budget, overlap) for at in range(window.keep_start, window.keep_stop)]
    assert kept == list(range(len(costs)))


@given(COSTS, st.integers(1, 40), st.integers(0, 30))
def test_budget_and_overlap_hold(costs: list[int], budget: int, overlap: int) -> None:
    """Prevents a window that the network cannot take, one that keeps what it does not read, and more rereading than was asked for."""
    found = cut(costs, budget, overlap)
    for window in found:
        assert sum(costs[window.start : window.stop]) <= budget or window.stop == window.start + 1
        assert window.start <= window.keep_start <= window.keep_stop <= window.stop
    for one, two in pairwise(found):
        assert one.start < two.start <= one.stop
        assert one.stop - two.start <= min(overlap, (one.stop - one.start) // 2)


@given(st.integers(20, 200), st.integers(8, 16), st.integers(0, 4))
def test_kept_words_are_away_from_the_edge(n_words: int, budget: int, overlap: int) -> None:
    """Prevents a word from being read at a window's edge while its neighbour sees what stands around it."""
    for window in cut([1] * n_words, budget, overlap):
        assert window.start == 0 or window.keep_start - window.start == overlap - overlap // 2
        assert window.stop == n_words or window.stop - window.keep_stop == overlap // 2


def test_the_example_of_the_docstring() -> None:
    """Prevents a change of the rule that documentation and bundles describe."""
    assert cut([1] * 10, 8, 4) == [Window(0, 8, 0, 6), Window(4, 10, 6, 10)]


def test_short_input_is_one_window() -> None:
    """Prevents a sentence that just fits from being cut, and an empty one from failing."""
    assert cut([4, 4], 8, 4) == [Window(0, 2, 0, 2)]
    assert cut([], 8, 4) == [Window(0, 0, 0, 0)]


def test_a_huge_word_stands_alone() -> None:
    """Prevents a word above the budget from being dropped or from looping for ever."""
    found = cut([1, 1, 1, 99, 1, 1], 4, 2)
    assert [(window.start, window.stop) for window in found if 3 in range(window.start, window.stop)] == [(3, 4)]

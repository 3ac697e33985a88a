"""Cutting long input into overlapping windows, and which window's prediction counts for which word."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Window(NamedTuple):
    """Words ``start:stop`` of one input, of which ``keep_start:keep_stop`` are taken from this window.

    The kept parts of an input's windows cover each of its words once.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def windows(costs: npt.NDArray[np.integer], budget: int, overlap: int) -> Iterator[Window]:
    """Cut one input into windows that each fit a budget.

    Two neighbours share up to `overlap` words, and each takes its half of them, so that a word is read from the window in which it is
    further from an edge::

        words    0 1 2 3 4 5 6 7 8 9
        window   [-------------]
        window             [-------------]      overlap 4
        kept      ^ ^ ^ ^ ^ | ^ ^ ^ ^ ^

    Args:
        costs: ``[W]``, what each word costs (1 for students over words, its pieces for models over pieces).
        budget: The largest cost of a window. A single word above it still gets a window of its own.
        overlap: Words shared by neighbours; less where half a window would be more than half shared.
    """
    n_words = len(costs)
    total = np.concatenate([[0], np.cumsum(costs)])
    start = keep_start = 0
    while True:
        stop = int(np.searchsorted(total, total[start] + budget, side="right")) - 1
        stop = min(max(stop, start + 1), n_words)
        if stop == n_words:
            yield Window(start, stop, keep_start, stop)
            return
        shared = min(overlap, (stop - start) // 2)
        keep_stop = stop - shared // 2
        yield Window(start, stop, keep_start, keep_stop)
        start, keep_start = stop - shared, keep_stop


def cut(costs: npt.NDArray[np.integer], offsets: npt.NDArray[np.int64], budget: int, overlap: int) -> Iterator[tuple[int, Window, int]]:
    """The windows of many inputs laid end to end; an input within the budget is one window, an empty one none.

    Args:
        costs: ``[N]``, what each word of all inputs costs.
        offsets: ``[S + 1]``, where each input begins.
        budget: As in `windows`.
        overlap: As in `windows`.

    Yields:
        Number of the input, window in words of the whole array, cost of the window.
    """
    total = np.concatenate([[0], np.cumsum(costs)]).tolist()
    bounds = offsets.tolist()
    for number, (start, stop) in enumerate(pairwise(bounds)):
        if total[stop] - total[start] > budget:
            for part in windows(costs[start:stop], budget, overlap):
                window = Window(*(start + at for at in part))
                yield number, window, total[window.stop] - total[window.start]
        elif stop > start:
            yield number, Window(start, stop, start, stop), total[stop] - total[start]

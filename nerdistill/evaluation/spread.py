"""Repeated measurements in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles of repeated timings, as ``{"median", "quartiles": [lower, upper]}``, to whole numbers."""
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return {"median": round(middle), "quartiles": [round(low), round(high)]}


def latency(repeats: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Latencies of single documents in milliseconds.

    Args:
        repeats: Seconds of each document, one sequence a repeat.

    Returns:
        ``p50`` and ``p95`` over the documents of all repeats, ``p50_quartiles`` over the repeats' own medians, and ``documents``, how many
        there were.
    """
    every = [1000 * seconds for repeat in repeats for seconds in repeat]
    medians = [1000 * float(np.median(repeat)) for repeat in repeats]
    low, high = np.percentile(medians, (25, 75)).tolist()
    p50, p95 = np.percentile(every, (50, 95)).tolist()
    return {"p50": round(p50, 4), "p95": round(p95, 4), "p50_quartiles": [round(low, 4), round(high, 4)], "documents": len(every)}

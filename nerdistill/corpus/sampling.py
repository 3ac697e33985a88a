"""How much of each language an epoch sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def sample_by_language(languages: Sequence[str], alpha: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Choose as many items as there are, with languages in the proportion size^alpha.

    Within a language every item is chosen equally often, up to one; what is left over is drawn at random.

    Args:
        languages: Language of each item.
        alpha: 1 keeps the sizes, 0 makes languages equal.
        rng: Draws.

    Returns:
        Item numbers, sorted, with repeats.
    """
    codes = np.array(languages)
    names, sizes = np.unique(codes, return_counts=True)
    share = sizes.astype(np.float64) ** alpha
    exact = share / share.sum() * len(codes)
    wanted = np.floor(exact).astype(np.int64)
    wanted[np.argsort(wanted - exact, kind="stable")[: len(codes) - wanted.sum()]] += 1  # the largest remainders
    chosen: list[npt.NDArray[np.int64]] = []
    for name, size, count in zip(names, sizes, wanted, strict=True):
        items = np.flatnonzero(codes == name)
        times, rest = divmod(int(count), int(size))
        chosen += [np.repeat(items, times), rng.choice(items, rest, replace=False)]
    return np.sort(np.concatenate(chosen))

"""Learning rates as pure functions of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from nerdistill.training.stage import Optimisation


def learning_rate(plan: Optimisation, step: int, n_steps: int) -> float:
    """The rate of optimiser step `step`, counted from 0, of `n_steps`."""
    warm = plan.warmup * n_steps
    if step < warm:
        return plan.learning_rate * (step + 1) / (warm + 1)
    left = 1.0 - (step - warm) / max(1.0, n_steps - warm)
    if plan.schedule == "constant":
        return plan.learning_rate
    if plan.schedule == "linear":
        return plan.learning_rate * left
    return plan.learning_rate * 0.5 * (1.0 - math.cos(math.pi * left))

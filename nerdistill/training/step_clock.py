"""Where the time of a stage's steps goes: the loop as it is, with a clock at the borders of its parts."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.losses.base import Batch
from nerdistill.training.loop import StageRun, run_stage

PARTS = ("data", "teacher", "forward", "loss", "backward", "optimiser")
"""Of a step, in their order. ``data`` is everything from the end of one step to the next batch but for a teacher that reads along;
``optimiser`` begins with the norm of the gradient. A sum over terms is in ``backward``."""


def time_steps(run: StageRun) -> tuple[dict[str, float], int]:
    """Run a stage and say how long each of `PARTS` took.

    The parts add up to the whole: one ends where the next begins. The first step is left out; it holds what is done but once.

    Args:
        run: The stage, of two steps or more. It has no score, so that nothing but steps is done. What it holds is not changed, but for the
            weights that learn.

    Returns:
        Seconds by part, 0 for a teacher that does not read along; and how many words were read in that time.
    """
    laps = _Laps(run.accelerator.device)
    corpus = copy.copy(run.corpus)
    if corpus.reader is not None:
        _hear_reader(corpus, laps)
    with _hooks(run, laps):
        run_stage(replace(run, corpus=corpus))
    return laps.seconds, laps.words


class _Laps:
    """Adds the time since the last border to the part that ends here."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps, self._began = 0, time.perf_counter()
        self._forget()

    def _forget(self) -> None:
        self.seconds, self.words = dict.fromkeys(PARTS, 0.0), 0

    def end(self, part: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[part] += now - self._began
        self._began = now

    def end_data(self, batch: Batch) -> None:
        self.words += int(batch["lengths"].sum())
        self.end("data")

    def end_step(self) -> None:
        self.end("optimiser")
        self.steps += 1
        if self.steps == 1:
            self._forget()


def _hear_reader(corpus: EncodedCorpus, laps: _Laps) -> None:
    read = corpus.reader
    assert read is not None

    def clocked(ranges: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        laps.end("data")
        said = read(ranges)
        laps.end("teacher")
        return said

    corpus.reader = clocked


@contextmanager
def _hooks(run: StageRun, laps: _Laps) -> Iterator[None]:
    """The borders that torch tells of: before and after the network, after each term, after each gradient, after the optimiser."""
    terms = [term for term, _ in run.terms]
    weights: list[Any] = [*run.trainable.values(), *(weight for term in terms for weight in term.parameters())]
    handles = (
        run.model.register_forward_pre_hook(lambda _, inputs: laps.end_data(inputs[0])),
        run.model.register_forward_hook(lambda *_: laps.end("forward")),
        *(term.register_forward_hook(lambda *_: laps.end("loss")) for term in terms),
        *(weight.register_post_accumulate_grad_hook(lambda _: laps.end("backward")) for weight in weights),
        register_optimizer_step_post_hook(lambda *_: laps.end_step()),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

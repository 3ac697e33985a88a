"""What one of several processes does, played without the others."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES, Widths
from nerdistill.steps.context import locked
from nerdistill.students.base import Shape, build_student
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.training import loop, processes
from nerdistill.training.processes import check_alike, in_parallel, is_main, of_main, only_one, start, total
from nerdistill.training.runlog import RunLog
from nerdistill.training.stage import Optimisation, Stage, Term
from tests.training.two_processes import SCHEME, mixed_text

NAMES = ("hard_tags", "soft_tags")


class Played:
    """One of several processes, and what it would send to the others.

    Args:
        rank: Which it is.
        number: How many there are.
        summed: What comes of the sums that it takes part in, in their order; none to take its own share for the sum.
    """

    def __init__(self, rank: int, number: int, summed: list[Tensor]) -> None:
        self.accelerator = SimpleNamespace(
            device=torch.device("cpu"), process_index=rank, num_processes=number, is_main_process=rank == 0,
            backward=lambda loss: loss.backward(),
        )  # fmt: skip
        self.summed = list(summed)
        self.sent: list[Tensor] = []
        self.gradient: dict[str, Tensor] = {}

    def total(self, _: Any, mine: Tensor) -> Tensor:
        self.sent.append(mine.clone())
        return self.summed.pop(0) if self.summed else mine

    def step(self, corpus: EncodedCorpus, vocabulary: Vocabulary, batch: int, accumulate: int) -> Tensor:
        """Take one step; give its loss and keep the sum of its gradients."""
        options = {"embedding_width": 6, "hidden_width": 5, "projection_width": 8, "dropout": 0.0}
        student = build_student("bilstm", options, Shape(vocabulary.tokenizer.get_vocab_size(), len(SCHEME.tags)), None, seed=3)
        plan = Stage(
            name="a-stage", text="both", terms=tuple(Term(loss=name) for name in NAMES),
            optimisation=Optimisation(batch=batch, accumulate=accumulate, learning_rate=1e-12),
        )  # fmt: skip
        terms = [(LOSSES.get(name).build(LOSSES.get(name).options(), Widths((), 0)), 1.0) for name in NAMES]
        run: Any = loop.StageRun(
            stage=plan, model=student, trainable=dict(student.named_parameters()), terms=terms, corpus=corpus, score=None,
            folder=Path("nowhere"), identity="x", seed=1, log=RunLog(None, quiet=True), accelerator=self.accelerator,
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "check_alike", lambda *_: None)
            patch.setattr(loop, "in_parallel", lambda _, module: module)
            patch.setattr(loop, "total", self.total)
            patch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(1.0))
            loss, _ = loop._Loop(run)._step()
        self.gradient = {name: weight.grad.clone() for name, weight in student.named_parameters() if weight.grad is not None}
        return loss


@pytest.mark.parametrize("number", [2, 7])
@pytest.mark.parametrize(("batch", "accumulate"), [(40, 1), (14, 3), (1, 2)])
def test_losses_are_divided_by_what_all_processes_count(number: int, batch: int, accumulate: int, vocabulary: Vocabulary) -> None:
    """Divided by a process's own count, words of a share with few of their kind weigh more; one without text would stop the others."""
    corpus = mixed_text(vocabulary)
    alone = Played(0, 1, [])
    whole = alone.step(corpus, vocabulary, batch, accumulate)
    counts = alone.sent[0]
    every = [Played(rank, number, []) for rank in range(number)]
    for one in every:
        one.step(corpus, vocabulary, batch, accumulate)
    shares = torch.stack([one.sent[0] for one in every])
    assert torch.equal(shares.sum(dim=0), counts)
    assert not torch.equal(shares[0] * number, counts), "choose another text: all shares are alike"
    every = [Played(rank, number, [counts]) for rank in range(number)]
    losses = [one.step(corpus, vocabulary, batch, accumulate) for one in every]
    torch.testing.assert_close(torch.stack(losses).sum(), whole)
    assert {frozenset(one.gradient) for one in every} == {frozenset(alone.gradient)}, "a process that does not take part"
    for name, gradient in alone.gradient.items():
        torch.testing.assert_close(torch.stack([one.gradient[name] for one in every]).mean(dim=0), gradient, rtol=1e-4, atol=1e-6)


def test_one_process_passes_untouched() -> None:
    """A run without a launcher is to be what it was: nothing wrapped, nothing sent, nothing rounded."""
    alone = Accelerator(cpu=True)
    module, tensor = nn.Linear(2, 2), torch.tensor([3, 4])
    assert in_parallel(alone, module) is module
    assert total(alone, tensor) is tensor
    assert of_main(alone, 0.1) == 0.1
    check_alike(alone, "0123abcd", "stage")
    only_one("a study")
    assert is_main()


def test_only_the_main_process_takes_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that asks for the lock of its own run would be told that the folder is in use, or wait for what waits for it."""
    with locked(tmp_path):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        assert not is_main()
        with locked(tmp_path):
            assert f"process {os.getpid()}" in (tmp_path / "run.lock").read_text()


def test_processes_that_do_not_find_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them would take itself for the only one, and all would write to one folder."""
    Accelerator(cpu=True)  # in one process, whatever is said from here on
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were started and this one found 1"):
        start(cpu=True)
    with pytest.raises(ConfigError, match="a study runs in one process, and 2 were started"):
        only_one("a study")


@pytest.mark.parametrize("of_the_main_one", ["this", "another"])
def test_a_process_that_is_about_to_do_something_else_is_found(of_the_main_one: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other text on another machine, or a checkpoint that only one of them sees: weights would be averaged that have nothing in common."""
    helper: Any = SimpleNamespace(num_processes=2, device=torch.device("cpu"), reduce=lambda tensor, reduction: tensor)
    sent: list[Tensor] = []
    monkeypatch.setattr(processes, "broadcast", lambda tensor: sent.insert(0, tensor) or tensor)  # type: ignore[func-returns-value]
    check_alike(helper, of_the_main_one, "stage a")
    monkeypatch.setattr(processes, "broadcast", lambda _: sent[0])
    with (
        nullcontext() if of_the_main_one == "this" else pytest.raises(ConfigError, match=r"stage a: the processes .* do not have the same")
    ):
        check_alike(helper, "this", "stage a")

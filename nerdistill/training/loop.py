"""The one loop: it runs a stage, of a teacher's fine-tuning or of a student's recipe.

Everything random in a step follows from (seed, stage, epoch) or (seed, stage, step), so a run that was killed and continued from a
checkpoint takes the same steps as one that was not.

In several processes (see `nerdistill.training.processes`) a step's text is the same as in one: every batch of it is dealt out, item by
item, and each loss is divided by what it counts in all shares together. Steps, rates, evaluations and checkpoints are those of one process.
Only what dropout and masks hide differs, since each process draws its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.corpus.sampling import sample_by_language
from nerdistill.errors import NerdistillError
from nerdistill.fingerprint import fingerprint
from nerdistill.losses.base import Batch, LossTerm
from nerdistill.students.base import ModelOutput
from nerdistill.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from nerdistill.training.processes import check_alike, in_parallel, of_main, total, without_sum
from nerdistill.training.runlog import RunLog, clock
from nerdistill.training.schedules import learning_rate
from nerdistill.training.stage import Stage

CHECKPOINT_SECONDS = 60.0
"""Time between checkpoints; what a kill can cost."""

FIRST_WORDS = 8192
"""Words, about, from which terms that own weights take their first ones."""

BAD_STEPS_ALLOWED = 20
"""Steps of a stage with a gradient that is not finite before it is given up."""


@dataclass
class StageRun:
    """Everything a stage needs to run.

    Attributes:
        stage: The declaration.
        model: The network; only `trainable` of it changes.
        trainable: Its learning weights by name, which begins with the parameter group's.
        terms: Loss terms with their weights.
        corpus: What to learn from.
        score: Selection score of the network as it is, higher is better; None where the last weights are taken. Asked in the main process.
        folder: For checkpoints.
        identity: Fingerprint of everything that leads to this stage's result.
        seed: Of the run.
        alpha: Languages are sampled by size^alpha.
        log: Where to tell.
        precision: ``bfloat16`` computes the forward pass under autocast; weights and losses stay float32.
        checkpoint_seconds: Time between checkpoints.
        accelerator: Device, and the other processes of the run.
    """

    stage: Stage
    model: nn.Module
    trainable: Mapping[str, nn.Parameter]
    terms: list[tuple[LossTerm, float]]
    corpus: EncodedCorpus
    score: Callable[[], float] | None
    folder: Path
    identity: str
    seed: int
    log: RunLog
    alpha: float = 1.0
    precision: str = "float32"
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    accelerator: Accelerator = field(default_factory=Accelerator)


def run_stage(run: StageRun) -> Progress:
    """Train until the stage's stop rule holds, leaving the selected weights in the model, in every process.

    Raises:
        NerdistillError: The gradient was not finite in too many steps.
        ConfigError: The processes of the run differ in what leads to this stage.
    """
    return _Loop(run).finish()


class _Loss(nn.Module):
    """A network and the terms it learns by, as one module: what is trained in several processes has to hold all weights that learn."""

    def __init__(self, model: nn.Module, terms: list[tuple[LossTerm, float]]) -> None:
        super().__init__()
        self.model = model
        self.terms = nn.ModuleList(term for term, _ in terms)
        self.weights = [weight for _, weight in terms]

    def forward(self, batch: Batch, counts: Tensor) -> Tensor:
        """The weighted sum of the terms' sums over a batch, each divided by its entry in `counts` ``[terms]``; a scalar."""
        output: ModelOutput = self.model(batch)
        parts = [weight * term(output, batch) / count for term, weight, count in zip(self.terms, self.weights, counts, strict=True)]
        return torch.stack(parts).sum()


class _Loop:
    def __init__(self, run: StageRun) -> None:
        self.run = run
        self.plan = run.stage.optimisation
        self.weights = {**run.trainable, **_term_weights(run.terms)}
        device = run.accelerator.device
        for module in (run.model, *(term for term, _ in run.terms)):
            module.to(device)
        groups = _weight_groups(self.weights, self.plan.weight_decay, run.stage.rates)
        self.optimizer = torch.optim.AdamW(groups, lr=self.plan.learning_rate, eps=1e-8, fused=True)
        self.best: dict[str, Tensor] = {}
        self.progress = Progress()
        self._resume()
        check_alike(run.accelerator, fingerprint(run.identity, self.progress.step), f"stage {run.stage.name}")
        self._epoch_cache: tuple[int, list[np.ndarray]] | None = None
        if self.progress.step == 0:
            self._begin()
        self.loss = in_parallel(run.accelerator, _Loss(run.model, run.terms))
        self._saved = time.monotonic()
        self.steps_in_epoch = -(-len(self._epoch(0)) // self.plan.accumulate)
        self.n_steps = max(1, round(self.steps_in_epoch * self.plan.epochs))

    def _resume(self) -> None:
        found = load_checkpoint(self.run.folder, self.run.identity, self.optimizer)
        if found is None:
            return
        self.progress, weights, self.best = found
        _put(self.weights, weights)
        self.run.log.say(f"  {self.run.stage.name}: continued at step {self.progress.step}")

    @torch.no_grad()
    def _begin(self) -> None:
        """Let terms that own weights begin with what fits the network as it is; every process reads the same and comes to the same."""
        terms = [term for term, _ in self.run.terms if next(term.parameters(), None) is not None]
        if not terms:
            return
        self.run.model.eval()
        seen: list[tuple[ModelOutput, Batch]] = []
        words = 0
        for batch in self._epoch(0):
            arrays = self._collate(batch)
            with self._autocast():
                seen.append((self.run.model(arrays), arrays))
            words += int(arrays["word_mask"].sum())
            if words >= FIRST_WORDS:
                break
        for term in terms:
            term.begin(seen)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.run.accelerator.device.type, dtype=torch.bfloat16, enabled=self.run.precision == "bfloat16")

    def _seed(self, kind: str, number: int) -> int:
        return int(fingerprint(self.run.seed, self.run.stage.name, kind, number)[:12], 16)

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        """Batches of an epoch, in order."""
        if self._epoch_cache is None or self._epoch_cache[0] != epoch:
            rng = np.random.default_rng(self._seed("epoch", epoch))
            corpus = self.run.corpus
            languages = [corpus.languages[sentence] for sentence in corpus.item_sentence]
            chosen = sample_by_language(languages, self.run.alpha, rng) if self.run.alpha < 1 else None
            self._epoch_cache = (epoch, corpus.batches(self.plan.batch, rng, chosen))
        return self._epoch_cache[1]

    def finish(self) -> Progress:
        stage, log = self.run.stage, self.run.log
        interval = max(1, self.steps_in_epoch // self.plan.evaluations)
        meter = _Meter(stage.name, self.n_steps, log)
        while self.progress.step < self.n_steps and not self.progress.stopped:
            began = time.monotonic()
            loss, words = self._step()
            self.progress.step += 1
            if self.run.score is not None and (self.progress.step % interval == 0 or self.progress.step == self.n_steps):
                self._evaluate(meter)
            self.progress.seconds += time.monotonic() - began
            meter.add(self.progress, loss, words, time.monotonic() - began)
            if self.run.accelerator.is_main_process and time.monotonic() - self._saved > self.run.checkpoint_seconds:
                self._save()
        if self.best:
            _put(self.weights, self.best)
        log.event(
            "stage_end", stage=stage.name, step=self.progress.step, seconds=round(self.progress.seconds, 2), best=_finite(self.progress)
        )
        meter.close(self.progress)
        return self.progress

    def _batches(self) -> list[np.ndarray]:
        """The batches of a step: an epoch's are spread over its steps, of which there are as many as in the first one."""
        epoch, within = divmod(self.progress.step, self.steps_in_epoch)
        batches = self._epoch(epoch)
        first, stop = (number * len(batches) // self.steps_in_epoch for number in (within, within + 1))
        return batches[first:stop]

    def _collate(self, batch: np.ndarray) -> dict[str, Tensor]:
        device = self.run.accelerator.device
        return {name: tensor.to(device) for name, tensor in self.run.corpus.collate(batch).items()}

    def _step(self) -> tuple[Tensor, int]:
        run, mine, processes = self.run, self.run.accelerator.process_index, self.run.accelerator.num_processes
        torch.manual_seed(self._seed(f"step of process {mine}" if mine else "step", self.progress.step))
        rate = learning_rate(self.plan, self.progress.step, self.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        run.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        whole = self._batches()
        # Items of a batch stand in the order of their length, so that each process gets as many long ones.
        shares = [share for batch in whole if len(share := batch[mine::processes])]
        # Gradients are summed when all processes have done their last pass: one without text reads some, and counts nothing of it.
        idle = bool(whole) and not shares
        batches = [self._collate(share) for share in ([whole[0][:1]] if idle else shares)]
        counts = self._counts([] if idle else batches)
        sum_of_mine = torch.zeros((), device=run.accelerator.device)
        for left, batch in zip(reversed(range(len(batches))), batches, strict=True):
            with without_sum(self.loss) if left else nullcontext():
                with self._autocast():
                    loss = self.loss(batch, counts) * (0 if idle else 1)
                run.accelerator.backward(loss * processes)  # gradients are averaged, and it is their sum that is wanted
            sum_of_mine += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self.plan.clip)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
        else:
            self._skip()
        ranges = run.corpus.items
        return total(run.accelerator, sum_of_mine), sum(int((ranges[batch, 1] - ranges[batch, 0]).sum()) for batch in whole)

    def _counts(self, batches: list[dict[str, Tensor]]) -> Tensor:
        """What each term counts in a step's batches, in all processes together, ``[terms]``; at least 1."""
        none = torch.zeros((), dtype=torch.int64, device=self.run.accelerator.device)
        mine = torch.stack([sum((term.count(batch) for batch in batches), none) for term, _ in self.run.terms])
        return total(self.run.accelerator, mine).clamp(min=1)

    def _skip(self) -> None:
        stage, progress = self.run.stage.name, self.progress
        progress.bad_steps += 1
        self.run.log.event("bad_step", stage=stage, step=progress.step)
        if progress.bad_steps > BAD_STEPS_ALLOWED:
            raise NerdistillError(
                f"stage {stage}: the gradient was not finite in {progress.bad_steps} steps, last at step {progress.step}; "
                "lower optimisation.learning_rate"
            )

    def _evaluate(self, meter: _Meter) -> None:
        if self.run.score is None:
            return
        self.run.model.eval()
        mine = 0.0
        if self.run.accelerator.is_main_process:
            with torch.inference_mode():
                mine = self.run.score()
        score = of_main(self.run.accelerator, mine)
        progress = self.progress
        meter.score = score
        self.run.log.event("eval", stage=self.run.stage.name, step=progress.step, **{self.run.stage.select: round(score, 6)})
        if score > progress.best_score:
            progress.best_score, progress.best_step, progress.stale = score, progress.step, 0
            self.best = {name: weight.detach().clone() for name, weight in self.weights.items()}
        else:
            progress.stale += 1
            progress.stopped = 0 < self.plan.patience <= progress.stale

    def _save(self) -> None:
        save_checkpoint(self.run.folder, self.run.identity, self.progress, self.weights, self.best, self.optimizer)
        self._saved = time.monotonic()


class _Meter:
    """Turns steps into log events and a live line."""

    def __init__(self, stage: str, n_steps: int, log: RunLog) -> None:
        self.stage, self.n_steps, self.log = stage, n_steps, log
        self.score: float | None = None
        self.words, self.seconds, self.losses = 0, 0.0, torch.zeros(())
        self.steps = 0

    def add(self, progress: Progress, loss: Tensor, words: int, seconds: float) -> None:
        """Count one step; tell every tenth of the stage, at most every 20 steps."""
        self.words += words
        self.seconds += seconds
        self.losses = self.losses + loss.cpu()
        self.steps += 1
        if self.steps >= max(1, min(20, self.n_steps // 10)):
            self._tell(progress)

    def _tell(self, progress: Progress) -> None:
        loss, rate = float(self.losses) / self.steps, self.words / max(self.seconds, 1e-9)
        left = (self.n_steps - progress.step) * self.seconds / self.steps
        self.log.event("step", stage=self.stage, step=progress.step, steps=self.n_steps, loss=round(loss, 6), words_per_second=round(rate))
        score = "" if self.score is None else f"  score {self.score:.4f}"
        line = f"  {self.stage:<28} {progress.step:>5}/{self.n_steps}  loss {loss:8.4f}{score}  {rate:>9,.0f} words/s  {clock(left)} left"
        self.log.show(line)
        self.words, self.seconds, self.losses, self.steps = 0, 0.0, torch.zeros(()), 0

    def close(self, progress: Progress) -> None:
        """The stage's last word."""
        if self.steps:
            self._tell(progress)
        best = "" if progress.best_step == 0 else f"best score {progress.best_score:.4f} at step {progress.best_step}, "
        self.log.say(f"  {self.stage:<28} done: {best}{progress.step} steps in {clock(progress.seconds)}")


def _term_weights(terms: list[tuple[LossTerm, float]]) -> dict[str, nn.Parameter]:
    return {f"term{number}.{name}": weight for number, (term, _) in enumerate(terms) for name, weight in term.named_parameters()}


def _weight_groups(weights: Mapping[str, nn.Parameter], decay: float, rates: Mapping[str, float]) -> list[dict[str, object]]:
    """Weights by what they share: the decay, which those of one axis have not, and the share of the rate of the group they are named by."""
    parts: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, weight in weights.items():
        parts.setdefault((weight.ndim <= 1, rates.get(name.partition(".")[0], 1.0)), []).append(weight)
    return [
        {"params": part, "weight_decay": 0.0 if flat else decay, "share": share}
        for (flat, share), part in sorted(parts.items(), key=lambda item: item[0])
    ]


def _put(weights: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(values[name])


def _finite(progress: Progress) -> float | None:
    return round(progress.best_score, 6) if progress.best_step else None

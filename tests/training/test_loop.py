"""The one loop: it continues exactly, stops exactly, survives bad steps, and reads its text as it says."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from nerdistill.corpus import encoded
from nerdistill.corpus.encoded import EncodedCorpus, Encoder, Targets
from nerdistill.errors import NerdistillError
from nerdistill.files import DONE
from nerdistill.labels import LabelScheme
from nerdistill.losses.base import LOSSES, Batch, LossTerm, Widths
from nerdistill.records import Sentence
from nerdistill.students.base import ModelOutput, Shape, Student, build_student
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.text.encoder import WordTable
from nerdistill.training import checkpoint, loop
from nerdistill.training.checkpoint import Progress
from nerdistill.training.loop import BAD_STEPS_ALLOWED, StageRun, run_stage
from nerdistill.training.runlog import RunLog
from nerdistill.training.schedules import learning_rate
from nerdistill.training.stage import Optimisation, Stage, Term

SCHEME = LabelScheme(("PER", "LOC"))
STATES = 4
WORDS = ["Anna", "Berlin", "besucht", ".", "محمد", "东", "京", "राम", "i"]


class KilledError(BaseException):
    """What `kill -9` does, as far as one process can play it."""


class Values:
    """Selection scores given in advance; remembers the weights at each."""

    def __init__(self, model: nn.Module, values: Sequence[float]) -> None:
        self.model = model
        self.values = list(values)
        self.seen: list[dict[str, Tensor]] = []

    def __call__(self) -> float:
        assert not self.model.training, "scored with dropout on"
        self.seen.append(state(self.model))
        return self.values[len(self.seen) - 1]


class Spoilt(LossTerm):
    """Cross-entropy whose sum is not a number in chosen calls."""

    needs: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __init__(self, bad: Callable[[int], bool]) -> None:
        super().__init__()
        self.bad, self.calls = bad, 0
        self.inner = LOSSES.get("hard_tags").build(None, Widths((), 0))

    def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
        self.calls += 1
        total: Tensor = self.inner(output, batch)
        return total * float("nan") if self.bad(self.calls - 1) else total


@pytest.fixture
def corpus(vocabulary: Vocabulary) -> EncodedCorpus:
    """Twelve sentences of two languages with tags and signals."""
    draw = np.random.default_rng(0)
    sentences = [
        Sentence(
            tuple(draw.choice(WORDS, length).tolist()), SCHEME.decode(draw.choice([0, 1, 3], length).tolist()), "de" if number < 9 else "ar"
        )
        for number, length in enumerate([3, 5, 2, 6, 4, 4, 1, 7, 5, 3, 6, 2])
    ]
    n_words = sum(len(sentence.words) for sentence in sentences)
    targets = Targets(
        draw.normal(size=(n_words, len(SCHEME.tags))).astype(np.float16), draw.normal(size=(n_words, 1, STATES)).astype(np.float16)
    )
    return EncodedCorpus(sentences, Encoder(WordTable(vocabulary.tokenizer, unk_id=1, pad_id=0)), SCHEME, targets)


def make_student(vocabulary: Vocabulary, dropout: float = 0.3) -> Student:
    options = {"embedding_width": 6, "hidden_width": 5, "projection_width": 8, "dropout": dropout}
    return build_student("bilstm", options, Shape(vocabulary.tokenizer.get_vocab_size(), len(SCHEME.tags)), None, seed=3)


def stage(*losses: str, **steps: Any) -> Stage:
    return Stage(name="a-stage", text="transfer", terms=tuple(Term(loss=name) for name in losses), optimisation=Optimisation(**steps))


def make_run(model: nn.Module, corpus: EncodedCorpus, plan: Stage, folder: Path, **more: Any) -> StageRun:
    widths = Widths((12, 10, 8), STATES, (1,))
    terms = [(LOSSES.get(term.loss).build(LOSSES.get(term.loss).options(), widths), term.weight) for term in plan.terms]
    settings: dict[str, Any] = {
        "stage": plan,
        "model": model,
        "trainable": dict(model.named_parameters()),
        "terms": terms,
        "corpus": corpus,
        "score": None,
        "folder": folder,
        "identity": "this one",
        "seed": 1,
        "log": RunLog(None, quiet=True),
        "accelerator": Accelerator(cpu=True),
    }
    return StageRun(**{**settings, **more})


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_time(progress: Progress) -> dict[str, Any]:
    return {key: value for key, value in asdict(progress).items() if key != "seconds"}


def kill_after(monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    """End the process right after its checkpoint number `saves`."""
    save, done = checkpoint.save_checkpoint, 0

    def saving(*arguments: Any) -> None:
        nonlocal done
        save(*arguments)
        done += 1
        if done == saves:
            raise KilledError

    monkeypatch.setattr(loop, "save_checkpoint", saving)


def negative_loss(model: nn.Module, corpus: EncodedCorpus) -> Callable[[], float]:
    """A score that depends on the weights alone."""

    def score() -> float:
        batch = corpus.collate(np.arange(4))
        total: Tensor = LOSSES.get("hard_tags").build(None, Widths((), 0))(model(batch), batch)
        return -total.item()

    return score


# -- continuing ----------------------------------------------------------------------------------------------------------------------------

PLANS = {
    "two terms, gathered batches": {"batch": 12, "accumulate": 2, "epochs": 3, "weight_decay": 0.1, "learning_rate": 1e-2},
    "stops early": {"batch": 16, "epochs": 6, "patience": 2, "evaluations": 2, "learning_rate": 0.3},
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_killed_at_any_step_and_continued_is_the_same_run(
    plan: str, alpha: float, corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """A generator, an optimizer's state, the best weights or the order of the text that is not taken up again."""
    declared = stage("hidden_mse", "soft_tags", **PLANS[plan])

    def go(folder: Path, seconds: float) -> tuple[Progress, dict[str, Tensor]]:
        student = make_student(vocabulary)
        run = make_run(student, corpus, declared, folder, score=negative_loss(student, corpus), alpha=alpha, checkpoint_seconds=seconds)
        return run_stage(run), {**state(student), **state(run.terms[0][0])}

    def saving(folder: Path, identity: str, progress: Progress, *tensors: Any) -> None:
        checkpoint.save_checkpoint(folder, identity, progress, *tensors)
        shutil.copytree(folder, tmp_path / str(progress.step))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", saving)
        whole, weights = go(tmp_path / "whole", -1.0)
    assert whole.step > 3
    if plan == "stops early":
        assert whole.stopped, "choose other numbers: this run is to stop early"
        assert whole.best_step < whole.step
    for step in range(1, whole.step + 1):
        torch.manual_seed(step)  # another process
        continued, again = go(tmp_path / str(step), 60.0)
        assert without_time(continued) == without_time(whole), f"killed at step {step}"
        assert same(weights, again), f"killed at step {step}"


def test_killed_twice_and_while_saving(
    corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in the middle of a save must leave the checkpoint before it."""
    declared = stage("soft_tags", batch=12, epochs=3)

    def go(folder: Path) -> dict[str, Tensor]:
        student = make_student(vocabulary)
        run_stage(make_run(student, corpus, declared, folder, checkpoint_seconds=-1.0))
        return state(student)

    whole = go(tmp_path / "whole")
    kill_after(monkeypatch, 2)
    with pytest.raises(KilledError):
        go(tmp_path / "cut")
    write = save_file

    def half(tensors: dict[str, Tensor], path: Path) -> None:
        if path.name == "optimizer.safetensors":
            raise KilledError
        write(tensors, path)

    monkeypatch.undo()
    torch.set_num_threads(1)
    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(KilledError):
        go(tmp_path / "cut")
    assert json.loads((tmp_path / "cut" / DONE).read_text())["step"] == 2
    monkeypatch.undo()
    assert same(go(tmp_path / "cut"), whole)


@pytest.fixture
def left(corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path) -> Path:
    """A checkpoint at step 2 of a killed run."""
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(KilledError):
            run_stage(make_run(make_student(vocabulary), corpus, stage("soft_tags", batch=12), tmp_path / "left", checkpoint_seconds=-1.0))
    return tmp_path / "left"


def damaged(how: str, folder: Path) -> None:
    if how == "no marker":
        (folder / DONE).unlink()
    elif how == "half deleted":
        (folder / "optimizer.safetensors").unlink()
    elif how == "cut":
        file = folder / "weights.safetensors"
        file.write_bytes(file.read_bytes()[:-50])
    elif how == "garbage marker":
        (folder / DONE).write_text("{")
    elif how == "no folder":
        shutil.rmtree(folder)


def steps_taken(folder: Path, corpus: EncodedCorpus, vocabulary: Vocabulary, identity: str) -> tuple[int, Progress]:
    """How many batches a run reads from there on, and where it ends."""
    read = 0

    def score() -> float:
        nonlocal read
        read += 1
        return 0.0

    plan = stage("soft_tags", batch=12, evaluations=1000)
    progress = run_stage(make_run(make_student(vocabulary), corpus, plan, folder, identity=identity, score=score))
    return read, progress


@pytest.mark.parametrize("how", ["another identity", "no marker", "half deleted", "cut", "garbage marker", "no folder"])
def test_unusable_checkpoints_are_ignored(how: str, left: Path, corpus: EncodedCorpus, vocabulary: Vocabulary) -> None:
    """A checkpoint of other data or options would be continued as if it were this stage's; a damaged one would end every later run."""
    damaged(how, left)
    read, progress = steps_taken(left, corpus, vocabulary, "another one" if how == "another identity" else "this one")
    assert read == progress.step > 2


def test_the_usable_checkpoint_is_used(left: Path, corpus: EncodedCorpus, vocabulary: Vocabulary) -> None:
    """The test above would pass if checkpoints were never read."""
    read, progress = steps_taken(left, corpus, vocabulary, "this one")
    assert read == progress.step - 2 > 0


# -- choosing and stopping -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "patience", "steps", "best"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1, 4, 4),
        ([0.1, 0.3, 0.2, 0.2, 0.9], 2, 4, 2),  # the last is never reached
        ([0.1, 0.3, 0.2, 0.4, 0.1, 0.1], 2, 6, 4),  # patience starts anew at each better score
        ([0.3, 0.3, 0.3], 2, 3, 1),  # an equal score is no better one
        ([0.0, 0.0], 1, 2, 1),  # a score of 0 is a score
        ([0.3, 0.1, 0.2, 0.1], 0, 4, 1),  # 0 never stops
        ([math.nan, 0.1, math.nan, math.nan, 0.2], 2, 4, 2),  # what is no number is no better
    ],
)
def test_stops_after_its_patience_with_the_best_weights(
    values: list[float], patience: int, steps: int, best: int, corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """One evaluation too many, or the last weights in place of the best."""
    student = make_student(vocabulary)
    score = Values(student, values)
    plan = stage("soft_tags", batch=1000, epochs=len(values), patience=patience, learning_rate=1e-2)
    progress = run_stage(make_run(student, corpus, plan, tmp_path, score=score))
    assert (progress.step, progress.best_step, progress.best_score) == (steps, best, values[best - 1])
    assert progress.stopped == (0 < patience == steps - best)
    assert len(score.seen) == steps
    assert same(state(student), score.seen[best - 1])
    assert len({float(seen["head.weight"].sum()) for seen in score.seen}) == steps, "weights did not move between evaluations"


@pytest.mark.parametrize(
    ("batch", "evaluations", "at"),
    [
        (16, 1, [4, 8]),
        (16, 2, [2, 4, 6, 8]),
        (16, 4, [1, 2, 3, 4, 5, 6, 7, 8]),
        (16, 9, [1, 2, 3, 4, 5, 6, 7, 8]),
        (7, 2, [4, 8, 12, 16, 18]),  # nine steps an epoch; the last step is always scored
    ],
)
def test_evaluates_as_often_as_it_says(
    batch: int, evaluations: int, at: list[int], corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """Patience counts evaluations, so their number decides when a stage ends; weights that were never scored are never chosen."""
    student = make_student(vocabulary)
    log = tmp_path / "log.jsonl"
    plan = stage("soft_tags", batch=batch, epochs=2, evaluations=evaluations)
    assert 2 * len(corpus.batches(batch, np.random.default_rng(0))) == at[-1]
    run_stage(make_run(student, corpus, plan, tmp_path / "c", score=Values(student, [0.5] * 8), log=RunLog(log, quiet=True, run="student")))
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "eval"] == at
    assert events[-1]["event"] == "stage_end"
    assert events[-1]["best"] == 0.5
    assert {event["run"] for event in events} == {"student"}


def test_without_a_score_the_last_weights_stay(corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A stage that selects nothing must still have learnt something."""
    student = make_student(vocabulary)
    before = state(student)
    progress = run_stage(make_run(student, corpus, stage("soft_tags", batch=16, epochs=2), tmp_path))
    assert (progress.step, progress.best_step, progress.stopped) == (8, 0, False)
    assert not same(before, state(student))


# -- bad steps -----------------------------------------------------------------------------------------------------------------------------


def test_a_step_that_is_not_finite_is_skipped(corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """One NaN in the gradient, and every weight and every later step is NaN."""
    student = make_student(vocabulary)
    seen = Values(student, [0.0] * 4)
    plan = stage("hard_tags", batch=1000, epochs=4, learning_rate=1e-2)
    log = tmp_path / "log.jsonl"
    term = Spoilt(lambda call: call == 1)
    progress = run_stage(make_run(student, corpus, plan, tmp_path / "c", terms=[(term, 1.0)], score=seen, log=RunLog(log, quiet=True)))
    first, second, third, fourth = seen.seen
    assert same(first, second), "the bad step changed weights"
    assert not same(second, third)
    assert not same(third, fourth)
    assert all(bool(torch.isfinite(value).all()) for value in fourth.values())
    assert progress.bad_steps == 1
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "bad_step"] == [1]


def test_a_run_of_bad_steps_is_given_up(corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A run that diverged would go on for hours without learning; one more or one less than promised is another promise."""
    plan = stage("hard_tags", batch=1000, epochs=BAD_STEPS_ALLOWED + 5)
    allowed = Spoilt(lambda call: call < BAD_STEPS_ALLOWED)
    run_stage(make_run(make_student(vocabulary), corpus, plan, tmp_path / "a", terms=[(allowed, 1.0)]))
    too_many = Spoilt(lambda call: call <= BAD_STEPS_ALLOWED)
    with pytest.raises(NerdistillError, match=rf"a-stage.*{BAD_STEPS_ALLOWED + 1} steps.*learning_rate"):
        run_stage(make_run(make_student(vocabulary), corpus, plan, tmp_path / "b", terms=[(too_many, 1.0)]))


def test_bad_steps_are_remembered_by_a_checkpoint(corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A diverged run that is killed and continued often enough would never be given up."""
    plan = stage("hard_tags", batch=1000, epochs=BAD_STEPS_ALLOWED + 5)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, BAD_STEPS_ALLOWED)
        with pytest.raises(KilledError):
            run_stage(
                make_run(make_student(vocabulary), corpus, plan, tmp_path, terms=[(Spoilt(lambda _: True), 1.0)], checkpoint_seconds=-1.0)
            )
    with pytest.raises(NerdistillError):
        run_stage(make_run(make_student(vocabulary), corpus, plan, tmp_path, terms=[(Spoilt(lambda call: call == 0), 1.0)]))


# -- reading -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_epoch_reads_every_sentence_once(
    accumulate: int, corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of batches changes with the shuffle; batches beyond the first epoch's number would never be read."""
    monkeypatch.setattr(encoded, "BUCKET_BATCHES", 1)
    plan = stage("soft_tags", batch=11, epochs=8, accumulate=accumulate)
    read: list[list[int]] = []
    collate = corpus.collate

    def counted(batch: np.ndarray[Any, Any]) -> dict[str, Tensor]:
        read.append(batch.tolist())
        return collate(batch)

    monkeypatch.setattr(corpus, "collate", counted)
    numbers = {len(corpus.batches(11, np.random.default_rng(seed))) for seed in range(20)}
    assert len(numbers) > 1, "choose other lengths: the number of batches is to change"
    progress = run_stage(make_run(make_student(vocabulary), corpus, plan, tmp_path))
    assert Counter(item for batch in read for item in batch) == dict.fromkeys(range(12), 8)
    seen = 0
    for epoch in range(8):  # and in each epoch, not only in all
        items: list[int] = []
        while len(items) < 12:
            items += read[seen]
            seen += 1
        assert sorted(items) == list(range(12)), f"epoch {epoch}"
    assert progress.step % 8 == 0


def test_epochs_differ_and_seeds_differ(
    corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same order in every epoch, or for every seed, is no shuffle."""
    collate = corpus.collate

    def order(seed: int) -> list[list[int]]:
        read: list[list[int]] = []

        def counted(batch: np.ndarray[Any, Any]) -> dict[str, Tensor]:
            read.append(batch.tolist())
            return collate(batch)

        monkeypatch.setattr(corpus, "collate", counted)
        run_stage(make_run(make_student(vocabulary), corpus, stage("soft_tags", batch=16, epochs=2), tmp_path, seed=seed))
        return read

    one = order(1)
    assert one[:4] != one[4:]
    assert one != order(2)
    assert one == order(1)


def test_a_term_begins_once_and_sees_the_network_without_dropout(
    corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are fitted to dropped-out states begin wrong; those that are fitted again after a kill forget what they learnt."""
    began: list[int] = []
    student = make_student(vocabulary, dropout=0.5)

    class Owner(Spoilt):
        def __init__(self) -> None:
            super().__init__(lambda _: False)
            self.own = nn.Parameter(torch.zeros(()))

        def begin(self, seen: Sequence[tuple[ModelOutput, Batch]]) -> None:
            assert not any(output.logits.requires_grad for output, _ in seen)
            student.eval()
            for output, batch in seen:
                torch.testing.assert_close(output.logits, student(batch).logits)
            began.append(sum(int(batch["word_mask"].sum()) for _, batch in seen))

        def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
            return super().forward(output, batch) + self.own

    monkeypatch.setattr(loop, "FIRST_WORDS", 20)
    plan = stage("hard_tags", batch=16, epochs=2)
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(KilledError):
            run_stage(make_run(student, corpus, plan, tmp_path, terms=[(Owner(), 1.0)], checkpoint_seconds=-1.0))
    run_stage(make_run(student, corpus, plan, tmp_path, terms=[(Owner(), 1.0)], checkpoint_seconds=-1.0))
    assert len(began) == 1
    assert 20 <= began[0] < 20 + 16


def test_a_term_without_counted_words_adds_nothing(corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Two terms have their own counts; one that counts nothing must not divide by zero."""

    class Nothing(Spoilt):
        def count(self, batch: Batch) -> Tensor:
            return torch.zeros((), dtype=torch.int64)

        def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
            return output.logits.sum() * 0.0

    one, other = make_student(vocabulary), make_student(vocabulary)
    plan = stage("soft_tags", batch=16)
    run_stage(make_run(one, corpus, plan, tmp_path / "a"))
    run = make_run(other, corpus, plan, tmp_path / "b")
    run.terms.append((Nothing(lambda _: False), 1.0))
    run_stage(run)
    assert same(state(one), state(other))


def test_decay_spares_biases(corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Decay on biases pulls tag frequencies to a uniform; none on matrices is no decay at all."""

    class Flat(Spoilt):
        def forward(self, output: ModelOutput, batch: Batch) -> Tensor:
            return output.logits.sum() * 0.0

    student = make_student(vocabulary)
    with torch.no_grad():
        dict(student.named_parameters())["head.bias"].fill_(1.0)
    before = state(student)
    plan = stage("soft_tags", batch=1000, learning_rate=0.1, weight_decay=0.5, schedule="constant", warmup=0.0)
    run_stage(make_run(student, corpus, plan, tmp_path, terms=[(Flat(lambda _: False), 1.0)]))
    after = state(student)
    torch.testing.assert_close(after["head.weight"], before["head.weight"] * 0.95)
    assert torch.equal(after["head.bias"], before["head.bias"])


# -- schedules -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # ten steps, peak 1, two of warm-up: 1/3, 2/3, then from the peak down over eight steps
        ("linear", [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("cosine", [1 / 3, 2 / 3, *((1 + math.cos(math.pi * step / 8)) / 2 for step in range(8))]),
    ],
)
def test_schedules_by_hand(schedule: Any, expected: list[float]) -> None:
    """A rate of another shape trains, only worse."""
    plan = Optimisation(learning_rate=1.0, schedule=schedule, warmup=0.2)
    assert [learning_rate(plan, step, 10) for step in range(10)] == pytest.approx(expected)


RATES = st.builds(
    Optimisation,
    learning_rate=st.floats(1e-6, 1.0),
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    warmup=st.floats(0.0, 0.99),
)


@given(plan=RATES, n_steps=st.integers(1, 300))
def test_schedules_stay_between_zero_and_the_peak(plan: Optimisation, n_steps: int) -> None:
    """A first step at rate zero is lost; one above the peak diverges; a rise after the warm-up is no decay."""
    rates = [learning_rate(plan, step, n_steps) for step in range(n_steps)]
    assert all(0 < rate <= plan.learning_rate * (1 + 1e-9) for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_rates_reach_the_optimizer(corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that is computed and not used."""
    used: list[float] = []
    step = torch.optim.AdamW.step

    def counted(self: torch.optim.AdamW, *arguments: Any) -> Any:
        used.extend(sorted({group["lr"] for group in self.param_groups}))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    plan = stage("soft_tags", batch=16, epochs=2, learning_rate=1e-3, schedule="linear", warmup=0.25)
    run_stage(make_run(make_student(vocabulary), corpus, plan, tmp_path))
    assert used == pytest.approx([learning_rate(plan.optimisation, number, 8) for number in range(8)])


def lines(path: Path) -> Iterator[Any]:
    for line in path.read_text().splitlines():
        yield json.loads(line)


def test_log_counts_words_and_steps(corpus: EncodedCorpus, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """The report draws its curves from these events."""
    log = tmp_path / "log.jsonl"
    run_stage(
        make_run(make_student(vocabulary), corpus, stage("soft_tags", batch=16, epochs=2), tmp_path / "c", log=RunLog(log, quiet=True))
    )
    steps = [event for event in lines(log) if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, 9))
    assert all(event["steps"] == 8 and math.isfinite(event["loss"]) and event["words_per_second"] > 0 for event in steps)
    assert [event["step"] for event in lines(log) if event["event"] == "stage_end"] == [8]

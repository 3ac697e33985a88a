"""Training beside TextBrewer: both sides compute one loss and read the same words, and the whole of it on a handful of sentences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from nerdistill.cli.benchmark import benchmark_training
from nerdistill.config import load_config
from nerdistill.corpus.encoded import Targets
from nerdistill.errors import ConfigError, DataError
from nerdistill.evaluation.training_tables import training_tables
from nerdistill.records import Sentence
from nerdistill.steps import training_ground, with_textbrewer
from nerdistill.steps.benchmark_training import stage_run
from nerdistill.steps.context import Context
from nerdistill.steps.teach import teach
from nerdistill.steps.training_ground import TEMPERATURE, Ground, lay_ground
from nerdistill.steps.with_textbrewer import STATES, TextBrewerSide
from nerdistill.students.transformer import TransformerOptions
from nerdistill.teachers.live import read_along, teacher_reader
from nerdistill.training.stage import Optimisation
from nerdistill.training.step_clock import PARTS, time_steps


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student of a tenth of the width, for the speed of the tests."""
    shape = {"width": 36, "ffn": 48}
    monkeypatch.setattr(training_ground, "TransformerOptions", lambda **given: TransformerOptions(**shape, **given))


@pytest.fixture
def ground(toy_config: Path, tmp_path: Path) -> Ground:
    """The toy run's text and teacher, which has two layers."""
    context = Context(load_config(toy_config, ("teacher.epochs=1",)), tmp_path / "run", quiet=True, cpu=True)
    return lay_ground(context, teach(context), 24)


def test_both_sides_compute_one_loss(ground: Ground, tmp_path: Path) -> None:
    """Prevents a comparison in which one side learns something else: other words, other layers, another weight or mean."""
    pytest.importorskip("textbrewer")
    numbers = [0, 3, 17, 20, 23]
    side = TextBrewerSide(ground, [numbers], Optimisation(), tmp_path)
    (batch,) = side.loader
    side.student.eval()  # no dropout
    theirs, _ = side.distiller().train_on_batch(batch, STATES)

    student = ground.make_student()
    reader = teacher_reader(ground.teacher_in("float32"), with_attention=False)
    corpus = read_along(reader, ground.text(), ground.sentences)
    run = stage_run(ground, student, ground.terms, corpus, ground.live_widths(student), Optimisation(), "float32")
    tensors = corpus.collate(np.array(numbers))
    with torch.no_grad():
        output = student.eval()(tensors)
        ours = sum(float(weight * term(output, tensors) / term.count(tensors)) for term, weight in run.terms)
        said = (tensors["teacher_logits"][tensors["word_mask"]] / TEMPERATURE).log_softmax(dim=-1)
    entropy = float(-(said.exp() * said).sum(dim=-1).mean())
    assert len(run.terms) == 1 + 3, "tags, embeddings and two layers"
    assert float(theirs.detach()) - TEMPERATURE**2 * entropy == pytest.approx(ours, rel=1e-4)


def test_both_sides_learn_all_words_once(ground: Ground, tmp_path: Path) -> None:
    """Prevents rates of words that one side did not read, read twice, or learnt nothing from."""
    pytest.importorskip("textbrewer")
    words = sum(len(sentence.words) for sentence in ground.sentences)
    text = ground.text()
    batches = text.batches(40, np.random.default_rng(1))
    assert text.n_words == words
    assert sum(int(text.collate(batch)["word_mask"].sum()) for batch in batches) == words
    side = TextBrewerSide(ground, [batch.tolist() for batch in batches], Optimisation(), tmp_path)
    assert sum(int(batch["student"]["first"].sum()) for batch in side.loader) == words
    pieces = sum(int(batch["teacher"]["attention_mask"].sum()) for batch in side.loader)
    assert pieces == ground.teacher_pieces().sum()


def test_textbrewer_leaves_the_teacher_as_it_was(ground: Ground, tmp_path: Path) -> None:
    """Prevents a teacher whose dropout is on for whoever comes after TextBrewer."""
    pytest.importorskip("textbrewer")
    side = TextBrewerSide(ground, [[0, 1], [2, 3]], Optimisation(), tmp_path)
    before = {name: weight.clone() for name, weight in side.student.state_dict().items()}
    side.train()
    assert not ground.teacher.model.network.training
    assert any(not torch.equal(before[name], weight) for name, weight in side.student.state_dict().items())
    assert not list(tmp_path.glob("*.pkl"))


def test_the_parts_of_a_step_are_timed_and_the_run_is_left_alone(ground: Ground) -> None:
    """Prevents parts that are never met, and clocks that stay in a run and are wound again by the next one."""
    student = ground.make_student()
    corpus = read_along(teacher_reader(ground.teacher, with_attention=False), ground.text(), ground.sentences)
    reader = corpus.reader
    run = stage_run(ground, student, ground.terms, corpus, ground.live_widths(student), Optimisation(batch=64), "float32")
    seconds, words = time_steps(run)
    assert 0 < words < corpus.n_words, "all words but those of the first step"
    assert tuple(seconds) == PARTS
    assert min(seconds.values()) > 0
    assert corpus.reader is reader
    assert not student._forward_hooks
    assert not student._forward_pre_hooks
    silent = ground.text(targets=Targets(np.zeros((corpus.n_words, 7), dtype=np.float16)))
    stored = stage_run(ground, student, ground.terms[:1], silent, ground.live_widths(student), Optimisation(epochs=2), "float32")
    seconds, words = time_steps(stored)
    assert seconds["teacher"] == 0
    assert words == corpus.n_words


def test_the_whole_of_it(toy_config: Path, tmp_path: Path) -> None:
    """Prevents rows without what they should hold, students that learn nothing, and results that no page can show."""
    pytest.importorskip("textbrewer")
    app = typer.Typer()
    app.command()(benchmark_training)
    results = tmp_path / "results.json"
    sizes = ["--sentences", "24", "--batch", "64", "--rounds", "2", "--epochs", "3", "--threads", "1", "--cpu", "--quiet"]
    arguments = [str(toy_config), "--out", str(tmp_path / "run"), "--set", "student.precision=float32", "--results", str(results), *sizes]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(results.read_text(encoding="utf-8"))
    assert {"what", "command", "commit", "date", "machine", "data", "versions", "rounds", "epochs", "kind", "steps"} <= set(found)
    assert [(row["system"], row["batches"], row["teacher"]) for row in found["rows"]] == [
        ("TextBrewer", "shuffled", "reads along"), ("TextBrewer", "by length", "reads along"),
        ("nerdistill", "by length", "reads along"), ("nerdistill", "by length", "stored"),
    ]  # fmt: skip
    for row in found["rows"]:
        assert row["divergence"] < found["data"]["divergence"]
        assert set(row["words_per_second_by_epochs"]) == {"1", "3"}
        assert min(row["words_per_second"], row["pieces_per_second"], row["steps"]) > 0
    stored = found["rows"][-1]["words_per_second_by_epochs"]
    assert stored["1"] < stored["3"] < found["rows"][-1]["words_per_second"]
    assert [row["system"].split(",")[0] for row in found["steps"]] == ["BiLSTM", "Transformer", "Transformer"]
    assert training_tables(found) in done.stdout
    assert [part for part in ("rates", "split", "steps", "parts") if not training_tables(found, part)] == ["parts"]


def test_what_is_missing_is_said_first(toy_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an hour of fine-tuning before somebody hears that TextBrewer is not installed."""
    monkeypatch.setattr(with_textbrewer, "importlib", type("Absent", (), {"import_module": staticmethod(_absent)}))
    from nerdistill.steps.benchmark_training import TrainingBench, measure_training

    context = Context(load_config(toy_config), tmp_path / "run", quiet=True, cpu=True)
    with pytest.raises(ConfigError, match=r"pip install textbrewer==\d"):
        measure_training(context, TrainingBench())
    assert not list((tmp_path / "run").glob("teacher-*"))


def test_text_that_fits_nobody_is_refused(toy_config: Path, tmp_path: Path) -> None:
    """Prevents an empty benchmark where every sentence is longer than the teacher reads at once."""
    context = Context(load_config(toy_config, ("teacher.epochs=1",)), tmp_path / "run", quiet=True, cpu=True)
    taught = teach(context)
    longest = max(context.data.transfer, key=lambda sentence: len(sentence.words))
    words = longest.words * 9
    data = replace(context.data, transfer=(Sentence(words, None, longest.language),))
    with pytest.raises(DataError, match="pieces"):
        lay_ground(Context(context.config, context.folder, quiet=True, cpu=True, data=data), taught, 10)


def _absent(name: str) -> None:
    raise ModuleNotFoundError(f"No module named '{name}'", name=name)

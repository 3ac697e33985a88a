"""A student with its teacher's layers, taught in a whole run: masked words, a joined text, first weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import nerdistill.steps.distill as steps
from nerdistill.config import RunConfig, load_config
from nerdistill.errors import ConfigError
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps.annotate import annotate_transfer
from nerdistill.steps.build import build, make_vocabulary
from nerdistill.steps.context import Context
from nerdistill.steps.distill import distill, plan_of, train_baseline
from nerdistill.steps.teach import open_teacher, teach
from nerdistill.steps.texts import HELD_OUT_EVERY, read_texts
from nerdistill.students.transformer import Transformer
from nerdistill.training import checkpoint, loop
from nerdistill.training.stage import Stage, Term
from tests.teachers.tiny_teacher import LAYERS, WIDTH, save_masked_lm

SHORT = "{epochs=0.3, batch=256}"
SHAPE = f"layers=1, width={WIDTH}, heads=2, ffn=32, positions=40"

NO_PIECES = ", soft_pieces=false, masked_lm=false"


def configured(path: Path, *more: str, options: str = "") -> RunConfig:
    return load_config(
        path,
        [
            f"student={{kind='transformer', pieces=150, embeddings='full', layers_from='general', options={{{SHAPE}}}}}",
            f"recipe={{name='distilbert', options={{general={SHORT}, task={SHORT} {options}}}}}",
            "teacher.epochs=1",
            *more,
        ],
    )


@pytest.fixture
def guessing(tmp_path: Path, tokenizer: Tokenizer) -> str:
    """The teacher is a masked language model."""
    return f"teacher.model='{save_masked_lm(tmp_path / 'guesses', tokenizer, intermediate_size=32)}'"


def open_run(config: RunConfig, folder: Path) -> Context:
    return Context(config, folder, quiet=True, cpu=True)


def planned(config: RunConfig) -> tuple[Stage, ...]:
    return plan_of(config, config.recipe.name, config.recipe.options)


def learnt(context: Context) -> dict[str, torch.Tensor]:
    return load_file(distill(context).bundle / "model.safetensors")


def test_a_run_that_is_broken_off_among_masks_ends_as_one_that_is_not(
    toy_config: Path, guessing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks that depend on what a process did before, or a head that a checkpoint forgets, would end in other weights."""
    config = configured(toy_config, guessing)
    whole = learnt(open_run(config, tmp_path / "whole"))
    original, save, saved = loop.StageRun, checkpoint.save_checkpoint, 0

    def often(**fields: Any) -> loop.StageRun:
        return original(**{**fields, "checkpoint_seconds": -1.0})

    def break_off(*given: Any) -> None:
        nonlocal saved
        save(*given)
        saved += 1
        if saved == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(steps, "StageRun", often)
    monkeypatch.setattr(loop, "save_checkpoint", break_off)
    with pytest.raises(KeyboardInterrupt):
        learnt(open_run(config, tmp_path / "broken"))
    assert [path.name[:7] for path in (tmp_path / "broken" / "stages").glob("*-checkpoint")] == ["general"]
    found = learnt(open_run(config, tmp_path / "broken"))
    assert all(torch.equal(whole[name], found[name]) for name in whole)
    assert not any("pieces" in name for name in whole), "the head that guesses pieces is served"
    bundle = distill(open_run(config, tmp_path / "broken")).bundle
    assert isinstance(Tagger.load(bundle, threads=1)("Anna Schmidt besucht Berlin"), list)


def test_labelled_text_is_read_along_with_the_rest(toy_config: Path, tmp_path: Path) -> None:
    """Labelled sentences without what the teacher says of them, sentences read twice, or held-out ones learnt from."""
    config = configured(toy_config, "student.layers_from=teacher", options=NO_PIECES)
    context = open_run(config, tmp_path / "out")
    taught = teach(context)
    vocabulary = make_vocabulary(context, taught)
    student = build(context, taught, vocabulary, "full")
    texts = read_texts(context, taught, vocabulary, annotate_transfer(context, taught), student)
    (task,) = [stage for stage in planned(config) if stage.name == "task"]
    reading = texts.of(task)
    sentences = [*context.data.train, *context.data.transfer]
    read = [sentences[number] for number in reading.corpus.item_sentence]
    learnt_from = [s for number, s in enumerate(context.data.transfer) if number % HELD_OUT_EVERY]
    keys = [(sentence.language, sentence.words) for sentence in read]
    assert len(keys) == len(set(keys))
    assert set(keys) == {(s.language, s.words) for s in (*context.data.train, *learnt_from)}
    annotator = open_teacher(context, taught)
    batch = reading.corpus.collate(np.arange(len(read)))
    assert "without_signals" not in batch
    assert "teacher_attention" not in batch, "costs a third of the teacher's time, and no term of this stage asks for it"
    assert batch["without_tags"].sum() == len(read) - len(context.data.train)
    logits, _, offsets = annotator.read(read)
    for row, sentence in enumerate(read):
        found = batch["teacher_logits"][row, : len(sentence.words)].numpy()
        np.testing.assert_allclose(found, logits[offsets[row] : offsets[row + 1]], atol=1e-4)
        if sentence.tags is not None and not batch["without_tags"][row]:
            assert context.data.scheme.decode(batch["tags"][row, : len(sentence.words)].numpy()) == sentence.tags


def test_the_student_begins_with_what_was_asked_for(toy_config: Path, guessing: str, tmp_path: Path) -> None:
    """Layers of the fine-tuned teacher in place of the general one's; a baseline that is given what it is to be compared with."""
    network = load_file(tmp_path / "guesses" / "model.safetensors")
    made: dict[str, Transformer] = {}
    for source, more in (("general", ""), ("teacher", ""), ("random", ""), ("general", "student.taken_layers=[2]")):
        context = open_run(configured(toy_config, guessing, f"student.layers_from={source}", *filter(None, [more])), tmp_path / "out")
        taught = teach(context)
        student = build(context, taught, make_vocabulary(context, taught), "full")
        assert isinstance(student, Transformer)
        made[source + more[-3:]] = student
    inner = {name: student.layers[0].get_parameter("inner.weight") for name, student in made.items()}
    general = [network[f"bert.encoder.layer.{number}.intermediate.dense.weight"] for number in range(LAYERS)]
    tuned = load_file(Path(taught.model) / "model.safetensors")
    assert torch.equal(inner["general"], general[0])
    assert torch.equal(inner["general[2]"], general[1])
    assert torch.equal(inner["teacher"], tuned["bert.encoder.layer.0.intermediate.dense.weight"])
    assert torch.equal(made["teacher"].head.weight, tuned["classifier.weight"])
    assert not torch.equal(made["general"].head.weight, tuned["classifier.weight"])
    assert len({float(weight.detach().sum()) for weight in inner.values()}) == 4
    identities = set()
    for source in ("general", "teacher", "random"):
        settings = ["evaluation.baseline_options={labels={epochs=0.2}}", f"student.layers_from={source}"]
        identities.add(train_baseline(open_run(configured(toy_config, guessing, *settings), tmp_path / "out")).stages)
    assert len(identities) == 1


@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        (
            (),
            "",
            r"learns pieces .*no masked language model \(its config.json names BertModel\).* masked_lm = false and soft_pieces = false",
        ),
        (("student.options.width=24",), NO_PIECES, r"width = 24 \(expected 16\)"),
        (("student.options.width=24", "student.layers_from=random"), NO_PIECES, "the student's has width 24 and the teacher's 16"),
        (("student.options.positions=80",), NO_PIECES, "the teacher has 64 positions"),
        (("student={kind='bilstm', layers_from='teacher'}", "recipe={name='xtremedistil'}"), "", "student.kind = 'transformer'"),
        (("student.taken_layers=[3]",), NO_PIECES, "from 1 to 2"),
    ],
)
def test_what_does_not_fit_is_said_when_it_is_planned(toy_config: Path, more: tuple[str, ...], options: str, message: str) -> None:
    """Hours of teaching and reading before an error that the configuration alone shows."""
    with pytest.raises(ConfigError, match=message):
        planned(configured(toy_config, *more, options=options))


def test_without_a_model_that_guesses_the_rest_can_be_learnt(toy_config: Path) -> None:
    """The way out that the message names must be one."""
    config = configured(toy_config, options=NO_PIECES)
    assert [term for stage in planned(config) for term in stage.terms if stage.name == "general"] == [Term(loss="hidden_cosine")]


def test_layers_are_taken_from_somewhere(toy_config: Path) -> None:
    """A choice of layers that nothing reads would be taken for one that was made."""
    with pytest.raises(ConfigError, match=r"student: .*layers_from"):
        load_config(toy_config, ["student.taken_layers=[1]"])

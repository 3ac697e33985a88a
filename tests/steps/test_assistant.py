"""The assistant: a student that is made first, kept, and heard by the student."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import nerdistill.steps.distill as steps
from nerdistill.config import RunConfig, load_config
from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps.annotate import annotate_transfer
from nerdistill.steps.assistant import Assistant, hand_down
from nerdistill.steps.build import build, make_vocabulary
from nerdistill.steps.context import Context
from nerdistill.steps.distill import distill, plan_of
from nerdistill.steps.teach import open_teacher, teach
from nerdistill.steps.texts import Reading, Texts, read_texts
from nerdistill.students.base import Shape, build_student, student_options
from nerdistill.teachers.live import heard_layers, read_along, student_reader
from nerdistill.training.stage import Stage

SHAPE = "layers=2, width=8, heads=2, ffn=6, embedding_width=6, positions=64"
SHORT = "{epochs=1, batch=256}"
OVERRIDES = [
    f"student={{kind='mobilebert', pieces=150, options={{{SHAPE}, inner_width=4, ffns=2}}}}",
    f"recipe={{name='mobilebert', options={{transfer={SHORT}, prediction={SHORT}, labels={SHORT}}}}}",
    f"assistant={{options={{{SHAPE}, inner_width=12}}}}",
    f"assistant.recipe={{name='xtremedistil_transformers', options={{attention=false, representation={SHORT}, logits={SHORT}, "
    f"logits_opening={SHORT}, labels=false}}}}",
]


def configured(path: Path, *more: str) -> RunConfig:
    return load_config(path, [*OVERRIDES, *more])


def planned(config: RunConfig) -> Any:
    return plan_of(config, config.recipe.name, config.recipe.options)


def refused(path: Path, *more: str) -> str:
    """What is said of a run when it is planned."""
    with pytest.raises(ConfigError) as caught:
        planned(configured(path, *more))
    return str(caught.value)


def made(config: RunConfig, folder: Path) -> steps.Distilled:
    return distill(Context(config, folder, quiet=True, cpu=True))


def nothing_more(*_: Any) -> None:
    raise AssertionError("a stage was run again")


def test_it_is_made_once_and_heard(toy_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an assistant that is made anew for every student, or a student that is kept though its assistant is another."""
    out = tmp_path / "run"
    heard: list[tuple[str, str]] = []
    read = Texts.of

    def listened(texts: Texts, stage: Stage) -> Reading:
        heard.append((stage.name, stage.teacher))
        return read(texts, stage)

    monkeypatch.setattr(Texts, "of", listened)
    first = made(configured(toy_config), out)
    assert [name for name, teacher in heard if teacher == "assistant"] == ["block-1", "block-2"]
    (assistant,) = out.glob("assistant-*")
    for bundle, kind in ((assistant, "inverted_bottleneck"), (first.bundle, "mobilebert")):
        tagger = Tagger.load(bundle)
        assert tagger.info.student["kind"] == kind
        assert tagger.info.provenance["teacher"] != "none"
        assert ("assistant" in tagger.info.provenance) == (kind == "mobilebert")
        assert isinstance(tagger("Anna Schmidt besucht Berlin."), list)
    monkeypatch.setattr(steps, "run_stage", nothing_more)
    assert made(configured(toy_config), out) == first
    monkeypatch.undo()
    longer = made(configured(toy_config, "recipe.options.labels.epochs=2"), out)
    assert longer.stages[:-1] == first.stages[:-1]
    assert [*out.glob("assistant-*")] == [assistant]
    with monkeypatch.context() as patch:  # a loss that came to be another: what it taught is made anew, and nothing before
        gold = LOSSES.get("hard_tags")
        patch.setitem(LOSSES._parts, "hard_tags", replace(gold, version=gold.version + 1))
        renewed = made(configured(toy_config), out)
    assert renewed.stages[:2] == first.stages[:2]
    assert not set(renewed.stages[2:]) & set(first.stages)
    other = made(configured(toy_config, "assistant.options.inner_width=14"), out)
    assert len([*out.glob("assistant-*")]) == 2
    assert not set(other.stages) & set(first.stages)


def test_weights_are_handed_down(toy_config: Path, tmp_path: Path) -> None:
    """Prevents a student that begins with its own embeddings, or an assistant's that are not in its fingerprint."""
    out = tmp_path / "run"
    options = ["recipe.options.freeze_embeddings=true", "recipe.options.prediction=false", "assistant.hand_down=['embeddings', 'head']"]
    first = made(configured(toy_config, *options), out)
    (assistant,) = out.glob("assistant-*")
    theirs = load_file(assistant / "model.safetensors")
    mine = load_file(next((out / "stages").glob(f"block-2-{first.stages[1][:8]}/model.safetensors")))
    shared = [name for name in mine if name.startswith(("embeddings", "head"))]
    assert len(shared) == 8
    assert all(torch.equal(mine[name], theirs[name]) for name in shared)
    assert not set(made(configured(toy_config, *options[:2]), out).stages) & set(first.stages)


def test_one_that_is_not_asked_for_is_not_made(toy_config: Path, tmp_path: Path) -> None:
    """Prevents hours for nothing, and results that change with a section that nothing reads."""
    options = ["recipe={name='xtremedistil_transformers', options={representation=false, labels=false}}"]
    options += [f"recipe.options.{key}={SHORT}" for key in ("logits", "logits_opening")]
    with_one = made(configured(toy_config, *options), tmp_path / "one")
    assert not [*(tmp_path / "one").glob("assistant-*")]
    without = configured(toy_config, *options).model_copy(update={"assistant": None})
    assert made(without, tmp_path / "two").stages == with_one.stages


def test_beside_an_assistant_tags_are_the_teachers(toy_config: Path, tmp_path: Path) -> None:
    """Prevents strategies that differ in whose tags they learn, and states that are not of the one who reads along."""
    config = configured(toy_config, "recipe.options.strategy='auxiliary'")
    context = Context(config, tmp_path / "run", quiet=True, cpu=True)
    distill(context)
    (bundle,) = (tmp_path / "run").glob("assistant-*")
    assistant, taught = Assistant(bundle, "x"), teach(context)
    vocabulary = make_vocabulary(context, taught)
    student = build(context, taught, vocabulary, "distilled")
    texts = read_texts(context, taught, vocabulary, annotate_transfer(context, taught), student, assistant)
    corpus = texts.of(planned(config)[0]).corpus
    sentences = [*context.data.train, *context.data.transfer]
    read = [sentences[number] for number in corpus.item_sentence]
    batch = corpus.collate(np.arange(len(read)))
    logits, _, offsets = open_teacher(context, taught).read(read)
    network, encoder = assistant.open()
    with torch.no_grad():
        states = network.eval()(EncodedCorpus(read, encoder).collate(np.arange(len(read)))).hidden[-1]
    assert not batch["without_signals"].all()
    for row in torch.nonzero(~batch["without_signals"])[:, 0].tolist():
        length = len(read[row].words)
        said = batch["teacher_logits"][row, :length].float().numpy()
        np.testing.assert_allclose(said, logits[offsets[row] : offsets[row + 1]], atol=0.01)
        torch.testing.assert_close(
            batch["teacher_hidden"][row, :length, -1], states[row, :length], atol=0.05, rtol=0.05
        )  # bfloat16, where there is any


def test_a_word_student_can_be_read_along(toy_config: Path, tmp_path: Path) -> None:
    """Prevents an assistant that only a Transformer can be, and targets that belong to other words."""
    config = configured(toy_config, "student={kind='bilstm', pieces=150, options={embedding_width=8, hidden_width=6, projection_width=10}}")
    config = config.model_copy(update={"assistant": None})
    recipe = f"recipe={{name='labels_only', options={{labels={SHORT}}}}}"
    config = config.model_copy(update={"recipe": load_config(toy_config, [recipe]).recipe})
    context = Context(config, tmp_path / "run", quiet=True, cpu=True)
    network, encoder = Assistant(distill(context).bundle, "x").open()
    assert heard_layers(network) == (2,)
    sentences = context.data.train
    text = read_along(student_reader(network, encoder, torch.device("cpu"), "float32", True), EncodedCorpus(sentences, encoder), sentences)
    batch = text.collate(np.arange(len(sentences)))
    with torch.no_grad():
        output = network(EncodedCorpus(sentences, encoder).collate(np.arange(len(sentences))))
    assert "teacher_attention" not in batch
    assert not any(weight.requires_grad for weight in network.parameters())
    torch.testing.assert_close(batch["teacher_logits"], output.logits)
    torch.testing.assert_close(batch["teacher_hidden"], output.hidden[-1][:, :, None])


def test_layers_are_counted_in_the_assistant(toy_config: Path) -> None:
    """Prevents targets that are counted in the teacher, of another depth than the assistant."""
    options = ["assistant.options.layers=4", "assistant.recipe.options.representation=false"]
    deeper = planned(configured(toy_config, *options))
    assert [stage.terms[0].options["layer"] for stage in deeper[:2]] == [2, 4]
    taught = planned(configured(toy_config, "recipe.options.teacher='live'"))
    assert [stage.terms[0].options["layer"] for stage in taught[:2]] == [1, 2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["assistant.options.heads=4"], "2 heads and its teacher 4"),
        (["assistant.options.heds=4"], "the assistant, as a student: student 'inverted_bottleneck'"),
        (["assistant.kind='lstm'"], "unknown student 'lstm'"),
        (["assistant.recipe.name='tinybrt'"], "unknown recipe 'tinybrt'"),
        (["assistant.recipe={name='mobilebert'}"], "there is none"),
        (["assistant.hand_down=['table']"], "'table' is no parameter group of both"),
        (["assistant.hand_down=['embeddings']", "assistant.options.embedding_width=5"], "'embeddings' is not alike"),
        (["assistant.hand_down=['embeddings']", "assistant.pieces=140"], "leave assistant.pieces out"),
    ],
)
def test_what_does_not_fit_is_said_when_the_run_is_planned(toy_config: Path, more: list[str], message: str) -> None:
    """Prevents an assistant that is trained for hours before it is found to be of no use."""
    assert message in refused(toy_config, *more)


def test_a_recipe_that_wants_one_says_so(toy_config: Path) -> None:
    """Prevents a traceback where the section was forgotten."""
    config = configured(toy_config).model_copy(update={"assistant": None})
    with pytest.raises(ConfigError, match=r"\[assistant\]"):
        planned(config)


def test_only_the_named_groups_are_handed_down() -> None:
    """Prevents blocks that begin as the assistant's where only its embeddings were asked for."""
    options = {"layers": 1, "width": 8, "inner_width": 4, "heads": 2, "ffn": 6, "embedding_width": 6}
    one, other = (build_student("mobilebert", options, Shape(9, 3), None, seed) for seed in (1, 2))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    hand_down(("head",), one, other)
    changed = {name for name, value in other.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight"}
    assert torch.equal(other.state_dict()["head.weight"], one.state_dict()["head.weight"])
    assert student_options("inverted_bottleneck", {}).model_dump().keys() == student_options("mobilebert", {}).model_dump().keys()

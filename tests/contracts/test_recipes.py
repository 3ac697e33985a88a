"""What every registered recipe must do, with every registered student; a new one needs no line here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from nerdistill.config import load_config
from nerdistill.corpus.encoded import EncodedCorpus, Encoder, Targets
from nerdistill.errors import ConfigError
from nerdistill.labels import LabelScheme, spans_of, tags_of
from nerdistill.losses.base import LOSSES, LossTerm, Widths
from nerdistill.recipes.base import RECIPES, Pair, plan_recipe
from nerdistill.records import Sentence, WordSpan
from nerdistill.steps.distill import plan_of
from nerdistill.students.base import STUDENTS, Shape, Student, build_student
from nerdistill.students.parts.piece_head import WithPieces, make_piece_head
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.teachers.masked import learns_pieces
from nerdistill.text.encoder import WordTable
from nerdistill.training.loop import StageRun, run_stage
from nerdistill.training.runlog import RunLog
from nerdistill.training.selection import HeldOutLoss
from nerdistill.training.stage import Optimisation, Stage

DEFINE = {"width": 4, "expand": 10, "layers": 3, "groups": 4}
SMALL: dict[str, dict[str, Any]] = {
    "bilstm": {"embedding_width": 8, "hidden_width": 6, "projection_width": 10},
    "transformer": {"layers": 2, "width": 8, "heads": 2, "ffn": 16, "embedding_width": 6},
    "mobilebert": {"layers": 2, "width": 8, "inner_width": 4, "heads": 2, "ffn": 6, "ffns": 2, "embedding_width": 6},
    "inverted_bottleneck": {"layers": 2, "width": 8, "inner_width": 12, "heads": 2, "ffn": 16, "embedding_width": 6},
    "bilstm+define": {"embedding_width": 8, "hidden_width": 6, "projection_width": 10, "define": DEFINE},
    "transformer+define": {"layers": 2, "width": 8, "heads": 2, "ffn": 16, "define": DEFINE},
}
"""By student; behind a plus stands what a variant of one has."""
SCHEME = LabelScheme(("PER", "LOC", "ORG"))
SIGNALS = {"teacher_logits", "teacher_hidden"}
LIVE = {*SIGNALS, "teacher_attention"}
GOLD = {
    "labelled": {"tags"}, "transfer": SIGNALS, "both": {"tags", *SIGNALS}, "live": LIVE, "live both": {"tags", *LIVE},
    "masked": {"teacher_hidden", "teacher_pieces", "same_piece", "masked_pieces"},
}  # fmt: skip
STATES = 8
"""Width of the teacher's states; the Transformer students' too, so that what compares them as they are can."""
WORDS = ["Anna", "Ola", "Berlin", "Oslo", "Siemens", "AG", "besucht", "bor", "i", ".", "محمد", "القاهرة", "东", "京", "राम", "gagné"]
TYPES = ["PER", "PER", "LOC", "LOC", "ORG", "ORG", "", "", "", "", "PER", "LOC", "LOC", "LOC", "PER", ""]
LENGTHS = (5, 7, 6, 7, 5, 6, 7, 7)

HEADS = 2


def fits(recipe: str, student: str) -> bool:
    """Whether the student has what the recipe needs; `test_attention_is_asked_of_students_that_have_it` sees that others are refused."""
    kind = STUDENTS.get(student)
    outline = kind.build(kind.options.model_validate(SMALL.get(student, {})), Shape(2, 3), None)
    try:
        losses = {term.loss for stage in plan(recipe, outline) for term in stage.terms}
    except ConfigError:
        if outline.heads:
            raise
        return False
    return outline.heads > 0 or all("teacher_attention" not in LOSSES.get(loss).needs for loss in losses)


def make_student(name: str, vocabulary: Vocabulary, **options: Any) -> Student:
    shape = Shape(vocabulary.tokenizer.get_vocab_size(), len(SCHEME.tags))
    kind = name.partition("+")[0]
    known = STUDENTS.get(kind).options.model_fields
    more = {key: value for key, value in options.items() if key in known}
    return build_student(kind, {**SMALL.get(name, {}), **more}, shape, None, seed=3)


def sentences() -> list[Sentence]:
    """Labelled by the word alone, so that every student can learn them."""
    chooser = np.random.default_rng(0)
    made = []
    for length in LENGTHS:
        chosen = chooser.integers(0, len(WORDS), length).tolist()
        spans = [WordSpan(at, at + 1, TYPES[word]) for at, word in enumerate(chosen) if TYPES[word]]
        made.append(Sentence(tuple(WORDS[word] for word in chosen), tags_of(spans, length), "de"))
    return made


def corpora(student: Student, vocabulary: Vocabulary) -> dict[str, EncodedCorpus]:
    """The same sentences as labelled text, and as transfer text with a teacher's stored opinion."""
    table = WordTable(vocabulary.tokenizer, unk_id=1, pad_id=0)
    encoder = Encoder(table) if student.inputs == "words" else Encoder(table, bos_id=1, eos_id=1)
    labelled = sentences()
    draw = np.random.default_rng(1)
    tags = np.concatenate([SCHEME.encode(sentence.tags or ()) for sentence in labelled])
    logits = draw.normal(size=(len(tags), len(SCHEME.tags)))
    logits[np.arange(len(tags)), tags] += 6.0
    states = draw.normal(size=(len(SCHEME.tags), 1, STATES))[tags]
    targets = Targets(logits.astype(np.float16), states.astype(np.float16))
    gold, taught = EncodedCorpus(labelled, encoder, SCHEME), EncodedCorpus(labelled, encoder, targets=targets)
    live, masked, both = EncodedCorpus(labelled, encoder), EncodedCorpus(labelled, encoder), gold.join(EncodedCorpus(labelled, encoder))
    # The transfer sentences are the labelled ones: the joined text has no others.
    live.reader = both.reader = lambda ranges: read_along(ranges, states, logits)
    masked.reader = lambda ranges: read_masked(ranges, states, logits, table.pieces[masked.rows, 0], vocabulary.tokenizer.get_vocab_size())
    both.lacks = {}
    return {"labelled": gold, "transfer": taught, "both": gold.join(taught), "live": live, "live both": both, "masked": masked}


Array = np.ndarray[Any, Any]


def read_along(ranges: Array, states: Array, logits: Array) -> dict[str, Tensor]:
    """What a teacher of two layers says in the step: three states of each word, and scores that follow from them."""
    longest = int((ranges[:, 1] - ranges[:, 0]).max())
    hidden, tags = np.zeros((len(ranges), longest, 3, STATES)), np.zeros((len(ranges), longest, logits.shape[1]))
    for row, (start, stop) in enumerate(ranges):
        tags[row, : stop - start] = logits[start:stop]
        hidden[row, : stop - start] = states[start:stop] * np.array([1.0, -1.0, 0.5])[:, None]
    scores = np.einsum("bqd,bkd->bqk", hidden[:, :, 0], hidden[:, :, 0])
    return {
        "teacher_logits": torch.from_numpy(tags).float(),
        "teacher_hidden": torch.from_numpy(hidden).float(),
        "teacher_attention": torch.from_numpy(scores).float()[:, None, None].expand(-1, 2, HEADS, -1, -1),
    }


def read_masked(ranges: Array, states: Array, logits: Array, pieces: Array, size: int) -> dict[str, Tensor]:
    """What a masked language model says: the piece of every third word is asked for, its own piece is what it expects everywhere."""
    said = {"teacher_hidden": read_along(ranges, states, logits)["teacher_hidden"]}
    shape = said["teacher_hidden"].shape[:2]
    asked, expected, same = torch.full(shape, -1), torch.zeros(*shape, size), torch.zeros(shape, dtype=torch.bool)
    for row, (start, stop) in enumerate(ranges):
        own = torch.from_numpy(pieces[start:stop]).long()
        asked[row, : stop - start] = torch.where(torch.arange(start, stop) % 3 == 0, own, -1)
        expected[row, : stop - start] = 4.0 * nn.functional.one_hot(own, size)
        same[row, : stop - start] = True
    return {**said, "masked_pieces": asked, "teacher_pieces": expected, "same_piece": same}


def text_of(stage: Stage) -> str:
    if learns_pieces(stage):
        return "masked"
    return stage.text if stage.teacher == "stored" else "live both" if stage.text == "both" else "live"


def model_of(stage: Stage, student: Student) -> nn.Module:
    """What is trained: the student, with a head that guesses pieces where they are learnt."""
    return WithPieces(student, make_piece_head(student)) if learns_pieces(stage) else student


def plan(recipe: str, student: Student) -> tuple[Stage, ...]:
    return plan_recipe(recipe, {}, pair_of(student))


def pair_of(student: Student) -> Pair:
    """With the teacher that `read_along` plays."""
    return Pair(tuple(group.name for group in student.groups()), len(student.state_widths) - 1 if student.heads else 0, 2)


def make_terms(stage: Stage, student: Student) -> list[tuple[LossTerm, float]]:
    terms = []
    widths = Widths(
        student.state_widths,
        STATES,
        (0, 1, 2) if stage.teacher != "stored" else (1,),
        student.heads,
        HEADS if stage.teacher != "stored" else 0,
    )
    student.with_attention = stage.teacher != "stored"
    for term in stage.terms:
        kind = LOSSES.get(term.loss)
        terms.append((kind.build(kind.options.model_validate(term.options), widths), term.weight))
    return terms


def opened(stage: Stage, student: Student) -> dict[str, nn.Parameter]:
    names = [group.name for group in student.groups()] if stage.trainable == ("*",) else stage.trainable
    groups = {group.name: group.module for group in student.groups()}
    return {f"{name}.{key}": weight for name in names for key, weight in groups[name].named_parameters()}


def train(
    stage: Stage, student: Student, corpus: EncodedCorpus, folder: Path, model: nn.Module | None = None, **steps: Any
) -> list[tuple[LossTerm, float]]:
    """Run a stage with other numbers of steps."""
    model = model or model_of(stage, student)
    optimisation = Optimisation(**{**stage.optimisation.model_dump(), "patience": 0, **steps})
    terms = make_terms(stage, student)
    trainable = opened(stage, student)
    for weight in student.parameters():
        weight.requires_grad_(False)
    for weight in trainable.values():
        weight.requires_grad_(True)
    changed = stage.model_copy(update={"optimisation": optimisation, "select": "last"})
    run_stage(
        StageRun(
            changed, model, trainable, terms, corpus, None, folder, "x", 1, RunLog(None, quiet=True), accelerator=Accelerator(cpu=True)
        )
    )
    return terms


def own_loss(model: nn.Module, terms: Sequence[tuple[LossTerm, float]], corpus: EncodedCorpus) -> float:
    model.eval()
    with torch.inference_mode():
        return -HeldOutLoss(model, terms, corpus, 1000)()


def test_the_toy_text_has_entities() -> None:
    """Without entities every test below would pass on tags O alone."""
    assert len([span for sentence in sentences() for span in spans_of(sentence.tags or ())]) > 10


RECIPE_STUDENT = [
    pytest.param(recipe, student, id=f"{recipe}-{student}") for recipe in RECIPES for student in STUDENTS if fits(recipe, student)
]
RECIPE_STUDENT += [
    pytest.param(*pair, id="-".join(pair)) for pair in (("xtremedistil", "bilstm+define"), ("labels_only", "transformer+define"))
]


@pytest.mark.parametrize(("recipe", "student_name"), RECIPE_STUDENT)
def test_plan_is_valid_data(recipe: str, student_name: str, vocabulary: Vocabulary) -> None:
    """A stage that cannot run is found hours into a run: an unknown loss, a group that is not there, a signal that its text lacks."""
    student = make_student(student_name, vocabulary)
    groups = [group.name for group in student.groups()]
    stages = plan(recipe, student)
    assert stages
    assert len({stage.name for stage in stages}) == len(stages), "two stages of one name share a folder"
    for stage in stages:
        assert Stage.model_validate(json.loads(json.dumps(stage.model_dump()))) == stage, "a copied stage escaped its checks"
        for term in stage.terms:
            kind = LOSSES.get(term.loss)
            kind.options.model_validate(term.options)
            assert kind.needs <= GOLD[text_of(stage)], f"{stage.name}: {term.loss} needs {sorted(kind.needs)}, {stage.text} text has none"
        names = groups if stage.trainable == ("*",) else list(stage.trainable)
        assert names
        assert names == [name for name in groups if name in names], f"{stage.name}: unknown, repeated or disordered groups {names}"
        assert stage.select != "held_out_loss" or stage.text == "transfer", f"{stage.name}: only transfer text has a held-out part"
        assert stage.teacher == "stored" or stage.text != "labelled"
    last = stages[-1]
    assert last.trainable in (("*",), tuple(groups)), "the last stage leaves something frozen"
    assert plan(recipe, student) == stages


@pytest.mark.parametrize(("recipe", "student_name"), RECIPE_STUDENT)
def test_two_steps_change_what_is_open_and_nothing_else(recipe: str, student_name: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A frozen group that moves, or an open one that stays, is not the recipe that was asked for."""
    student = make_student(student_name, vocabulary)
    texts = corpora(student, vocabulary)
    for stage in plan(recipe, student):
        before = {key: value.clone() for key, value in student.state_dict().items()}
        train(stage, student, texts[text_of(stage)], tmp_path / stage.name, epochs=1, batch=28, warmup=0.0)
        changed = {key for key, value in student.state_dict().items() if not torch.equal(before[key], value)}
        names = [group.name for group in student.groups()] if stage.trainable == ("*",) else stage.trainable
        for group in student.groups():
            own = {
                key
                for key, value in student.state_dict(keep_vars=True).items()
                if any(value is weight for weight in group.module.parameters())
            }
            assert bool(changed & own) == (group.name in names), f"{stage.name}: group {group.name}, changed {sorted(changed)}"


@pytest.mark.parametrize(("recipe", "student_name"), RECIPE_STUDENT)
def test_loss_falls(recipe: str, student_name: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A sign, a mask or a target that belongs to another word: the steps run, and nothing is learnt."""
    student = make_student(student_name, vocabulary, dropout=0.0)
    texts = corpora(student, vocabulary)
    for stage in plan(recipe, student):
        first, model, text = make_terms(stage, student), model_of(stage, student), texts[text_of(stage)]
        before = own_loss(model, first, text)
        terms = train(stage, student, text, tmp_path / stage.name, model, epochs=15, batch=28, learning_rate=1e-2, warmup=0.0)
        learnt = 1e-3  # where nothing is left to learn, the steps may go up and down
        assert own_loss(model, terms, text) < max(before, learnt), stage.name


@pytest.mark.parametrize(("recipe", "student_name"), RECIPE_STUDENT)
def test_one_batch_of_eight_equals_four_of_two(recipe: str, student_name: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A mean of batch means weighs words of short sentences more: the result would change with the memory of the machine."""
    for stage in plan(recipe, make_student(student_name, vocabulary)):
        if stage.text == "both":
            continue  # twice the sentences: other batches
        grads: list[dict[str, Tensor]] = []
        for sentences_at_once, accumulate in ((8, 1), (2, 4)):
            student = make_student(student_name, vocabulary, dropout=0.0)
            corpus = corpora(student, vocabulary)[text_of(stage)]
            batch = sentences_at_once * int(corpus.costs.max())
            assert len(corpus.batches(batch, np.random.default_rng(0))) == accumulate
            train(stage, student, corpus, tmp_path / f"{stage.name}{accumulate}", epochs=1, batch=batch, accumulate=accumulate, clip=1e9)
            grads.append({key: weight.grad for key, weight in opened(stage, student).items() if weight.grad is not None})
        assert grads[0]
        assert grads[0].keys() == grads[1].keys()
        for key, grad in grads[0].items():
            torch.testing.assert_close(grad, grads[1][key], rtol=1e-3, atol=1e-6, msg=f"{stage.name}: {key}")


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_wrong_options_are_a_message(recipe: str) -> None:
    """What a user writes under recipe.options must not end in a traceback, nor be ignored."""
    with pytest.raises(ConfigError, match=r"recipe\.options\.no_such_option"):
        plan_recipe(recipe, {"no_such_option": 1}, Pair(("head",)))
    fields = RECIPES.get(recipe).options.model_fields
    for key in [key for key, field in fields.items() if isinstance(field.default, Optimisation)]:
        for wrong in ({"learning_rate": 0}, {"learning_rate": float("inf")}, {"epochs": 0}, {"batch": 0}, {"patience": -1}, {"warmup": 1.0},
                      {"clip": float("nan")}, {"schedule": "step"}, {"no_such_option": 1}):  # fmt: skip
            with pytest.raises(ConfigError, match=rf"recipe\.options\.{key}\.{next(iter(wrong))}"):
                plan_recipe(recipe, {key: wrong}, Pair(("head",)))
    for key in [key for key, field in fields.items() if field.annotation is float]:
        for number in (float("inf"), float("nan")):
            with pytest.raises(ConfigError, match=rf"recipe\.options\.{key}"):
                plan_recipe(recipe, {key: number}, Pair(("head",)))


def test_an_unknown_recipe_is_a_message() -> None:
    """A misspelt recipe must name those there are."""
    with pytest.raises(ConfigError, match="xtremedistil"):
        plan_recipe("xtremdistil", {}, Pair(("head",)))


HEAD_FIRST = ("head", "projection", "bilstm", "embeddings")


def test_xtremedistil_opens_from_the_top() -> None:
    """The paper's order: representation, then logits and labels, each from the head down, one more group at a time (algorithm 1)."""
    stages = plan_recipe("xtremedistil", {}, Pair(HEAD_FIRST))
    parts = [HEAD_FIRST[:n] for n in range(1, 5)]
    assert [stage.trainable for stage in stages] == [HEAD_FIRST[1:], *parts, *parts]
    assert [stage.terms[0].loss for stage in stages] == ["hidden_mse", *["logit_mse"] * 4, *["hard_tags"] * 4]
    assert [stage.text for stage in stages] == ["transfer"] * 5 + ["labelled"] * 4
    assert [stage.select for stage in stages] == ["held_out_loss", *["dev_f1"] * 8]


REPRESENTATION, LOGITS, LABELS = ("transfer", ["hidden_mse"]), ("transfer", ["logit_mse"]), ("labelled", ["hard_tags"])
JOINT = ("both", ["hard_tags", "logit_mse"])
STRATEGIES: dict[str, list[tuple[str, list[str]]]] = {
    "D0": [LABELS],
    "D0-S": [LABELS],
    "D1": [JOINT],
    "D2": [("both", ["hard_tags", "logit_mse", "hidden_mse"])],
    "D3.1": [REPRESENTATION, JOINT],
    "D3.2": [REPRESENTATION, *[JOINT] * 4],
    "D4.1": [REPRESENTATION, LOGITS, LABELS],
    "D4.2": [REPRESENTATION, *[LOGITS] * 4, *[LABELS] * 4],
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_xtremedistil_strategies_are_the_papers(strategy: str) -> None:
    """The paper compares these; one that is not what it is called makes the study a fiction."""
    stages = plan_recipe("xtremedistil", {"strategy": strategy}, Pair(HEAD_FIRST))
    assert [(stage.text, [term.loss for term in stage.terms]) for stage in stages] == STRATEGIES[strategy]
    after = [stage.trainable for stage in stages if stage.terms[0].loss != "hidden_mse"]
    steps = len(after) // 4
    assert after == ([HEAD_FIRST[:n] for n in range(1, 5)] * steps if strategy.endswith(".2") else [HEAD_FIRST] * len(after))
    assert all(stage.trainable == HEAD_FIRST[1:] for stage in stages if stage.terms[0].loss == "hidden_mse")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_learns(strategy: str, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A joint stage whose labelled sentences are counted among the taught ones, or the other way round, would not fall."""
    student = make_student("bilstm", vocabulary, dropout=0.0)
    texts = corpora(student, vocabulary)
    groups = [group.name for group in student.groups()]
    for stage in plan_recipe("xtremedistil", {"strategy": strategy, "representation_loss": "hidden_kl"}, Pair(tuple(groups))):
        before = own_loss(student, make_terms(stage, student), texts[text_of(stage)])
        terms = train(stage, student, texts[text_of(stage)], tmp_path / stage.name, epochs=15, batch=28, learning_rate=1e-2, warmup=0.0)
        assert own_loss(student, terms, texts[text_of(stage)]) < before, stage.name


def test_xtremedistil_hands_weights_and_layer_on() -> None:
    """Weights of the joint loss, or the layer, that reach no term would make rows of a study equal without anybody noticing."""
    options = {"strategy": "D2", "label_weight": 2.0, "logit_weight": 3.0, "representation_weight": 4.0, "layer": 9}
    (stage,) = plan_recipe("xtremedistil", options, Pair(HEAD_FIRST))
    assert [term.weight for term in stage.terms] == [2.0, 3.0, 4.0]
    assert stage.terms[2].options == {"layer": 9}


def test_xtremedistil_can_leave_parts_out() -> None:
    """The ablations (without representation; logits alone) must be what they are called."""
    stages = plan_recipe("xtremedistil", {"representation": False, "labels": False, "strategy": "D4.1"}, Pair(HEAD_FIRST))
    assert [stage.name for stage in stages] == ["logits"]
    stages = plan_recipe("xtremedistil", {"unfreeze_representation": True}, Pair(HEAD_FIRST))
    assert [stage.trainable for stage in stages[:3]] == [HEAD_FIRST[1:2], HEAD_FIRST[1:3], HEAD_FIRST[1:4]]
    assert {stage.select for stage in stages[:3]} == {"held_out_loss"}
    with pytest.raises(ConfigError, match="labels"):
        plan_recipe("xtremedistil", {"strategy": "D0-S", "labels": False}, Pair(HEAD_FIRST))


def test_xtremedistil_hands_its_temperature_on() -> None:
    """A temperature that reaches no loss; one handed to a loss that has none would fail at the stage's start."""
    options = {"logit_loss": "soft_tags", "temperature": 2.0, "strategy": "D4.1"}
    terms = [term for stage in plan_recipe("xtremedistil", options, Pair(HEAD_FIRST)) for term in stage.terms if term.loss == "soft_tags"]
    assert [term.options for term in terms] == [{"temperature": 2.0}]


TRANSFORMER = ("head", "layer_2", "layer_1", "embeddings")


def test_xtremedistil_transformers_aligns_from_the_top() -> None:
    """State i belongs to teacher layer i + L_t - L_s: all are counted from the last, the student's embeddings among them."""
    stages = plan_recipe("xtremedistil_transformers", {}, Pair(TRANSFORMER, 2))
    assert [stage.name for stage in stages] == ["representation", "logits-head", "logits", "labels-head", "labels"]
    assert [stage.teacher for stage in stages] == ["live", *["stored"] * 4]
    hidden = [(term.options["state"], term.options["layer"]) for term in stages[0].terms if term.loss == "hidden_mse"]
    maps = [(term.options["state"], term.options["layer"]) for term in stages[0].terms if term.loss == "attention_mse"]
    assert hidden == [(-1, -1), (-2, -2), (-3, -3)]
    assert maps == [(-1, -1), (-2, -2)]
    assert [stage.trainable for stage in stages] == [TRANSFORMER[1:], ("head",), TRANSFORMER, ("head",), TRANSFORMER]


def test_xtremedistil_transformers_can_do_with_less() -> None:
    """Fewer states, no attention, a frozen table: each must be what it is called."""
    options = {"states": 1, "attention": False, "freeze_embeddings": True, "labels": False}
    stages = plan_recipe("xtremedistil_transformers", options, Pair(TRANSFORMER, 2))
    assert [(term.loss, term.options) for term in stages[0].terms] == [("hidden_mse", {"state": -1, "layer": -1})]
    assert all("embeddings" not in stage.trainable for stage in stages)
    assert stages[-1].name == "logits"


def test_attention_is_asked_of_students_that_have_it(toy_config: Path) -> None:
    """A BiLSTM has no attention: that must be said when the plan is made, not in the first step."""
    assert not fits("xtremedistil_transformers", "bilstm")
    config = load_config(toy_config, ["recipe={name='xtremedistil_transformers'}"])
    with pytest.raises(ConfigError, match="attention"):
        plan_of(config, config.recipe.name, config.recipe.options)


FOUR_LAYERS = ("head", "layer_4", "layer_3", "layer_2", "layer_1", "embeddings")


def mapped(options: dict[str, Any], students: int, teachers: int) -> list[list[tuple[int, int]]]:
    """What states learn, and what attention maps do, in tinybert's intermediate stage."""
    stages = plan_recipe("tinybert", options, Pair(FOUR_LAYERS, students, teachers))
    (stage,) = [stage for stage in stages if stage.name == "intermediate"]
    return [
        [(term.options["state"], term.options["layer"]) for term in stage.terms if term.loss == loss]
        for loss in ("hidden_mse", "attention_mse")
    ]


def test_tinybert_is_the_papers() -> None:
    """General teacher, fine-tuned teacher, tags; the head waits for the last; states count from the embeddings, attention from layer 1."""
    stages = plan_recipe("tinybert", {}, Pair(FOUR_LAYERS, 4, 12))
    assert [(stage.name, stage.teacher, stage.text) for stage in stages] == [
        ("general", "general", "transfer"), ("intermediate", "live", "transfer"), ("prediction", "stored", "transfer"),
    ]  # fmt: skip
    assert [stage.trainable for stage in stages] == [FOUR_LAYERS[1:], FOUR_LAYERS[1:], FOUR_LAYERS]
    assert stages[0].terms == stages[1].terms
    assert {term.weight for stage in stages for term in stage.terms} == {1.0}
    assert {term.options["on"] for term in stages[0].terms if term.loss == "attention_mse"} == {"scores"}
    assert [(term.loss, term.options) for term in stages[2].terms] == [("soft_tags", {"temperature": 1.0})]
    assert mapped({}, 4, 12) == [[(0, 0), (1, 3), (2, 6), (3, 9), (4, 12)], [(0, 2), (1, 5), (2, 8), (3, 11)]]
    with_labels = plan_recipe("tinybert", {"labels": {"epochs": 2}}, Pair(FOUR_LAYERS, 4, 12))
    assert with_labels[:-1] == stages
    assert (with_labels[-1].text, with_labels[-1].terms[0].loss, with_labels[-1].trainable) == ("labelled", "hard_tags", FOUR_LAYERS)


@pytest.mark.parametrize(
    ("mapping", "students", "teachers", "layers"),
    [
        ("uniform", 6, 12, [2, 4, 6, 8, 10, 12]), ("uniform", 5, 12, [2, 5, 7, 10, 12]), ("uniform", 4, 6, [2, 3, 5, 6]),
        ("uniform", 3, 3, [1, 2, 3]), ("uniform", 1, 12, [12]), ("top", 4, 12, [9, 10, 11, 12]), ("bottom", 4, 12, [1, 2, 3, 4]),
        ([1, 4, 12], 3, 12, [1, 4, 12]),
    ],
)  # fmt: skip
def test_tinybert_mappings(mapping: Any, students: int, teachers: int, layers: list[int]) -> None:
    """The paper compares three mappings; a layer that is one off, or rounded to the even one, is none of them."""
    hidden, attention = mapped({"mapping": mapping}, students, teachers)
    assert hidden == [(0, 0), *enumerate(layers, start=1)]
    assert attention == [(m, layer - 1) for m, layer in enumerate(layers)]


def test_tinybert_ablations_are_the_papers() -> None:
    """Each part that is left out must be the one that is named, and the others must stay."""
    assert mapped({"attention": False}, 2, 4) == [[(0, 0), (1, 2), (2, 4)], []]
    assert mapped({"hidden": False}, 2, 4) == [[(0, 0)], [(0, 1), (1, 3)]]
    assert mapped({"embedding": False}, 2, 4) == [[(1, 2), (2, 4)], [(0, 1), (1, 3)]]
    assert mapped({"attention": False, "hidden": False}, 2, 4) == [[(0, 0)], []]
    pair = Pair(FOUR_LAYERS, 4, 12)
    for left_out, names in (
        ({"general": False}, ["intermediate", "prediction"]),
        ({"intermediate": False}, ["general", "prediction"]),
        ({"prediction": False, "labels": {}}, ["general", "intermediate", "labels"]),
        ({"general": False, "intermediate": False, "attention": False, "hidden": False, "embedding": False}, ["prediction"]),
    ):
        assert [stage.name for stage in plan_recipe("tinybert", left_out, pair)] == names


def test_tinybert_weighs_what_it_is_told() -> None:
    """Raw scores vary far more than states: a weight that goes to the wrong part, or to one stage of the two, teaches attention alone."""
    stages = plan_recipe("tinybert", {"attention": 0.03, "hidden": 2.0, "embedding": 0.5}, Pair(FOUR_LAYERS, 4, 12))
    for stage in stages[:2]:
        states = [(term.options["state"], term.weight) for term in stage.terms if term.loss == "hidden_mse"]
        assert states == [(0, 0.5), (1, 2.0), (2, 2.0), (3, 2.0), (4, 2.0)]
        assert {term.weight for term in stage.terms if term.loss == "attention_mse"} == {0.03}
    assert [term.weight for term in stages[2].terms] == [1.0]
    with pytest.raises(ConfigError, match=r"recipe\.options\.attention.*expected the loss's weight, or false"):
        plan_recipe("tinybert", {"attention": True}, Pair(FOUR_LAYERS, 4, 12))


@pytest.mark.parametrize(
    ("options", "students", "message"),
    [
        ({}, 0, "student.kind = 'transformer'"),
        ({}, 13, "the student has 13 layers, its teacher 12"),
        ({"mapping": [3, 6, 9]}, 4, r"mapping = \[3, 6, 9\]: expected 4 .* from 1 to 12"),
        ({"mapping": [3, 6, 9, 13]}, 4, "from 1 to 12"),
        ({"mapping": [3, 9, 6, 12]}, 4, "increasing"),
        ({"mapping": [3, 3, 6, 12]}, 4, "increasing"),
        ({"mapping": [0, 3, 6, 12]}, 4, r"recipe\.options\.mapping"),
        ({"mapping": []}, 4, "expected 4"),
        ({"mapping": "middle"}, 4, r"recipe\.options\.mapping"),
        ({"prediction": False}, 4, "no stage teaches the head"),
        ({"attention": False, "hidden": False, "embedding": False}, 4, "nothing to learn"),
    ],
)
def test_tinybert_refuses_what_does_not_fit(options: dict[str, Any], students: int, message: str) -> None:
    """A mapping past the teacher's last layer would be found when the first stage starts, a head that nobody teaches after the last."""
    with pytest.raises(ConfigError, match=message):
        plan_recipe("tinybert", options, Pair(FOUR_LAYERS, students, 12))


def test_tinybert_is_refused_to_students_without_layers(toy_config: Path) -> None:
    """A BiLSTM must be refused when the plan is made, with what to do."""
    assert not fits("tinybert", "bilstm")
    assert fits("tinybert", "transformer")
    config = load_config(toy_config, ["recipe={name='tinybert'}"])
    with pytest.raises(ConfigError, match="attention layers"):
        plan_of(config, config.recipe.name, config.recipe.options)

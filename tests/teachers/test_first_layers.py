"""Students that begin with layers of their teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from nerdistill.corpus.encoded import EncodedCorpus
from nerdistill.errors import ConfigError
from nerdistill.students.base import Shape, Student, build_student, student_options
from nerdistill.students.parts.piece_head import WithPieces, make_piece_head
from nerdistill.students.parts.reduction import reduce_table
from nerdistill.students.transformer import Transformer
from nerdistill.teachers.as_transformer import begin_with, check_layers, spread, take_piece_head
from nerdistill.teachers.huggingface import TeacherModel, load_masked_lm, load_pieces, load_teacher
from tests.teachers.tiny_teacher import LAYERS, SCHEME, WIDTH, save_checkpoint, save_masked_lm, text

OPTIONS: dict[str, Any] = {"layers": LAYERS, "width": WIDTH, "heads": 2, "ffn": 24, "positions": 40, "dropout": 0.0}


@pytest.fixture
def teacher(tmp_path: Path, tokenizer: Tokenizer) -> TeacherModel:
    """A token classifier of two layers."""
    return load_teacher(str(save_checkpoint(tmp_path / "teacher", tokenizer)), None, "float32", 0).eval()


def rows_of(teacher: TeacherModel) -> list[int]:
    """All its pieces in its order, but the padding piece, 1, first."""
    return [1, 0, *range(2, teacher.word_embeddings.num_embeddings)]


def make(teacher: TeacherModel, table: torch.Tensor | None = None, **options: Any) -> Transformer:
    shape = Shape(teacher.word_embeddings.num_embeddings, len(teacher.tags))
    student = build_student("transformer", {**OPTIONS, **options}, shape, table, 5).eval()
    assert isinstance(student, Transformer)
    return student


def test_a_whole_teacher_says_what_it_said(teacher: TeacherModel, tmp_path: Path) -> None:
    """A layer, a position or a row in another's place makes a student that begins worse than it seems."""
    encoder = load_pieces(str(tmp_path / "teacher")).encoder(30)
    student = make(teacher)
    begin_with(student, teacher, (1, 2), rows_of(teacher), head=True)
    batch = EncodedCorpus(text([4, 1, 6]), encoder).collate(np.arange(3))
    renamed = {**batch, "input_ids": torch.tensor(rows_of(teacher)).argsort()[batch["input_ids"]]}
    with torch.inference_mode():
        expected, found = teacher(batch), student(renamed)
    real = batch["word_mask"]
    torch.testing.assert_close(found.logits[real], expected.logits[real], rtol=0, atol=1e-4)
    torch.testing.assert_close(found.hidden[-1][real], expected.hidden[-1][real], rtol=0, atol=1e-4)
    assert not bool(student.embeddings.table.weight[0].any()), "the padding piece's row is zero in a student"


def test_layers_come_in_the_order_that_is_asked_for(teacher: TeacherModel) -> None:
    """Layer 2 counted from 0 would be another one; the embeddings and the head stay where they are not asked for."""
    student = make(teacher, layers=1)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    begin_with(student, teacher, (2,), None, head=False)
    changed = {name.split(".")[0] for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"layers"}
    network: Any = teacher.network
    assert torch.equal(student.layers[0].get_parameter("inner.weight"), network.bert.encoder.layer[1].intermediate.dense.weight)


def test_a_reduced_table_is_widened_to_what_it_was(teacher: TeacherModel) -> None:
    """Behind a random map the copied layers read noise. Of a table that has only six directions, six columns lose nothing."""
    table = teacher.word_embeddings.weight
    with torch.no_grad():
        table.copy_(torch.randn(len(table), 6) @ torch.randn(6, WIDTH) + torch.randn(WIDTH))
    rows = rows_of(teacher)
    student = make(teacher, reduce_table(table, rows, 6), embedding_width=6)
    begin_with(student, teacher, (1, 2), rows, head=False)
    whole = make(teacher)
    begin_with(whole, teacher, (1, 2), rows, head=False)
    ids = torch.tensor([[5, 9, 20, 3], [7, 7, 2, 30]])
    with torch.inference_mode():
        torch.testing.assert_close(student.embeddings(ids), whole.embeddings(ids), rtol=0, atol=1e-3)


def test_a_unit_keeps_its_own_embeddings(teacher: TeacherModel) -> None:
    """The teacher's positions beside vectors of another size would drown them."""
    student = make(teacher, define={"width": 4, "expand": 10, "layers": 3, "groups": 4})
    before = {name: value.clone() for name, value in student.embeddings.state_dict().items()}
    begin_with(student, teacher, (1, 2), rows_of(teacher), head=False)
    assert all(torch.equal(value, before[name]) for name, value in student.embeddings.state_dict().items())


@pytest.mark.parametrize(
    ("mine", "theirs", "layers"),
    [
        (6, 12, (1, 3, 5, 8, 10, 12)), (4, 12, (1, 5, 8, 12)), (3, 12, (1, 7, 12)), (2, 12, (1, 12)), (1, 12, (1,)), (12, 12, range(1, 13)),
        (3, 6, (1, 4, 6)), (12, 24, (1, 3, 5, 7, 9, 11, 14, 16, 18, 20, 22, 24)),
    ],
)  # fmt: skip
def test_layers_are_spread_as_published(mine: int, theirs: int, layers: Any) -> None:
    """DistilBERT's student has layers 0, 2, 4, 7, 9 and 11, counted from 0: an even stride would leave the last one out."""
    assert spread(mine, theirs) == tuple(layers)


@pytest.mark.parametrize(
    ("kind", "options", "chosen", "settings", "message"),
    [
        ("bilstm", {}, (), {}, "student.kind = 'transformer'"),
        ("transformer", {"width": 12}, (), {}, r"width = 12 \(expected 16\)$"),
        ("transformer", {"heads": 4, "ffn": 8}, (), {}, r"heads = 4 \(expected 2\), ffn = 8 \(expected 24\)$"),
        ("transformer", {"activation": "relu"}, (), {}, "activation = 'relu'"),
        ("transformer", {"positions": 41}, (), {}, "the teacher has 40 positions"),
        ("transformer", {"layers": 3}, (), {}, None),
        ("transformer", {"layers": 13}, (), {}, r"student\.options\.layers = 13: the teacher has 12"),
        ("transformer", {}, (1, 13), {}, "from 1 to 12"),
        ("transformer", {}, (1, 2, 3), {}, "expected 2 layers"),
        ("transformer", {}, (2, 2), {}, None),
        ("transformer", {}, (), {"hidden_act": "gelu_new"}, "'gelu_new'.*leave student.layers_from out"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(
    kind: str, options: dict[str, Any], chosen: tuple[int, ...], settings: dict[str, Any], message: str | None
) -> None:
    """An error of shapes out of the depth of torch, after hours of teaching."""
    config = transformers.BertConfig(
        num_hidden_layers=12, hidden_size=WIDTH, num_attention_heads=2, intermediate_size=24, max_position_embeddings=40, **settings
    )
    given = student_options(kind, {} if kind == "bilstm" else {**OPTIONS, **options})
    if message is None:
        assert check_layers(kind, given, config, chosen)
        return
    with pytest.raises(ConfigError, match=message):
        check_layers(kind, given, config, chosen)


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_the_head_guesses_as_the_teachers_does(family: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A head whose parts are of another model, or whose bias is in the teacher's order, begins by unlearning."""
    masked = load_masked_lm(str(save_masked_lm(tmp_path / "t", tokenizer, family=family)), "", "")
    network: Any = masked.network
    table = network.get_input_embeddings().weight.detach()
    rows = [1, 0, 5, 9, 3, 20]
    student = build_student("transformer", OPTIONS, Shape(len(rows), len(SCHEME.tags)), table[rows], 0)
    head = make_piece_head(student)
    assert take_piece_head(head, network, network.get_output_embeddings().bias[rows])
    states = torch.randn(1, 3, WIDTH)
    layer: Any = network.cls if family == "Bert" else network.lm_head
    with torch.inference_mode():
        torch.testing.assert_close(head(states, table[rows]), layer(states)[..., rows], rtol=1e-4, atol=1e-4)
    narrow = build_student("transformer", {**OPTIONS, "width": 8}, Shape(len(rows), len(SCHEME.tags)), None, 0)
    assert not take_piece_head(make_piece_head(narrow), network, network.get_output_embeddings().bias[rows])


@pytest.mark.parametrize("width", [WIDTH, 6])
def test_pieces_are_scored_by_their_own_vectors(width: int) -> None:
    """A head with a table of its own would be larger than the student, and teach the embeddings nothing; certainties at first, neither."""
    options = {**OPTIONS, "embedding_width": width}
    table = 7 * torch.randn(50, width)
    student: Student = build_student("transformer", options, Shape(50, len(SCHEME.tags)), table, 0).eval()
    model = WithPieces(student, make_piece_head(student))
    assert torch.equal(model.head.dense.weight, make_piece_head(student).dense.weight), "first weights depend on what ran before"
    batch = {
        "input_ids": torch.randint(4, 50, (3, 9)),
        "attention_mask": torch.ones(3, 9, dtype=torch.int64),
        "first_piece": torch.arange(9).expand(3, 9),
    }
    scores = model(batch).pieces
    assert scores.shape == (3, 9, 50)
    assert 0.3 < scores.std().item() < 3
    scores.sum().backward()
    assert bool(student.get_parameter("embeddings.table.weight").grad.abs().sum(dim=1)[4:].all())  # type: ignore[union-attr]
    assert not any(name.startswith("head.") and "pieces" in name for name, _ in student.named_parameters()), "it stays out of the student"

"""What every registered student must do; a new one needs no line here (one in SMALL makes its tests faster)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_model, save_model
from torch import Tensor
from torch.nn import functional as F

from nerdistill.corpus.encoded import EncodedCorpus, Encoder
from nerdistill.errors import ConfigError
from nerdistill.export.onnx_variants import write_fp32
from nerdistill.records import Sentence
from nerdistill.students.base import STUDENTS, Shape, Student, build_student, count_parameters, student_options
from nerdistill.students.parts.piece_table import PAD
from nerdistill.students.parts.pooling import PieceEmbedding
from nerdistill.students.parts.reduction import reduce_table
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.text.encoder import WordTable

SMALL: dict[str, dict[str, Any]] = {
    "bilstm": {"embedding_width": 8, "hidden_width": 6, "projection_width": 10},
    "transformer": {"layers": 2, "width": 8, "heads": 2, "ffn": 16, "embedding_width": 6},
    "mobilebert": {"layers": 2, "width": 8, "inner_width": 4, "heads": 2, "ffn": 6, "ffns": 2, "embedding_width": 6},
    "inverted_bottleneck": {"layers": 2, "width": 8, "inner_width": 12, "heads": 2, "ffn": 16, "embedding_width": 6},
}
DEFINE = {"width": 4, "expand": 10, "layers": 3, "groups": 4}
NARROW: dict[str, list[dict[str, Any]]] = {
    "bilstm": [{"table_width": 5}, {"pooling": "first_mean_last"}, {"define": DEFINE}, {"define": DEFINE, "pooling": "mean"}],
    "transformer": [{"embedding_width": None, "define": DEFINE}],
    "mobilebert": [{"table_width": 5}, {"define": DEFINE}],
}
NAMES = list(STUDENTS)


def variants(name: str) -> list[dict[str, Any]]:
    """The small options of a student, and these with each other value of each option that is a choice of names."""
    small = SMALL.get(name, {})
    fields = STUDENTS.get(name).options.model_fields
    choices = {key: get_args(field.annotation) for key, field in fields.items() if get_origin(field.annotation) is Literal}
    chosen = ({key: value} for key, values in choices.items() for value in values if value != fields[key].default)
    return [small, *({**small, **more} for more in (*chosen, *NARROW.get(name, [])))]


CASES = [pytest.param((name, options), id="-".join([name, *(map(str, options.values()))])) for name in NAMES for options in variants(name)]
Case: TypeAlias = tuple[str, dict[str, Any]]
K = 7
WORDS = ["Anna", "Schmidt", "besucht", "Berlin", ".", "محمد", "القاهرة", "东", "京", "दिल्ली", "gagné", "unseen", "Ωmega", "l'", "à"]


def make(case: Case, vocabulary: Vocabulary, seed: int = 3, embeddings: Tensor | None = None) -> Student:
    shape = Shape(vocabulary.tokenizer.get_vocab_size(), K)
    return build_student(*case, shape, embeddings, seed).eval()


def encoder(student: Student, vocabulary: Vocabulary) -> Encoder:
    table = WordTable(vocabulary.tokenizer, unk_id=1, pad_id=0)
    return Encoder(table) if student.inputs == "words" else Encoder(table, bos_id=1, eos_id=1)


def text(lengths: Sequence[int], seed: int = 0) -> list[Sentence]:
    chooser = np.random.default_rng(seed)
    return [Sentence(tuple(chooser.choice(WORDS, length).tolist())) for length in lengths]


def arrays(student: Student, vocabulary: Vocabulary, sentences: Sequence[Sentence]) -> dict[str, Tensor]:
    corpus = EncodedCorpus(sentences, encoder(student, vocabulary))
    return corpus.collate(np.arange(len(sentences)))


def logits(student: Student, vocabulary: Vocabulary, sentences: Sequence[Sentence]) -> list[Tensor]:
    """What a student says of the words of each sentence, read in one batch."""
    with torch.inference_mode():
        values = student(arrays(student, vocabulary, sentences)).logits
    return [row[: len(sentence.words)] for row, sentence in zip(values, sentences, strict=True)]


@pytest.mark.parametrize("case", CASES)
def test_batched_equals_single(case: Case, vocabulary: Vocabulary) -> None:
    """A sentence's tags would depend on its neighbours, so no result could be repeated."""
    student, sentences = make(case, vocabulary), text([1, 9, 4, 4, 2])
    for sentence, together in zip(sentences, logits(student, vocabulary, sentences), strict=True):
        torch.testing.assert_close(logits(student, vocabulary, [sentence])[0], together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_order_of_sentences_does_not_matter(case: Case, vocabulary: Vocabulary) -> None:
    """Sorting by length inside a batch, without sorting back, gives each sentence another one's tags."""
    student, sentences = make(case, vocabulary), text([3, 8, 1, 5, 8])
    forth = logits(student, vocabulary, sentences)
    back = logits(student, vocabulary, sentences[::-1])[::-1]
    for one, other in zip(forth, back, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_padding_is_never_read(case: Case, vocabulary: Vocabulary) -> None:
    """Whatever stands at padded words, real ones must not hear of it: the published LSTM's backward direction starts there."""
    student, sentences = make(case, vocabulary), text([2, 6])
    batch = arrays(student, vocabulary, sentences)
    changed = {key: value.clone() for key, value in batch.items()}
    for key in ("word_index", "first_piece"):
        if key in changed:
            changed[key][0, 2:] = 1
    if "input_ids" in changed:
        changed["input_ids"][changed["attention_mask"] == 0] = 3
    with torch.inference_mode():
        one, other = student(batch).logits, student(changed).logits
    torch.testing.assert_close(one[0, :2], other[0, :2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one[1], other[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_words_are_read_in_context(case: Case, vocabulary: Vocabulary) -> None:
    """A network in which no word sees the next would pass the tests above."""
    student = make(case, vocabulary)
    one, other = Sentence(("Anna", "besucht", "Berlin")), Sentence(("Anna", "besucht", "东"))
    first, second = logits(student, vocabulary, [one])[0], logits(student, vocabulary, [other])[0]
    assert not torch.equal(first[0], second[0]), "the last word does not reach the first"
    one, other = Sentence(("Anna", "besucht", "Berlin")), Sentence(("东", "besucht", "Berlin"))
    first, second = logits(student, vocabulary, [one])[0], logits(student, vocabulary, [other])[0]
    assert not torch.equal(first[2], second[2]), "the first word does not reach the last"


@pytest.mark.parametrize("case", CASES)
def test_saved_and_loaded_is_equal(case: Case, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """A weight that is not saved comes back random."""
    student, other = make(case, vocabulary), make(case, vocabulary, seed=4)
    save_model(student, str(tmp_path / "model.safetensors"))
    load_model(other, str(tmp_path / "model.safetensors"))
    sentences = text([5, 3])
    for before, after in zip(logits(student, vocabulary, sentences), logits(other, vocabulary, sentences), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("case", CASES)
def test_onnx_says_the_same(case: Case, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """The served network would tag otherwise than the trained one, for some batch sizes, lengths or paddings only."""
    student = make(case, vocabulary)
    write_fp32(student, tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    for number, lengths in enumerate([[1], [7], [1, 1, 1], [2, 9, 5], [64, 1], [3] * 17]):
        batch = arrays(student, vocabulary, text(lengths, number))
        served = session.run(["logits"], {key: batch[key].numpy() for key in names})[0]
        with torch.inference_mode():
            trained = student(batch).logits.numpy()
        mask = batch["word_mask"].numpy()
        assert served.dtype == np.float32
        assert served.shape == trained.shape
        np.testing.assert_allclose(served[mask], trained[mask], rtol=1e-3, atol=2e-5, err_msg=f"lengths {lengths}")


@pytest.mark.parametrize("case", CASES)
def test_groups_hold_every_weight_once_head_first(case: Case, vocabulary: Vocabulary) -> None:
    """A weight in no group is never trained; one in two is unfrozen too early; another order is not the paper's."""
    student = make(case, vocabulary)
    groups = student.groups()
    held = Counter(id(weight) for group in groups for weight in group.module.parameters())
    assert set(held) == {id(weight) for weight in student.parameters()}
    assert set(held.values()) == {1}
    assert len({group.name for group in groups}) == len(groups)
    assert any(weight.shape[0] == K for weight in groups[0].module.parameters()), "the first group is not the one that makes K logits"
    assert any(weight.shape[0] == vocabulary.tokenizer.get_vocab_size() for weight in groups[-1].module.parameters())


@pytest.mark.parametrize("case", CASES)
def test_every_weight_learns(case: Case, vocabulary: Vocabulary) -> None:
    """A weight that no gradient reaches is size without use."""
    student = make(case, vocabulary)
    output = student(arrays(student, vocabulary, text([4, 2])))
    output.logits.square().sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in student.parameters())


@pytest.mark.parametrize("case", CASES)
def test_build_depends_on_the_seed_alone(case: Case, vocabulary: Vocabulary) -> None:
    """First weights that depend on what ran before make a continued run another run."""
    torch.manual_seed(1)
    one = make(case, vocabulary).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two = make(case, vocabulary).state_dict()
    assert torch.equal(torch.get_rng_state(), state), "building moves the global generator"
    assert all(torch.equal(one[key], two[key]) for key in one)
    other = make(case, vocabulary, seed=4).state_dict()
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("case", CASES)
def test_output_has_the_promised_widths(case: Case, vocabulary: Vocabulary) -> None:
    """A loss's projection is built for `state_widths`; another width fails in the first step of the longest stage."""
    student = make(case, vocabulary)
    output = student(arrays(student, vocabulary, text([4, 2])))
    assert output.logits.shape == (2, 4, K)
    assert [state.shape for state in output.hidden] == [(2, 4, width) for width in student.state_widths]
    assert all(states.shape[:2] == (2, 4) for states in output.hidden)
    assert count_parameters(student) == sum(weight.numel() for weight in student.state_dict().values())


@pytest.mark.parametrize("case", CASES)
def test_given_embeddings_are_used(case: Case, vocabulary: Vocabulary) -> None:
    """The teacher's reduced table would be dropped silently, and with it what compression starts from."""
    name, options = case
    width = STUDENTS.get(name).embedding_width(student_options(name, options))
    n_pieces = vocabulary.tokenizer.get_vocab_size()
    table = torch.randn(n_pieces, width)
    student = make(case, vocabulary, embeddings=table)
    held = [weight for weight in student.groups()[-1].module.parameters() if weight.shape == (n_pieces, width)]
    assert len(held) == 1
    assert torch.equal(held[0][2:], table[2:])


@pytest.mark.parametrize("name", NAMES)
def test_options_refuse_nonsense(name: str) -> None:
    """An option that is misspelt, of no size or not a number would give another student than asked for."""
    model = STUDENTS.get(name).options
    with pytest.raises(ValidationError):
        model.model_validate({"no_such_option": 1})
    for key, field in model.model_fields.items():
        wrong: list[Any] = [0, -1, 1.5] if field.annotation is int else []
        wrong += [float("nan"), float("inf"), -0.1] if field.annotation is float else []
        for value in wrong:
            with pytest.raises(ValidationError):
                model.model_validate({key: value})


@pytest.mark.parametrize("name", NAMES)
def test_wrong_options_are_a_message(name: str) -> None:
    """What a user writes under student.options must not end in a traceback."""
    with pytest.raises(ConfigError, match="no_such_option"):
        build_student(name, {"no_such_option": 1}, Shape(9, K), None, 0)


def test_pooling_is_the_mean_of_real_pieces() -> None:
    """Padding counted in the mean would shrink words by the longest word beside them."""
    pool = PieceEmbedding(5, 2, "mean", torch.tensor([[9.0, 9.0], [1.0, 0.0], [3.0, 4.0], [5.0, 8.0], [0.0, 0.0]]))
    pooled = pool(torch.tensor([[2, 3, PAD, PAD], [1, PAD, PAD, PAD], [PAD, PAD, PAD, PAD]]))
    assert torch.equal(pooled, torch.tensor([[4.0, 6.0], [1.0, 0.0], [0.0, 0.0]]))
    pooled.sum().backward()
    assert pool.table.weight.grad is not None
    assert not bool(pool.table.weight.grad[PAD].any())


def test_pooling_tells_the_first_piece_from_the_rest() -> None:
    """Pieces in the wrong order: the first one is where a word's case and stem are."""
    pool = PieceEmbedding(4, 2, "first_mean", torch.tensor([[9.0, 9.0], [1.0, 0.0], [3.0, 4.0], [5.0, 8.0]]))
    pooled = pool(torch.tensor([[2, 3, PAD], [3, 2, PAD], [1, PAD, PAD]]))
    assert torch.equal(pooled, torch.tensor([[3.0, 4.0, 4.0, 6.0], [5.0, 8.0, 4.0, 6.0], [1.0, 0.0, 1.0, 0.0]]))
    assert pool.word_width == 4


def test_pooling_knows_where_a_word_ends() -> None:
    """The last column of a padded word in place of its last piece, or nothing for a word of one piece."""
    pool = PieceEmbedding(4, 1, "first_mean_last", torch.tensor([[9.0], [1.0], [3.0], [5.0]]))
    pooled = pool(torch.tensor([[2, 3, PAD], [3, 2, 1], [1, PAD, PAD], [PAD, PAD, PAD]]))
    assert torch.equal(pooled, torch.tensor([[3.0, 4.0, 5.0], [5.0, 3.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert pool.word_width == 3


def test_pooling_leaves_the_given_table_alone() -> None:
    """The teacher's reduced table is used again; its first row must not be cleared in place."""
    table = torch.ones(3, 2)
    PieceEmbedding(3, 2, "mean", table)
    assert torch.equal(table, torch.ones(3, 2))


def test_reduction_keeps_the_principal_directions() -> None:
    """Columns in ascending order, or of another matrix, would start the student from the least telling directions."""
    table = torch.randn(40, 6, dtype=torch.float64) * torch.tensor([5.0, 0.1, 3.0, 0.1, 1.0, 0.1], dtype=torch.float64)
    rows = [3, 0, 7, 12, 25, 30, 31, 39, 8, 9]
    reduced = reduce_table(table.float(), rows, 3).double()
    assert reduced.shape == (10, 3)
    assert reduced.square().mean().item() == pytest.approx(1.0, abs=1e-5)
    sizes = reduced.square().sum(dim=0)
    assert bool((sizes[:-1] > sizes[1:]).all())
    chosen = table[torch.tensor(rows)]
    left, values, _ = torch.linalg.svd(chosen - chosen.mean(dim=0), full_matrices=False)
    expected = left[:, :3] * values[:3]
    similarity = F.cosine_similarity(reduced, expected, dim=0).abs()
    torch.testing.assert_close(similarity, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-5)
    assert torch.equal(reduce_table(table.float(), rows, 3), reduce_table(table.float(), rows, 3))

"""What every registered loss term must do; a new one needs no line here unless it reads a signal that nobody read before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES, LossTerm, Widths
from nerdistill.students.base import ModelOutput, Options

K, H, A, V = 7, 6, 2, 5
SIGNALS = ("tags", "teacher_logits", "teacher_hidden", "teacher_attention", "teacher_pieces", "same_piece", "masked_pieces")
NAMES = list(LOSSES)
FAST = settings(max_examples=15)
LENGTHS = st.lists(st.integers(1, 6), min_size=2, max_size=5)

pytestmark = pytest.mark.parametrize("name", NAMES)


def build(name: str, seed: int = 0) -> LossTerm:
    """The term with its default options, its projection square, so that a student's state can equal the teacher's."""
    kind = LOSSES.get(name)
    unknown = kind.needs - set(SIGNALS)
    if unknown:
        pytest.fail(f"the loss '{name}' reads {sorted(unknown)}: make them in `case` and add them to SIGNALS")
    torch.manual_seed(seed)
    return kind.build(kind.options(), Widths((H,), H, (1,), A, A))


def case(lengths: list[int], seed: int = 0, extra: int = 0) -> tuple[ModelOutput, dict[str, Tensor]]:
    """Random outputs and targets for sentences of these lengths, with `extra` more columns of padding that are not zero."""
    draw = torch.Generator().manual_seed(seed)
    size = (len(lengths), max(lengths) + extra)
    mask = torch.arange(size[1]) < torch.tensor(lengths)[:, None]
    logits, hidden, scores = torch.empty(*size, K), torch.empty(*size, H), torch.full((size[0], A, size[1], size[1]), 50.0)
    pieces = torch.empty(*size, V)
    batch = {
        "word_mask": mask,
        "lengths": torch.tensor(lengths),
        "tags": torch.zeros(size, dtype=torch.int64),
        "teacher_logits": torch.empty(*size, K),
        "teacher_hidden": torch.empty(*size, 1, H),
        "teacher_attention": torch.full((size[0], 1, A, size[1], size[1]), -50.0),
        "teacher_pieces": torch.empty(*size, V),
        "same_piece": torch.ones(size, dtype=torch.bool),
        "masked_pieces": torch.zeros(size, dtype=torch.int64),
    }
    for row, length in enumerate(lengths):  # sentence by sentence, so that words do not depend on the padding
        for values in (logits, hidden, pieces, batch["teacher_logits"], batch["teacher_hidden"][:, :, 0], batch["teacher_pieces"]):
            values[row] = 50.0
            values[row, :length] = 2 * torch.randn(length, values.shape[-1], generator=draw)
        for maps in (scores, batch["teacher_attention"][:, 0]):
            maps[row, :, :length, :length] = torch.randn(A, length, length, generator=draw)
        batch["tags"][row, :length] = torch.randint(0, K, (length,), generator=draw)
        batch["same_piece"][row, 1:length] = torch.randint(0, 2, (length - 1,), generator=draw).bool()
        batch["masked_pieces"][row, 1:length] = torch.randint(-1, V, (length - 1,), generator=draw)
    return ModelOutput(logits.requires_grad_(), (hidden.requires_grad_(),), (scores.requires_grad_(),), pieces.requires_grad_()), batch


def rows(output: ModelOutput, batch: Mapping[str, Tensor], start: int, stop: int) -> tuple[ModelOutput, dict[str, Tensor]]:
    """Some sentences of a batch, cut to their own longest."""
    longest = int(batch["lengths"][start:stop].max())
    part = {key: value[start:stop] if value.ndim == 1 else value[start:stop, :longest] for key, value in batch.items()}
    part["teacher_attention"] = batch["teacher_attention"][start:stop, :, :, :longest, :longest]
    scores = output.attention[0][start:stop, :, :longest, :longest]
    words = (values[start:stop, :longest] for values in (output.logits, output.hidden[0], output.asked_pieces))
    logits, hidden, pieces = words
    return ModelOutput(logits, (hidden,), (scores,), pieces), part


def open_floats(model: type[Options]) -> list[str]:
    return [key for key, field in model.model_fields.items() if field.annotation is float]


def test_value_is_a_finite_float32_scalar(name: str) -> None:
    """A mean per sentence or a half-precision sum would pass silently through the loop's division."""
    total = build(name)(*case([4, 2]))
    assert total.shape == ()
    assert total.dtype == torch.float32
    assert bool(torch.isfinite(total))
    assert total.item() > 0


def test_zero_at_equality(name: str) -> None:
    """A distance that is not zero where student and teacher agree is not the distance that its name says."""
    term = build(name)
    if not term.zero_at_equality:
        pytest.skip("does not claim it")
    _, batch = case([4, 2])
    for module in term.modules():
        if isinstance(module, nn.Linear):
            nn.init.eye_(module.weight)
            nn.init.zeros_(module.bias)
    equal = (batch[f"teacher_{name}"].clone() for name in ("logits", "hidden", "attention", "pieces"))
    logits, hidden, attention, pieces = equal
    total = term(ModelOutput(logits, (hidden[:, :, 0],), (attention[:, 0],), pieces), batch)
    assert total.item() == pytest.approx(0.0, abs=1e-5)


@FAST
@given(lengths=LENGTHS, seed=st.integers(0, 99), data=st.data())
def test_sums_and_counts_add_over_micro_batches(name: str, lengths: list[int], seed: int, data: st.DataObject) -> None:
    """A mean inside the term would make gradient accumulation weigh short batches more."""
    term = build(name)
    output, batch = case(lengths, seed)
    cut = data.draw(st.integers(1, len(lengths) - 1))
    parts = [rows(output, batch, 0, cut), rows(output, batch, cut, len(lengths))]
    torch.testing.assert_close(term(output, batch), torch.stack([term(*part) for part in parts]).sum(), rtol=1e-4, atol=1e-4)
    assert int(term.count(batch)) == sum(int(term.count(part)) for _, part in parts)


@FAST
@given(lengths=LENGTHS, seed=st.integers(0, 99), extra=st.integers(1, 4))
def test_padding_changes_nothing(name: str, lengths: list[int], seed: int, extra: int) -> None:
    """Wider batches would weigh padding as the published code does."""
    term = build(name)
    narrow, wide = case(lengths, seed), case(lengths, seed, extra)
    torch.testing.assert_close(term(*narrow), term(*wide), rtol=1e-4, atol=1e-4)
    assert int(term.count(narrow[1])) == int(term.count(wide[1]))


@FAST
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_only_real_words_get_a_gradient(name: str, lengths: list[int], seed: int) -> None:
    """A gradient at padding would train the student on nothing."""
    output, batch = case(lengths, seed, extra=2)
    build(name)(output, batch).backward()
    words = batch["word_mask"]
    pairs = (words[:, None, :, None] & words[:, None, None, :]).expand_as(output.attention[0])
    masks = [(output.logits, words), (output.hidden[0], words), (output.attention[0], pairs), (output.asked_pieces, words)]
    grads = [(values.grad, mask) for values, mask in masks if values.grad is not None]
    assert grads
    for grad, mask in grads:
        assert not bool(grad[~mask].any())
        assert bool(torch.isfinite(grad).all())
    # A sentence of one word attends to itself with certainty, whatever the score.
    assert any(bool(grad[mask].any()) for grad, mask in grads) or max(lengths) == 1


def test_no_gradient_reaches_the_targets(name: str) -> None:
    """A live teacher would be pulled towards the student."""
    output, batch = case([4, 2])
    targets = [batch[key].requires_grad_() for key in batch if batch[key].is_floating_point()]
    build(name)(output, batch).backward()
    assert all(target.grad is None or not bool(target.grad.any()) for target in targets)


def test_nothing_to_count_gives_zero(name: str) -> None:
    """A batch without counted words would divide by zero, or leave a NaN in the weights."""
    output, batch = case([3, 3])
    batch["word_mask"] = torch.zeros_like(batch["word_mask"])
    term = build(name)
    total = term(output, batch)
    total.backward()
    assert total.item() == 0.0
    assert int(term.count(batch)) == 0
    for values in (output.logits, *output.hidden, *output.attention, output.asked_pieces, *term.parameters()):
        assert values.grad is None or not bool(values.grad.any())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_finite_with_half_precision(name: str, dtype: torch.dtype) -> None:
    """Stored signals are float16: a square of its largest value, or an exponential, overflows if it is not widened first."""
    output, batch = case([4, 2])
    for key in ("teacher_logits", "teacher_hidden", "teacher_pieces"):
        batch[key] = (batch[key] * 100).to(dtype)
        batch[key][0, 0] = 6e4
        batch[key][0, 1, 0] = -6e4
    total = build(name)(output, batch)
    total.backward()
    assert total.dtype == torch.float32
    assert bool(torch.isfinite(total))
    for values in (output.logits, *output.hidden, *output.attention, output.asked_pieces):
        assert values.grad is None or bool(torch.isfinite(values.grad).all())
    half, pieces = (values.detach().to(torch.bfloat16) for values in (output.logits, output.asked_pieces))
    narrow = ModelOutput(half, (output.hidden[0].detach(),), (output.attention[0].detach(),), pieces)
    assert build(name)(narrow, batch).dtype == torch.float32


def test_reads_what_it_declares(name: str) -> None:
    """A stage is given only the signals that its terms declare; one read beside them fails hours later."""
    kind, term = LOSSES.get(name), build(name)
    assert kind.needs == term.needs
    output, batch = case([4, 2])
    declared = {key: value for key, value in batch.items() if key in term.needs or key in ("word_mask", "lengths")}
    assert torch.equal(term(output, batch), term(output, declared))
    for key in term.needs:
        with pytest.raises(KeyError, match=key):
            term(output, {other: value for other, value in declared.items() if other != key})


def test_first_weights_do_not_depend_on_what_ran_before(name: str) -> None:
    """A run continued in a new process would start another projection than the uninterrupted one."""
    one, other = build(name, seed=1).state_dict(), build(name, seed=2).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_begins_with_what_fits_the_words_that_count(name: str) -> None:
    """Padding would pull the first weights to where no word is; a student whose states do not differ, or none at all, would leave NaN."""
    narrow, wide = case([4, 3, 6], 0), case([4, 3, 6], 0, 3)
    term, other = build(name), build(name)
    term.begin([narrow])
    other.begin([wide])
    for one, two in zip(term.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    output, batch = case([3, 3])
    same = ModelOutput(output.logits, (torch.ones_like(output.hidden[0]),), output.attention, output.pieces)
    first = {key: weight.detach().clone() for key, weight in other.named_parameters()}
    other.begin([(output, batch | {"word_mask": torch.zeros_like(batch["word_mask"])})])
    assert all(torch.equal(weight, first[key]) for key, weight in other.named_parameters())
    other.begin([(same, batch)])
    assert bool(torch.isfinite(other(same, batch)))


def test_options_refuse_nonsense(name: str) -> None:
    """A misspelt or infinite option would be ignored, or turn the loss into a constant."""
    model = LOSSES.get(name).options
    with pytest.raises(ValidationError):
        model.model_validate({"no_such_option": 1})
    for key in open_floats(model):
        for value in (float("nan"), float("inf"), -float("inf")):
            with pytest.raises(ValidationError):
                model.model_validate({key: value})
    options: Any = model()
    with pytest.raises(ValidationError):
        options.no_such_option = 1


def test_says_what_it_lacks(name: str) -> None:
    """A loss over states that were never stored must be refused before the first step, by name."""
    kind = LOSSES.get(name)
    lacking = kind.needs & {"teacher_hidden", "teacher_attention"}
    if not lacking:
        kind.build(kind.options(), Widths((H,), 0))
        return
    with pytest.raises(ConfigError, match=r"signals\.width|heads"):
        kind.build(kind.options(), Widths((H,), 0))

"""Each loss on numbers worked out by hand; the derivation stands in the docstring."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nerdistill.errors import ConfigError
from nerdistill.losses.base import LOSSES, LossTerm, Widths
from nerdistill.losses.hidden_kl import HiddenKL
from nerdistill.losses.hidden_mse import HiddenMSE
from nerdistill.students.base import ModelOutput

NONE = torch.zeros(1, 1, 1)


def build(name: str, **options: float) -> LossTerm:
    kind = LOSSES.get(name)
    return kind.build(kind.options.model_validate(options), Widths((2,), 2, (6,)))


def words(*values: list[float]) -> Tensor:
    """One sentence, a row a word."""
    return torch.tensor([values])


def test_every_loss_has_a_hand_value() -> None:
    """A loss is added without anybody having worked out one number of it."""
    source = {name for name in globals() if name.startswith("test_")}
    missing = [name for name in LOSSES if not any(test.startswith(f"test_{name}") for test in source)]
    assert not missing, f"write test_{missing[0]}_... in this file, with the derivation in its docstring"


def test_hard_tags_is_minus_log_of_the_gold_tag() -> None:
    """Logits (0, ln 3): probabilities 1/4, 3/4. Gold 1 then gold 0: -ln 3/4 - ln 1/4 = ln 16/3. A third, padded word adds nothing."""
    logits = words([0.0, math.log(3)], [0.0, math.log(3)], [9.0, -9.0])
    batch = {"tags": torch.tensor([[1, 0, 1]]), "word_mask": torch.tensor([[True, True, False]])}
    assert build("hard_tags")(ModelOutput(logits, (NONE,)), batch).item() == pytest.approx(math.log(16 / 3))


def test_hard_tags_where_a_type_is_not_annotated() -> None:
    """Probabilities 1/8 of O, 4/8 of B-X, 2/8 of I-X, 1/8 of B-Y; X is not annotated.

    Gold O means O or X: -ln(1/8 + 4/8 + 2/8) = ln 8/7. Gold B-Y means itself: ln 8. The sentence beside it annotates everything: -ln 1/8.
    """
    logits = torch.log(torch.tensor([1.0, 4.0, 2.0, 1.0])).expand(2, 2, 4)
    batch = {
        "tags": torch.tensor([[0, 3], [0, 0]]),
        "unannotated": torch.tensor([[False, True, True, False], [False] * 4]),
        "word_mask": torch.tensor([[True, True], [True, False]]),
    }
    expected = math.log(8 / 7) + math.log(8) + math.log(8)
    assert build("hard_tags")(ModelOutput(logits, (NONE,)), batch).item() == pytest.approx(expected, rel=1e-6)


def test_soft_tags_at_temperature_one() -> None:
    """Teacher (1/2, 1/2), student (1/4, 3/4): 1/2 ln 2 + 1/2 ln 2/3 = 1/2 ln 4/3. The other direction would be 0.1308, not 0.1438."""
    batch = {"teacher_logits": words([0.0, 0.0]), "word_mask": torch.tensor([[True]])}
    total = build("soft_tags")(ModelOutput(words([0.0, math.log(3)]), (NONE,)), batch)
    assert total.item() == pytest.approx(0.5 * math.log(4 / 3))


def test_soft_tags_at_temperature_two() -> None:
    """Student logits (0, ln 9) at T = 2 are (0, ln 3): the divergence of the test above, times T^2 = 4. A second equal word adds 0."""
    batch = {"teacher_logits": words([1.0, 1.0], [3.0, 2.0]), "word_mask": torch.tensor([[True, True]])}
    total = build("soft_tags", temperature=2.0)(ModelOutput(words([0.0, math.log(9)], [3.0, 2.0]), (NONE,)), batch)
    assert total.item() == pytest.approx(4 * 0.5 * math.log(4 / 3))


def test_logit_mse_after_centring() -> None:
    """Differences (3, 0, 0) have mean 1, centred (2, -1, -1): 1/2 * (4 + 1 + 1) / 3 = 1. Differences (7, 7, 7) are no difference."""
    batch = {"teacher_logits": words([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]), "word_mask": torch.tensor([[True, True]])}
    total = build("logit_mse")(ModelOutput(words([4.0, 2.0, 3.0], [7.0, 7.0, 7.0]), (NONE,)), batch)
    assert total.item() == pytest.approx(1.0)


def test_hidden_mse_through_its_projection() -> None:
    """State (1, 2), W = ((1, 0), (1, 1)), b = (0, 1): (1, 4). Teacher (3, 1): ((1-3)^2 + (4-1)^2) / 2 = 6.5. Last state."""
    term = build("hidden_mse")
    assert isinstance(term, HiddenMSE)
    with torch.no_grad():
        term.pair.adapter.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        term.pair.adapter.bias.copy_(torch.tensor([0.0, 1.0]))
    batch = {"teacher_hidden": words([3.0, 1.0], [9.0, 9.0])[:, :, None], "word_mask": torch.tensor([[True, False]])}
    total = term(ModelOutput(NONE, (words([5.0, 5.0], [5.0, 5.0]), words([1.0, 2.0], [8.0, 8.0]))), batch)
    assert total.item() == pytest.approx(6.5)


@pytest.mark.parametrize("name", ["hidden_mse", "hidden_kl", "feature_map"])
def test_the_map_begins_as_a_ridge_regression(name: str) -> None:
    """States 1 and 3 in two batches, teacher (1, 0) and (5, 0): about their means 2 and (3, 0) they are -1, 1 and (-2, 0), (2, 0).

    X'X = 2 in one feature, penalty 0.1 * 2; X'T = (4, 0): W = (4, 0) / 2.2; b = (3, 0) - 2 W. The padded word is far off.
    """
    kind = LOSSES.get(name)
    term = kind.build(kind.options(), Widths((1,), 2, (6,)))
    seen = [
        (
            ModelOutput(NONE, (words([state], [50.0]),)),
            {"teacher_hidden": words([teacher, 0.0], [9.0, 9.0])[:, :, None], "word_mask": torch.tensor([[True, False]])},
        )
        for state, teacher in ((1.0, 1.0), (3.0, 5.0))
    ]
    term.begin(seen)
    weight, bias = (dict(term.named_parameters())[f"pair.adapter.{part}"] for part in ("weight", "bias"))
    assert weight.flatten().tolist() == pytest.approx([4 / 2.2, 0.0])
    assert bias.tolist() == pytest.approx([3 - 8 / 2.2, 0.0])


def test_hidden_kl_over_features() -> None:
    """State (0, ln 3) through W = 1, b = 0: features (1/4, 3/4). Teacher layer 9, the second stored, (0, 0): (1/2, 1/2).

    KL = 1/2 ln 2 + 1/2 ln 2/3 = 1/2 ln 4/3, as for tags; layer 6 beside it would give ln-odds of (5, 5), the same features, so (5, 0).
    """
    kind = LOSSES.get("hidden_kl")
    term = kind.build(kind.options.model_validate({"layer": 9}), Widths((2,), 2, (6, 9)))
    assert isinstance(term, HiddenKL)
    with torch.no_grad():
        term.pair.adapter.weight.copy_(torch.eye(2))
        term.pair.adapter.bias.zero_()
    batch = {"teacher_hidden": torch.tensor([[[[5.0, 0.0], [0.0, 0.0]]]]), "word_mask": torch.tensor([[True]])}
    total = term(ModelOutput(NONE, (words([0.0, math.log(3)]),)), batch)
    assert total.item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"), [({"layer": 7}, "signals.layers"), ({"state": 1}, "1 states"), ({"state": -2}, "1 states")]
)
def test_states_that_are_not_there_are_a_message(options: dict[str, int], message: str) -> None:
    """A layer that was not stored, or a state that the student has not, must be found before the first step."""
    kind = LOSSES.get("hidden_mse")
    with pytest.raises(ConfigError, match=message):
        kind.build(kind.options.model_validate(options), Widths((2,), 2, (6,)))


def test_in_mixed_batches_each_term_counts_its_own_sentences() -> None:
    """One sentence without tags, one without signals: each term sees one sentence, its value is that sentence's alone."""
    logits = torch.tensor([[[0.0, math.log(3)]], [[0.0, math.log(3)]]])
    batch = {
        "tags": torch.tensor([[1], [0]]),
        "teacher_logits": torch.zeros(2, 1, 2),
        "word_mask": torch.tensor([[True], [True]]),
        "without_tags": torch.tensor([False, True]),
        "without_signals": torch.tensor([True, False]),
    }
    output = ModelOutput(logits, (NONE,))
    hard, soft = build("hard_tags"), build("soft_tags")
    assert (hard.count(batch).item(), soft.count(batch).item()) == (1, 1)
    assert hard(output, batch).item() == pytest.approx(math.log(4 / 3))
    assert soft(output, batch).item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-5)


def test_soft_pieces_at_temperature_two() -> None:
    """Student scores (0, ln 9), teacher (0, 0): KL as for tags, 1/2 ln 4/3, times T^2 = 4. A word that begins otherwise counts nothing."""
    batch = {
        "teacher_pieces": words([0.0, 0.0], [9.0, 0.0], [9.0, 0.0]),
        "same_piece": torch.tensor([[True, False, True]]),
        "word_mask": torch.tensor([[True, True, False]]),
    }
    term = build("soft_pieces")
    output = ModelOutput(NONE, (NONE,), pieces=words([0.0, math.log(9)], [0.0, 5.0], [0.0, 5.0]))
    assert term(output, batch).item() == pytest.approx(4 * 0.5 * math.log(4 / 3), rel=1e-6)
    assert term.count(batch).item() == 1


def test_masked_lm_asks_for_masked_words_alone() -> None:
    """Scores (0, ln 3): probabilities 1/4, 3/4. Piece 0 was masked: ln 4. The next word was not, the third is padding."""
    batch = {"masked_pieces": torch.tensor([[0, -1, 1]]), "word_mask": torch.tensor([[True, True, False]])}
    term = build("masked_lm")
    output = ModelOutput(NONE, (NONE,), pieces=words([0.0, math.log(3)], [7.0, -7.0], [7.0, -7.0]))
    assert term(output, batch).item() == pytest.approx(math.log(4), rel=1e-6)
    assert term.count(batch).item() == 1


def test_hidden_cosine_of_the_last_states() -> None:
    """(3, 4) and (4, 3): cosine 24 / 25, distance 1/25, whatever the lengths; (1, 0) and (-2, 0): distance 2. The last of two layers."""
    kind = LOSSES.get("hidden_cosine")
    term = kind.build(kind.options(), Widths((2, 2), 2, (0, 1)))
    teacher = torch.stack([words([1.0, 0.0], [1.0, 0.0]), words([8.0, 6.0], [-2.0, 0.0])], dim=2)
    batch = {"teacher_hidden": teacher, "word_mask": torch.tensor([[True, True]])}
    output = ModelOutput(NONE, (words([9.0, 9.0], [9.0, 9.0]), words([3.0, 4.0], [1.0, 0.0])))
    assert term(output, batch).item() == pytest.approx(1 / 25 + 2, rel=1e-6)


def test_hidden_cosine_needs_equal_widths() -> None:
    """States of other widths cannot be compared, and a map between them would be another loss."""
    kind = LOSSES.get("hidden_cosine")
    with pytest.raises(ConfigError, match="width 2 and the teacher's 3"):
        kind.build(kind.options(), Widths((2,), 3, (0, 1)))


def test_pieces_that_nobody_asked_for_are_said_to_be_missing() -> None:
    """A stage whose student has no head for pieces would end in an error about None."""
    batch = {"masked_pieces": torch.tensor([[0]]), "word_mask": torch.tensor([[True]])}
    with pytest.raises(ValueError, match="not asked for"):
        build("masked_lm")(ModelOutput(NONE, (NONE,)), batch)


def attention(on: str) -> tuple[LossTerm, dict[str, Tensor], ModelOutput]:
    """Two words and a padded one; one head. Student scores: 0 everywhere. Teacher: ln 3 for the first key of the first word, else 0."""
    kind = LOSSES.get("attention_mse")
    term = kind.build(kind.options.model_validate({"on": on}), Widths((2,), 2, (0, 1), 1, 1))
    teacher = torch.zeros(1, 1, 1, 3, 3)
    teacher[..., 0, 0] = math.log(3)
    teacher[..., 2] = teacher[..., 2, :] = 7.0
    batch = {"teacher_attention": teacher, "word_mask": torch.tensor([[True, True, False]])}
    return term, batch, ModelOutput(NONE, (NONE,), (torch.zeros(1, 1, 3, 3),))


def test_attention_mse_on_raw_scores() -> None:
    """First word: ((ln 3)^2 + 0) / 2 keys; second: 0. The padded key and query, 7 apart, count nothing."""
    term, batch, output = attention("raw_scores")
    assert term(output, batch).item() == pytest.approx(math.log(3) ** 2 / 2, rel=1e-6)


def test_attention_mse_on_scores() -> None:
    """First word: differences (ln 3, 0) less their mean (ln 3) / 2 of two real keys, ((ln 3)^2 / 4 + (ln 3)^2 / 4) / 2 = (ln 3)^2 / 4.

    Second: 0, also where the teacher has 5 more for each of its keys, of which the softmax says nothing.
    """
    term, batch, output = attention("scores")
    batch["teacher_attention"][..., 1, :] += 5.0
    assert term(output, batch).item() == pytest.approx(math.log(3) ** 2 / 4, rel=1e-6)


def test_attention_mse_on_probabilities() -> None:
    """First word: teacher (3/4, 1/4), student (1/2, 1/2): (1/16 + 1/16) / 2 keys = 1/16; second: 0."""
    term, batch, output = attention("probabilities")
    assert term(output, batch).item() == pytest.approx(1 / 16, rel=1e-6)


def test_attention_needs_as_many_heads() -> None:
    """Head by head with another number of heads is no comparison."""
    kind = LOSSES.get("attention_mse")
    with pytest.raises(ConfigError, match="2 heads and the teacher 12"):
        kind.build(kind.options(), Widths((2,), 2, (0, 1), 2, 12))


def feature_map(**options: float) -> tuple[LossTerm, ModelOutput, dict[str, Tensor]]:
    """Two words and a padded one; of two states the first, of the teacher's layers 0 and 1 the second."""
    kind = LOSSES.get("feature_map")
    term = kind.build(kind.options.model_validate({"state": 0, "layer": 1, **options}), Widths((2, 2), 2, (0, 1)))
    state = words([1.0, 3.0], [0.0, 2.0], [9.0, 1.0])
    teacher = torch.stack([words([5.0, 5.0], [5.0, 5.0], [5.0, 5.0]), words([6.0, 2.0], [0.0, 2.0], [-7.0, 3.0])], dim=2)
    batch = {"teacher_hidden": teacher, "word_mask": torch.tensor([[True, True, False]])}
    return term, ModelOutput(NONE, (state, 8 * state)), batch


def test_feature_map_is_the_sum_of_its_parts() -> None:
    """First word: student (1, 3), mean 2, variance 1, normalised (-1, 1); teacher (6, 2), mean 4, variance 4, normalised (1, -1).

    Normalised features (2^2 + 2^2) / 2 = 4, means (4 - 2)^2 = 4, variances |4 - 1| = 3: 4 + 50 * 4 + 0.05 * 3 = 204.15. The second word is
    equal, the third padding. The biased variance: the other would be 2 and 8, and 4 + 200 + 0.3.
    """
    term, output, batch = feature_map()
    assert term(output, batch).item() == pytest.approx(204.15, rel=1e-5)
    assert not list(term.parameters()), "states of one width are compared as they are"


def test_feature_map_parts_can_be_left_out() -> None:
    """Each part alone: 4, 4 + 4, 4 + 3."""
    for options, expected in (({"mean": 0, "variance": 0}, 4), ({"mean": 1, "variance": 0}, 8), ({"mean": 0, "variance": 1}, 7)):
        term, output, batch = feature_map(**options)
        assert term(output, batch).item() == pytest.approx(expected, rel=1e-4)


def test_feature_map_of_another_width_goes_through_a_map() -> None:
    """State (2), W = (1, 3), b = (0, -4): (2, 2), mean 2, variance 0, normalised (0, 0). Teacher (1, 3): 2, 1, (-1, 1).

    (1 + 1) / 2 + 0 + 0.05 * 1 = 1.05.
    """
    kind = LOSSES.get("feature_map")
    term = kind.build(kind.options(), Widths((1,), 2, (3,)))
    weight, bias = (dict(term.named_parameters())[f"pair.adapter.{name}"] for name in ("weight", "bias"))
    with torch.no_grad():
        weight.copy_(torch.tensor([[1.0], [3.0]]))
        bias.copy_(torch.tensor([0.0, -4.0]))
    batch = {"teacher_hidden": words([1.0, 3.0])[:, :, None], "word_mask": torch.tensor([[True]])}
    assert term(ModelOutput(NONE, (words([2.0]),)), batch).item() == pytest.approx(1.05, rel=1e-4)


def test_attention_kl_over_real_words() -> None:
    """First word, teacher (3/4, 1/4), student (1/2, 1/2): 3/4 ln 3/2 + 1/4 ln 1/2; second word: 0. The other direction: 1/2 ln 4/3.

    The padded key, 7 above in the teacher, and the padded query count nothing. A second head that is equal halves the mean.
    """
    kind = LOSSES.get("attention_kl")
    _, batch, output = attention("scores")
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    term = kind.build(kind.options(), Widths((2,), 2, (0, 1), 1, 1))
    assert term(output, batch).item() == pytest.approx(expected, rel=1e-5)
    equal = torch.zeros(1, 1, 1, 3, 3)
    both = {**batch, "teacher_attention": torch.cat([batch["teacher_attention"], equal], dim=2)}
    term = kind.build(kind.options(), Widths((2,), 2, (0, 1), 2, 2))
    assert term(ModelOutput(NONE, (NONE,), (torch.zeros(1, 2, 3, 3),)), both).item() == pytest.approx(expected / 2, rel=1e-5)


def test_attention_kl_reads_the_layers_it_is_told() -> None:
    """Layer 1 of the student against layer 0 of the teacher is 0 here; any other pair is not."""
    kind = LOSSES.get("attention_kl")
    term = kind.build(kind.options.model_validate({"state": 1, "layer": 0}), Widths((2,), 2, (0, 1), 1, 1))
    scores = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    batch = {"teacher_attention": torch.stack([scores, -scores])[None, :, None], "word_mask": torch.tensor([[True, True]])}
    output = ModelOutput(NONE, (NONE,), (torch.zeros(1, 1, 2, 2), scores[None, None] + 3.0))
    assert term(output, batch).item() == pytest.approx(0.0, abs=1e-6)
    assert term(ModelOutput(NONE, (NONE,), (output.attention[1], output.attention[0])), batch).item() > 0.1


def test_attention_kl_needs_as_many_heads() -> None:
    """Head by head with another number of heads is no comparison."""
    kind = LOSSES.get("attention_kl")
    with pytest.raises(ConfigError, match="2 heads and its teacher 12"):
        kind.build(kind.options(), Widths((2,), 2, (0, 1), 2, 12))

"""The teacher's tags and the data's: one map, or a refusal."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nerdistill.errors import ConfigError
from nerdistill.labels import LabelScheme
from nerdistill.teachers.reconcile import merge_logits, reconcile

SCHEME = LabelScheme(("PER", "LOC"))


@given(order=st.permutations(SCHEME.tags), seed=st.integers(0, 99))
def test_order_does_not_matter(order: list[str], seed: int) -> None:
    """Logits matched by position: every person becomes a place, and all scores stay plausible."""
    targets = reconcile(order, SCHEME, None)
    assert [SCHEME.tags[target] for target in targets] == order
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed))
    permuted = logits[..., [SCHEME.tags.index(tag) for tag in order]]
    torch.testing.assert_close(merge_logits(permuted, targets, 5), logits)


def test_a_type_that_the_data_lack_must_be_mapped() -> None:
    """The teacher's MISC would vanish, or become O, without anybody having said so."""
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    with pytest.raises(ConfigError, match=r"\['MISC'\] are not mapped.*label_map"):
        reconcile(tags, SCHEME, None)
    assert reconcile(tags, SCHEME, {"PER": "PER", "LOC": "LOC", "MISC": "O"}) == (0, 1, 2, 3, 4, 0, 0)


def test_a_type_that_the_teacher_lacks_is_refused() -> None:
    """A type that no signal ever supports would be unlearnt from soft targets."""
    with pytest.raises(ConfigError, match=r"nothing leads to \['LOC'\]"):
        reconcile(["O", "B-PER", "I-PER"], SCHEME, None)
    with pytest.raises(ConfigError, match=r"nothing leads to \['LOC'\]"):
        reconcile(["O", "B-PER", "I-PER"], SCHEME, {"PER": "PER", "GPE": "LOC"})


def test_the_map_is_total() -> None:
    """A forgotten line must not fall back to the same name: whoever writes a map says something of every type."""
    tags = ["O", "B-PERSON", "I-PERSON", "B-LOC", "I-LOC", "B-GPE", "I-GPE"]
    with pytest.raises(ConfigError, match=r"\['LOC'\] are not mapped"):
        reconcile(tags, SCHEME, {"PERSON": "PER", "GPE": "LOC"})
    with pytest.raises(ConfigError, match=r"the map names \['PLACE'\]"):
        reconcile(tags, SCHEME, {"PERSON": "PER", "GPE": "PLACE", "LOC": "LOC"})
    assert reconcile(tags, SCHEME, {"PERSON": "PER", "GPE": "LOC", "LOC": "LOC"}) == (0, 1, 2, 3, 4, 3, 4)


@pytest.mark.parametrize("tags", [["O", "PER"], ["O", "B-PER", "E-PER"], ["B-PER", "I-PER"], ["O", "B_PER"], []])
def test_other_schemes_are_refused(tags: list[str]) -> None:
    """S- and E- tags of a BIOES teacher have no counterpart; without O there is nothing to drop to."""
    with pytest.raises(ConfigError, match="expected O and B-/I- tags"):
        reconcile(tags, SCHEME, None)


def test_merged_logits_add_probabilities() -> None:
    """O 1/8, B-PER 2/8, B-GPE 1/8, B-LOC 4/8; GPE and LOC are one type: O 1/8, B-PER 2/8, B-LOC 5/8. The larger of two would give 4/7."""
    logits = torch.log(torch.tensor([[1.0, 2.0, 1.0, 4.0]]))
    merged = merge_logits(logits, (0, 1, 3, 3), 5).softmax(dim=-1)
    torch.testing.assert_close(merged, torch.tensor([[1 / 8, 2 / 8, 0.0, 5 / 8, 0.0]]))


@given(seed=st.integers(0, 99), targets=st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_probabilities_are_kept(seed: int, targets: list[int]) -> None:
    """Whatever is merged or dropped, the probability that arrives at a tag is the sum of what leads there."""
    logits = 3 * torch.randn(4, len(targets), generator=torch.Generator().manual_seed(seed))
    before, after = logits.softmax(dim=-1), merge_logits(logits, targets, 5).softmax(dim=-1)
    for tag in range(5):
        expected = sum((before[:, source] for source, target in enumerate(targets) if target == tag), torch.zeros(4))
        torch.testing.assert_close(after[:, tag], expected, rtol=1e-4, atol=1e-6)


def test_a_tag_without_a_source_is_impossible_and_fits_half_precision() -> None:
    """Minus infinity would become NaN in a squared distance; float16 must hold it."""
    merged = merge_logits(torch.zeros(1, 1), (0,), 3).to(torch.float16)
    assert bool(torch.isfinite(merged).all())
    assert float(merged.float().softmax(dim=-1)[0, 1]) < math.exp(-20)

"""Groups of weights that learn at a share of the stage's rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from pydantic import ValidationError
from torch import Tensor, nn

from nerdistill.corpus.encoded import EncodedCorpus, Encoder
from nerdistill.labels import LabelScheme
from nerdistill.losses.base import LOSSES, Widths
from nerdistill.records import Sentence
from nerdistill.students.base import ModelOutput
from nerdistill.students.vocabulary import Vocabulary
from nerdistill.text.encoder import WordTable
from nerdistill.training.loop import StageRun, run_stage
from nerdistill.training.runlog import RunLog
from nerdistill.training.stage import Optimisation, Stage, Term

SCHEME = LabelScheme(("PER",))


class Tiny(nn.Module):
    """Logits that are the sum of two vectors, of two groups, each with a matrix beside."""

    def __init__(self) -> None:
        super().__init__()
        self.upper = nn.Linear(3, 3)
        self.lower = nn.Linear(3, 3)

    def forward(self, batch: Mapping[str, Tensor]) -> ModelOutput:
        ones = torch.ones(*batch["word_mask"].shape, 3)
        return ModelOutput(self.upper(ones) + self.lower(ones), ())


def run(vocabulary: Vocabulary, folder: Path, **stage: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights before and after one step."""
    torch.manual_seed(0)
    model = Tiny()
    corpus = EncodedCorpus([Sentence(("Anna", "Berlin"), ("B-PER", "O"), "de")], Encoder(WordTable(vocabulary.tokenizer, 1, 0)), SCHEME)
    kind = LOSSES.get("hard_tags")
    plan = Stage(name="a", text="labelled", terms=(Term(loss="hard_tags"),), select="last", **stage)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    terms = [(kind.build(kind.options(), Widths((), 0)), 1.0)]
    log, trainable = RunLog(None, quiet=True), dict(model.named_parameters())
    run_stage(StageRun(plan, model, trainable, terms, corpus, None, folder, "x", 1, log, accelerator=Accelerator(cpu=True)))
    return before, {name: weight.detach() for name, weight in model.named_parameters()}


ONE_STEP = Optimisation(learning_rate=1e-2, schedule="constant", warmup=0.0, epochs=1)


def test_a_group_moves_at_its_share(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Prevents a share that is ignored, is another group's, or is lost with weights of one axis: Adam's first step is the rate's size."""
    before, after = run(vocabulary, tmp_path, optimisation=ONE_STEP, rates={"lower": 0.1})
    for name, weight in after.items():
        expected = 1e-2 if name.startswith("upper") else 1e-3
        np.testing.assert_allclose((weight - before[name]).abs().numpy(), expected, rtol=1e-3, err_msg=name)


def test_without_shares_all_groups_are_alike(vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Prevents a change of stages that name none: their finished work must stay theirs."""
    before, after = run(vocabulary, tmp_path, optimisation=ONE_STEP)
    assert all((weight - before[name]).abs().allclose(torch.tensor(1e-2), rtol=1e-3) for name, weight in after.items())
    plain = Stage(name="a", text="labelled", terms=(Term(loss="hard_tags"),))
    assert "rates" not in plain.model_dump(exclude_defaults=True)
    assert plain.model_copy(update={"rates": {"lower": 0.1}}).model_dump(exclude_defaults=True)["rates"] == {"lower": 0.1}


@pytest.mark.parametrize("share", [0, -1, float("nan"), float("inf")])
def test_a_share_is_a_positive_number(share: float) -> None:
    """Prevents a group that runs away; one that is not to learn is left out of those that do."""
    with pytest.raises(ValidationError):
        Stage(name="a", text="labelled", terms=(Term(loss="hard_tags"),), rates={"lower": share})

"""The comparison at the end of a run: systems that stand side by side are measured alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nerdistill.config import load_config
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps import evaluate as evaluation
from nerdistill.steps.context import Context


def test_students_get_the_threads_of_their_teacher(toy_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents students on all cores beside a teacher on one, which would flatter them in the table."""
    used: list[int] = []
    load: Any = Tagger.load

    def opened(*arguments: Any, **named: Any) -> Tagger:
        tagger: Tagger = load(*arguments, **named)
        used.append(tagger.threads)
        return tagger

    monkeypatch.setattr(Tagger, "load", opened)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        results = evaluation.evaluate(Context(load_config(toy_config), tmp_path / "out", quiet=True, cpu=True))
    finally:
        torch.set_num_threads(before)
    assert used[-2:] == [3, 3]  # earlier ones: whether 8 bits keep the tags
    assert results["machine"]["threads"] == 3

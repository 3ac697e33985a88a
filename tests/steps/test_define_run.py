"""A student with a DeFINE unit in a whole run: first embeddings learnt from the teacher's, and a bundle with the unit folded away."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nerdistill.config import RunConfig, load_config
from nerdistill.errors import ConfigError
from nerdistill.runtime.bundle import open_bundle
from nerdistill.runtime.tagger import Tagger
from nerdistill.steps import build as building
from nerdistill.steps.build import build, make_vocabulary
from nerdistill.steps.context import Context
from nerdistill.steps.distill import distill
from nerdistill.steps.teach import teach

UNIT = "student.options.define={width=4, expand=8, layers=2, groups=2}"


def configured(path: Path, *more: str) -> RunConfig:
    return load_config(path, [UNIT, "student.embeddings='distilled'", "teacher.epochs=1", *more])


def first_weights(config: RunConfig, folder: Path) -> dict[str, torch.Tensor]:
    context = Context(config, folder, quiet=True, cpu=True)
    taught = teach(context)
    return build(context, taught, make_vocabulary(context, taught), config.student.embeddings).state_dict()


def test_table_and_unit_learn_before_the_first_stage(toy_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents 'distilled' from being the principal directions under another name, or from giving other weights each time."""
    monkeypatch.setattr(building, "STEPS", 20)
    plain, learnt, again = (
        first_weights(configured(toy_config, f"student.embeddings='{kind}'"), tmp_path / "run")
        for kind in ("svd", "distilled", "distilled")
    )
    changed = {name for name, weight in plain.items() if not torch.equal(weight, learnt[name])}
    assert changed == {name for name in plain if name.startswith("embeddings.")}
    assert all(torch.equal(learnt[name], again[name]) for name in learnt)


def test_without_a_unit_there_is_nothing_to_learn(toy_config: Path) -> None:
    """Prevents a plain table that silently begins elsewhere than asked for."""
    with pytest.raises(ConfigError, match="DeFINE unit"):
        load_config(toy_config, ["student.embeddings='distilled'"])


def test_a_folded_bundle_tags_alike_and_keeps_what_was_learnt(toy_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents folding that trains anew, replaces the plain bundle, changes tags, or loses the unit for training on."""
    monkeypatch.setattr(building, "STEPS", 5)
    plain = distill(Context(configured(toy_config), tmp_path / "run", quiet=True, cpu=True))
    folded = distill(Context(configured(toy_config, "package.fold=true"), tmp_path / "run", quiet=True, cpu=True))
    assert folded.bundle != plain.bundle
    assert folded.stages == plain.stages
    one, other = (load_file(made.bundle / "model.safetensors") for made in (plain, folded))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert open_bundle(folded.bundle).info.parameters != open_bundle(plain.bundle).info.parameters
    text = "Anna Schmidt besucht Berlin , sagt Herr Braun ."
    assert [(entity.start, entity.label) for entity in Tagger.load(plain.bundle, "fp32")(text)] == [
        (entity.start, entity.label) for entity in Tagger.load(folded.bundle, "fp32")(text)
    ]

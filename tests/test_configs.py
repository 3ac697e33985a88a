"""Every configuration that is shipped can be read and planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerdistill.config import load_config
from nerdistill.evaluation.study_tables import COLUMNS
from nerdistill.steps.benchmark_config import load_benchmark
from nerdistill.steps.distill import plan_of
from nerdistill.steps.study import load_study

ROOT = Path(__file__).parents[1]
ALL = sorted((ROOT / "configs").rglob("*.toml"))
STUDIES = [path for path in ALL if "[[rows]]" in path.read_text(encoding="utf-8")]
BENCHMARKS = [path for path in ALL if "[contestants." in path.read_text(encoding="utf-8")]
CONFIGS = [path for path in ALL if path not in STUDIES + BENCHMARKS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configuration(path: Path) -> None:
    """Prevents a shipped file that the program refuses, and a header that names another command."""
    config = load_config(path)
    assert path.stem == config.name or path.stem.endswith("base")
    assert plan_of(config, config.recipe.name, config.recipe.options)
    assert plan_of(config, "labels_only", config.evaluation.baseline_options)
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(word in header for word in ("needs", "launch"))
    if path.parent.name == "configs":
        assert "leaves" in header
        assert f"nerdistill run {path.relative_to(ROOT)}" in header


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_study(path: Path) -> None:
    """Prevents a study whose last row is found to be wrong hours after the first was begun."""
    study, base, rows = load_study(path)
    assert study.name == path.stem
    for config in (base, *rows):
        assert plan_of(config, config.recipe.name, config.recipe.options)
    assert set(study.columns) <= set(COLUMNS), "a column that no table has"


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_shipped_benchmark(path: Path) -> None:
    """Prevents a shipped benchmark that the program refuses, and a header that names another command."""
    assert load_benchmark(path).name == path.stem
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(word in header for word in ("needs", "launch", "leaves", f"nerdistill benchmark {path.relative_to(ROOT)}"))


def test_quickstart_data_is_sound() -> None:
    """Prevents seed data that lost sentences, languages or marks, or that leak from test into train."""
    from nerdistill.steps.prepare import prepare, read_test

    config = load_config(ROOT / "configs" / "quickstart.toml")
    data = prepare(config)
    assert len(config.data.languages) >= 12
    for language in config.data.languages:
        labelled = [s for part in (data.train, data.dev, read_test(config)) for s in part if s.language == language]
        assert len(labelled) >= 120
        assert {tag[2:] for s in labelled for tag in s.tags or () if tag != "O"} == {"PER", "LOC", "ORG"}
        assert sum(set(s.tags or ()) == {"O"} for s in labelled) >= 10
    assert data.counts["train_dropped_as_held_out"] == 0

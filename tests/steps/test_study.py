"""Studies: rows differ in what they say, share what is equal, and are made once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nerdistill.cli.app import app
from nerdistill.errors import ConfigError
from nerdistill.evaluation.study_tables import study_table
from nerdistill.steps.study import load_study

STUDY = """
name = "small"
title = "Small"
base = "toy.toml"
teacher_paper = { f1_mean = 0.9 }
columns = ["F1", "kept", "labels alone", "parameters", "MB int8", "pieces a word", "words/s", "faster int8", "paper F1", "paper kept"]

[[rows]]
name = "D4.1"
set = { recipe.options.strategy = "D4.1" }
paper = { f1_mean = 0.45 }

[[rows]]
name = "D1"
set = { recipe.options.strategy = "D1", student = { options.hidden_width = 4 } }

[[rows]]
name = "D0"
separate = true
set = { recipe.options.strategy = "D0" }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_change_what_they_name_and_nothing_else(toy_config: Path) -> None:
    """A row that loses the base's other settings in a table, or leaks its own into the next row."""
    study, base, rows = load_study(write(toy_config.parent, STUDY), ["recipe.options.temperature=2.0"])
    assert [row.recipe.options["strategy"] for row in rows] == ["D4.1", "D1", "D0"]
    assert "strategy" not in base.recipe.options
    assert all(row.recipe.options["temperature"] == 2.0 and row.recipe.options["logits"] == base.recipe.options["logits"] for row in rows)
    assert rows[1].student.options == {**base.student.options, "hidden_width": 4}
    assert rows[0].student == base.student
    assert [row.separate for row in study.rows] == [False, False, True]


def test_a_row_starts_from_the_row_that_it_is_like(toy_config: Path) -> None:
    """A row that silently starts from the base again, or an ablation of another student than the one above it."""
    more = STUDY.replace('base = "toy.toml"', 'base = "toy.toml"\nset = { seed = 9 }')
    more += '\n[[rows]]\nname = "narrower"\nlike = "D1"\nset = { recipe.options.temperature = 3.0 }\n'
    _, base, rows = load_study(write(toy_config.parent, more))
    assert base.seed == rows[0].seed == 9
    assert rows[3].student == rows[1].student
    assert rows[3].recipe.options == {**rows[1].recipe.options, "temperature": 3.0}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "D1"\n', 'name = "D1"\nlike = "D0"\n', "row 'D1' is like 'D0'"),
        ('name = "D1"', 'name = "D4.1"', "two rows"),
        ("separate = true", "apart = true", "apart"),
        ('base = "toy.toml"', 'base = "none.toml"', "none.toml"),
        ("student = {", "studnet = {", "row 'D1'.*studnet"),
        ("title", "title =", "TOML"),
    ],
)
def test_faults_are_named(toy_config: Path, old: str, new: str, message: str) -> None:
    """A study runs for hours: what is wrong in its last row must be said before the first."""
    with pytest.raises(ConfigError, match=message):
        load_study(write(toy_config.parent, STUDY.replace(old, new, 1)))


def test_a_study_fills_its_table_once(toy_config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Rows put to the wrong name by workers that end in another order; rows trained again by a second call."""
    path = write(toy_config.parent, STUDY)
    command = ["study", str(path), "--out", str(tmp_path / "out"), "--results", str(tmp_path / "results"), "--cpu"]
    ran = CliRunner().invoke(app, [*command, "--workers", "2"])
    assert ran.exit_code == 0, ran.output
    told = capfd.readouterr().err
    for line in ("  D4.1: labels ", "  D1: student: ", "  D0, zh: labels "):
        assert line in told, "hours without a word of how far each row is"
    results = json.loads((tmp_path / "results" / "small.json").read_text())
    rows = {row["system"]: row for row in results["rows"]}
    assert list(rows) == ["teacher", "D4.1", "D1", "D0"]
    assert rows["D1"]["parameters"] < rows["D4.1"]["parameters"] < rows["teacher"]["parameters"]
    assert set(rows["D0"]["f1_by_language"]) == {"de", "no", "ar", "zh"}
    assert rows["D4.1"]["paper"] == {"f1_mean": 0.45}
    assert rows["D4.1"]["words_per_second"] > 0 < rows["D4.1"]["words_per_second_int8"]
    assert rows["D4.1"]["bytes"] > rows["D4.1"]["bytes_int8"]
    assert "bundle" not in json.dumps(results["rows"]), "a path of this machine is published"
    table = study_table(results)
    assert table.split("\n")[0] == (
        "|  | F1 | labels alone | parameters | MB int8 | pieces a word | words/s | faster int8 | paper F1 | paper kept |"
    ), "no share of a teacher that finds nothing"
    assert "| 45.0 | 50.0 |" in table
    stages = sorted((tmp_path / "out" / "stages").iterdir())
    times = [stage.stat().st_mtime_ns for stage in stages]
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert sorted((tmp_path / "out" / "stages").iterdir()) == stages
    assert [stage.stat().st_mtime_ns for stage in stages] == times
    new = {row["system"]: row for row in json.loads((tmp_path / "results" / "small.json").read_text())["rows"]}
    assert all(new[name]["f1_by_language"] == rows[name]["f1_by_language"] for name in rows)

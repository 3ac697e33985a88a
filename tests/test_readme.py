"""What the README says is what the repository holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nerdistill.evaluation.tables import markdown_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = sorted((ROOT / "results").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_tables_come_from_results(path: Path) -> None:
    """Prevents figures in the README that no run measured."""
    results = json.loads(path.read_text(encoding="utf-8"))
    assert {"what", "command", "commit", "date", "machine", "data", "rows"} <= set(results)
    assert markdown_table(results).strip() in README


def test_make_targets_exist() -> None:
    """Prevents a README that names a command the Makefile has not."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE)) <= targets


def test_links_lead_somewhere() -> None:
    """Prevents links to files that were moved."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"

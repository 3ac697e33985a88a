"""What the README says is what the repository holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nerdistill.evaluation.documents import FIGURE, MARKER, figures, fill

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RESULTS = sorted((ROOT / "results").rglob("*.json"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_come_from_results(page: Path) -> None:
    """Prevents figures in pages that no run measured; `make tables` brings them up to date."""
    text = page.read_text(encoding="utf-8")
    assert text == fill(text, ROOT, page.name)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: str(path.relative_to(ROOT / "results")))
def test_results_say_where_they_come_from_and_are_shown(path: Path) -> None:
    """Prevents results that cannot be made again, and results that nobody sees."""
    assert {"what", "command", "commit", "date", "machine", "data", "rows"} <= set(json.loads(path.read_text(encoding="utf-8")))
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    shown = {found["file"] for found in map(MARKER.fullmatch, lines) if found}
    assert path.relative_to(ROOT).as_posix() in shown


def test_pictures_come_from_results() -> None:
    """Prevents a picture that is older than the studies it shows, or that outlives them."""
    drawn = figures(ROOT)
    assert all(path.is_file() and path.read_text(encoding="utf-8") == text for path, text in drawn.items())
    assert drawn or not (ROOT / FIGURE).exists()


def test_make_targets_exist() -> None:
    """Prevents a README that names a command the Makefile has not."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE)) <= targets


def test_links_lead_somewhere() -> None:
    """Prevents links to files that were moved."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"

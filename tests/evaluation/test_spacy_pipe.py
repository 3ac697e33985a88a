"""The benchmark of ``nlp.pipe``: not of any time, but of what is read and what is written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from nerdistill.cli.app import main
from nerdistill.errors import DataError
from nerdistill.evaluation import documents, parts, spacy_pipe
from nerdistill.evaluation.memory_chart import pipe_memory_chart
from nerdistill.evaluation.parts import Parts, with_rest
from nerdistill.evaluation.spacy_pipe import growth, pipe_tables, time_ways
from nerdistill.evaluation.texts import read_texts, short_documents
from nerdistill.files import read_json
from nerdistill.runtime.tagger import Tagger
from nerdistill.text.splitter import split_words

LINES = ["Anna Schmidt besucht Berlin . La France a gagné contre l' Italie à Paris", "Siemens AG opens in London"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A file of plain text, one text a line."""
    (tmp_path / "text.txt").write_text("\n".join(LINES), encoding="utf-8")
    return tmp_path / "text.txt"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round each; only what starts processes has one of its own."""
    monkeypatch.setattr(parts, "ROUNDS", 1)
    monkeypatch.setattr(spacy_pipe, "REPEATS", 1)
    monkeypatch.setattr(spacy_pipe, "ZONE", 8)
    apart = spacy_pipe._apart

    def here(job: Callable[..., Any], *arguments: Any) -> Any:
        return apart(job, *arguments) if job is time_ways else job(*arguments)

    monkeypatch.setattr(spacy_pipe, "_apart", here)


def test_the_command_writes_its_file(
    bundle_path: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a run of minutes that ends without a file, or in one that no page can show."""
    (tmp_path / "results").mkdir()
    out = tmp_path / documents.PIPE
    monkeypatch.setattr(sys, "argv", ["nerdistill", "bench-pipe", str(bundle_path), str(text), "--documents", "40", "--results", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    results = read_json(out)
    zones, none = results["memory"].values()
    assert zones["documents"] == [0, 8, 16, 24, 32, 40]
    assert none["documents"] == [0, 4]
    assert all(held > 0 for held in zones["bytes"])
    assert zones["entities"] > none["entities"] > 0
    assert none["held"]["strings"] > zones["held"]["strings"]
    assert [(row["processes"], row["threads"]) for row in results["rows"]][:2] == [(1, 1), (2, 1)]
    assert results["rows"][1]["microseconds_in_workers"] > 0
    assert tuple(results["parts"]["microseconds"]) == spacy_pipe.PARTS
    shown = documents.fill(f"<!-- table: {documents.PIPE} -->\n<!-- end of table -->", tmp_path, "p.md")
    assert pipe_tables(results).strip() in shown
    assert pipe_tables(results).strip() in capsys.readouterr().out
    for part in ("memory", "processes", "parts", "transport"):
        assert pipe_tables(results, part) in documents.fill(
            f"<!-- table: {documents.PIPE} {part} -->\n<!-- end of table -->", tmp_path, "p.md"
        )
    drawn = pipe_memory_chart(results)
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert drawn.count("<polyline") == 2


def test_every_document_brings_a_word(text: Path) -> None:
    """Prevents a stream in which memory looks flat because nothing new ever comes."""
    found = [*short_documents(read_texts([text]), 0, 300)]
    assert [*short_documents(read_texts([text]), 100, 300)] == found[100:]
    seen: set[str] = set()
    for one in found:
        fresh = set(one.split()) - seen
        assert fresh
        seen |= fresh
        assert 1 <= len(one.split()) <= 10
    with pytest.raises(DataError, match="without a word"):
        next(short_documents(["", " "], 0, 1))


def test_the_parts_are_the_tagger(bundle_path: Path) -> None:
    """Prevents parts that are timed on something other than what the tagger does."""
    tagger = Tagger.load(bundle_path, threads=1)
    done = Parts(tagger, LINES, [split_words(line) for line in LINES])
    assert done.jobs()["entities"]() == [*tagger.pipe(LINES)]
    assert done.padded >= len(done.words) == 20
    assert with_rest({"one": 1.0, "two": 2.0, "whole": 4.0}) == {"one": 1.0, "two": 2.0, "rest": 1.0}


def test_growth_is_that_of_the_second_half() -> None:
    """Prevents start-up from passing for a leak, and a division by nothing."""
    assert growth({"documents": [0, 10, 20, 30], "bytes": [100, 900, 1000, 1020]}) == 2.0
    assert growth({"documents": [0], "bytes": [100]}) is None

"""The benchmark of corpus tagging: what it makes, and what it shows. It is not run here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nerdistill.cli.tag import size_of
from nerdistill.errors import ConfigError, DataError
from nerdistill.evaluation.bulk import bulk_table, make_corpus, take_sample
from nerdistill.evaluation.memory_chart import memory_chart
from nerdistill.evaluation.resident import Memory

RESULTS = {
    "data": {"corpus_bytes": 1_000_000_000},
    "workers": 2,
    "complete": True,
    "identical_after_kills": False,
    "kills": [{}, {}],
    "agreement": {"documents": 9, "nlp.pipe": True, "ray": None},
    "memory": {"seconds": [0.0, 60.0, 120.0], "bytes": [1_000_000, 500_000_000, 480_000_000]},
    "rows": [
        {"system": "in memory, 1 process", "words_per_second": 100_000.0},
        {"system": "in memory, 2 processes at once", "words_per_second": 190_000.0},
        {
            "system": "nerdistill tag, 2 workers",
            "words_per_second": 180_000.0,
            "share_of_in_memory": 0.9,
            "share_of_in_memory_at_once": 0.947,
            "peak_bytes": 500_000_000,
            "core_hours_per_terabyte": 1234.5,
        },
    ],
}


def test_corpus_has_its_size_and_ids(tmp_path: Path) -> None:
    """Prevents ids that repeat, on which completeness is judged, and a corpus of blank lines."""
    (tmp_path / "in.txt").write_text("Anna in Berlin\n\n東京\n", encoding="utf-8")
    count = make_corpus(tmp_path / "corpus.jsonl", [str(tmp_path / "in.txt")], 5000)
    rows = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert 5000 <= (tmp_path / "corpus.jsonl").stat().st_size < 5100
    assert len({row["id"] for row in rows}) == len(rows) == count
    assert {row["text"] for row in rows} == {"Anna in Berlin", "東京"}
    (tmp_path / "in.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(DataError, match="no text"):
        make_corpus(tmp_path / "corpus.jsonl", [str(tmp_path / "in.txt")], 5000)


def test_sample_is_of_all_parts(tmp_path: Path) -> None:
    """Prevents a speed in memory that is of the corpus's first language alone."""
    corpus, sample = tmp_path / "corpus.jsonl", tmp_path / "sample.jsonl"
    corpus.write_bytes(b"".join(b"%d\n" % at for at in range(200_000)))
    take_sample(corpus, 200_000, sample)
    taken = [int(line) for line in sample.read_bytes().split()]
    assert 15_000 < len(taken) < 25_000
    assert taken == sorted(set(taken))
    assert {at // 50_000 for at in taken} == {0, 1, 2, 3}
    corpus.write_bytes(b"1\n2\n")
    take_sample(corpus, 2, sample)
    assert sample.read_bytes() == corpus.read_bytes(), "a small corpus is its own sample"


def test_table_and_picture() -> None:
    """Prevents a failed check that the table does not show, and a picture that is no SVG."""
    lines = bulk_table(RESULTS).split("\n")
    assert lines[4].rstrip(" |").split(" | ")[1:5] == ["180k", "90.0", "94.7", "500 MB"]
    assert "| every id once, in its order | yes |" in lines
    assert "| the same bytes after 2 kills | no |" in lines
    assert "| the same entities from `nlp.pipe` | yes |" in lines
    assert not any("Ray" in line for line in lines), "what was not tried is shown as something"
    assert lines[-2].endswith("| 1,234 |")
    drawn = memory_chart(RESULTS)
    root = ElementTree.fromstring(drawn)
    assert root.tag.endswith("svg")
    assert "Highest 500 MB" in drawn
    assert memory_chart({"rows": []}) == ""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
def test_memory_of_a_family() -> None:
    """Prevents a curve of memory that misses the processes a process starts."""
    inner = "import subprocess, sys; x = bytearray(50 << 20); x[::4096] = b'x' * len(x[::4096]); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], stdin=sys.stdin)"
    process = subprocess.Popen([sys.executable, "-c", outer], stdin=subprocess.PIPE, env=dict(os.environ))
    memory = Memory()

    class Ended:
        pid = process.pid

        def poll(self) -> int | None:
            if memory.resident and memory.resident[-1] > 50 << 20:
                process.communicate(b"\n")
            return process.poll()

    memory.watch(Ended(), every=0.01)  # type: ignore[arg-type]
    assert max(memory.resident) > 50 << 20
    thinned = Memory(list(map(float, range(1001))), list(range(1001))).thinned()
    assert len(thinned["bytes"]) == len(thinned["seconds"]) <= 400
    assert thinned["bytes"][-1] == 1000


@pytest.mark.parametrize(("text", "size"), [("10", 10), ("2k", 2048), ("64M", 64 << 20), ("1.5G", 3 << 29)])
def test_sizes(text: str, size: int) -> None:
    """Prevents a shard of 64 bytes where 64 megabytes were meant."""
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "M", "0", "-5", "1 fish", "nan", "inf"])
def test_what_is_no_size(text: str) -> None:
    """Prevents a traceback, or a shard of nothing, for a slip in a size."""
    with pytest.raises(ConfigError, match="size"):
        size_of(text)

"""Whole runs: files in, files out, broken off and continued."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from spacy.tokens import DocBin
from spacy.vocab import Vocab

from nerdistill.errors import BundleError, ConfigError, DataError
from nerdistill.runtime.tagger import Tagger
from nerdistill.tagging import run, worker
from nerdistill.tagging.run import Request, Summary, tag_files, tag_stream
from nerdistill.tagging.shards import plan
from nerdistill.tagging.sources import ReadOptions, Reject

pytestmark = pytest.mark.usefixtures("inline")

TEXTS = [f"Anna Schmidt besucht Berlin am {day}. Mai ." for day in range(40)]


@pytest.fixture
def asked(bundle_path: Path, tmp_path: Path) -> Request:
    """Forty documents in many small shards."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": at, "text": text}) + "\n" for at, text in enumerate(TEXTS)), encoding="utf-8")
    return Request(bundle_path, (str(path),), str(tmp_path / "out.jsonl"), threads=1, shard_bytes=300, quiet=True)


def rows(path: Path | str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n")[:-1]]


def left(folder: Path) -> set[str]:
    """What is in a folder beside the input and the bundle."""
    return {path.name for path in folder.iterdir()} - {"in.jsonl", "bundle"}


def test_file_to_file(asked: Request, bundle_path: Path, tmp_path: Path) -> None:
    """Prevents documents that are lost, doubled, moved or tagged otherwise than by the tagger, and files that are left about."""
    summary = tag_files(asked)
    found = rows(tmp_path / "out.jsonl")
    assert [row["id"] for row in found] == list(range(40))
    assert summary.counts["documents"] == 40
    assert summary.counts["words"] == sum(row["n_words"] for row in found) == 360
    assert summary.counts["entities"] == sum(len(row["entities"]) for row in found) > 0
    assert (summary.counts["rejected"], summary.rejects) == (0, None)
    assert left(tmp_path) == {"out.jsonl"}
    tagger = Tagger.load(bundle_path, threads=1)
    first = [(one.start, one.stop, one.label) for one in next(tagger.pipe(TEXTS[:2]))]
    assert [(one["start"], one["stop"], one["label"]) for one in found[0]["entities"]] == first


def broken_off(asked: Request, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Run until that many shards are done."""

    class BrokenOffError(BaseException):
        pass

    original = worker.Worker.do
    done = 0

    def some(self: worker.Worker, *arguments: Any) -> Any:
        nonlocal done
        if done == after:
            raise BrokenOffError
        done += 1
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(worker.Worker, "do", some)
        with pytest.raises(BrokenOffError):
            tag_files(asked)


def test_continued_run_is_the_same_to_the_byte(asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents shards that are done twice or never, and an output that shows where a run was broken off."""
    tag_files(asked)
    whole = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "out.jsonl").unlink()
    broken_off(asked, monkeypatch, 3)
    assert not (tmp_path / "out.jsonl").exists()
    (tmp_path / "out.jsonl.parts" / "part-00001.jsonl").write_text("half", encoding="utf-8")  # a disk that lost what it had promised
    (tmp_path / "out.jsonl.parts" / ".part-00004.jsonl.77").write_text("half", encoding="utf-8")  # what a killed worker leaves
    broken_off(asked, monkeypatch, 2)
    tag_files(asked)
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    assert left(tmp_path) == {"out.jsonl"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda asked: replace(asked, threshold=0.5), "--threshold changed from 0.0 to 0.5"),
        (lambda asked: replace(asked, format="conll"), "--format changed"),
        (lambda asked: replace(asked, variant="fp32"), "the model changed"),
        (lambda asked: replace(asked, options=ReadOptions(fields=())), "--fields changed"),
        (
            lambda asked: (Path(asked.inputs[0]).write_text('{"text": "new"}\n', encoding="utf-8"), asked)[1],
            r"the input .*in\.jsonl changed",
        ),
        (lambda asked: replace(asked, bundle=other_model(asked.bundle)), "the model changed"),
    ],
)
def test_changed_run_is_refused(asked: Request, monkeypatch: pytest.MonkeyPatch, change: Callable[[Request], Request], says: str) -> None:
    """Prevents an output of which one half was made with other input, settings or weights than the other."""
    broken_off(asked, monkeypatch, 2)
    with pytest.raises(ConfigError, match=says):
        tag_files(change(asked))


def other_model(bundle: Path) -> Path:
    """The same student, opened as another network."""
    info = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    info["overlap"] += 1
    (bundle / "bundle.json").write_text(json.dumps(info), encoding="utf-8")
    return bundle


def test_force_begins_anew(asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents --force from keeping old shards, and from losing the old output before there is a new one."""
    tag_files(asked)
    with pytest.raises(ConfigError, match="exists already; --force"):
        tag_files(asked)
    anew = replace(asked, force=True, threshold=0.999)
    broken_off(anew, monkeypatch, 2)
    old = (tmp_path / "out.jsonl").read_bytes()
    assert rows(tmp_path / "out.jsonl")[0]["entities"]
    tag_files(replace(anew, force=False))  # continues what was forced
    assert (tmp_path / "out.jsonl").read_bytes() != old
    broken_off(anew, monkeypatch, 1)
    tag_files(replace(asked, force=True))
    assert (tmp_path / "out.jsonl").read_bytes() == old


def test_rejects_have_their_file(asked: Request, tmp_path: Path) -> None:
    """Prevents bad records that end a run or go unsaid: lines, files, and the order they came in."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "Anna"}\n{broken\n' + '{"text": "Paris"}\n' * 50 + '{"id": "x"}\n', encoding="utf-8")
    cut = tmp_path / "cut.txt.gz"
    cut.write_bytes(gzip.compress(b"one\ntwo\n")[:-4])
    wide = tmp_path / "wide.txt"
    wide.write_text("Anna\n", encoding="utf-16")
    summary = tag_files(replace(asked, inputs=(str(bad), str(cut), *asked.inputs, str(wide))))
    assert summary.counts["documents"] == 51 + 40
    assert summary.counts["rejected"] == 4
    refused = rows(tmp_path / "out.jsonl.rejects.jsonl")
    assert [row["location"] for row in refused] == [f"{bad}:2", f"{bad}:53", f"{cut}:3", f"{wide}:1"]
    assert [row["id"] for row in refused] == [f"{bad}:2", "x", str(cut), str(wide)]
    assert [reject.reason for reject in summary.first] == [row["reason"] for row in refused]
    tag_files(replace(asked, force=True))
    assert not (tmp_path / "out.jsonl.rejects.jsonl").exists()


def test_nothing_to_read_is_an_error(asked: Request, tmp_path: Path) -> None:
    """Prevents an empty output that looks like success, and a folder left behind by a mistake."""
    (tmp_path / "wide.txt").write_text("Anna\n", encoding="utf-16")
    for names, error in (
        (("wide.txt",), DataError),
        (("gone.txt",), DataError),
        (("no*.jsonl",), DataError),
        (("",), ConfigError),
        (("out.jsonl",), ConfigError),
    ):
        (tmp_path / "out.jsonl").write_text("", encoding="utf-8")
        with pytest.raises(error):
            tag_files(replace(asked, inputs=tuple(str(tmp_path / name) for name in names), force=True))
        assert left(tmp_path) == {"wide.txt", "out.jsonl"}
    with pytest.raises(BundleError):
        tag_files(replace(asked, bundle=tmp_path, force=True))


@pytest.mark.parametrize("format", ["jsonl", "conll", "parquet", "spacy"])
def test_empty_input(asked: Request, tmp_path: Path, format: str) -> None:
    """Prevents an empty file from ending in an error, or in an output that its readers refuse."""
    Path(asked.inputs[0]).write_bytes(b"")
    out = tmp_path / f"out.{format}"
    assert tag_files(replace(asked, out=str(out))).counts["documents"] == 0
    if format == "parquet":
        assert pq.read_table(out).num_rows == 0
    elif format == "spacy":
        assert list(DocBin().from_disk(out).get_docs(Vocab())) == []
    else:
        assert out.read_bytes() == b""


def test_folder_of_parts(asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a data set that its readers refuse, a second run that does everything again, and one in somebody's own folder."""
    asked = replace(asked, out=f"{tmp_path}/out/", format="parquet")
    broken_off(asked, monkeypatch, 2)
    tag_files(asked)
    table = pq.read_table(tmp_path / "out")
    assert table.column("id").to_pylist() == [str(at) for at in range(40)]
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    assert len(times) > 5
    assert tag_files(asked).counts["documents"] == 40
    assert times == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    with pytest.raises(ConfigError, match="--threshold"):
        tag_files(replace(asked, threshold=0.9))
    tag_files(replace(asked, threshold=0.9, force=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="other files"):
        tag_files(replace(asked, out=str(tmp_path / "mine"), force=True))
    assert left(tmp_path / "mine") == {"precious"}


def test_from_each_format_to_each(asked: Request, tmp_path: Path) -> None:
    """Prevents a way between two formats on which documents or entities change."""
    formats = ("jsonl.gz", "jsonl.zst", "parquet", "spacy", "conll")
    for format in formats:
        tag_files(replace(asked, out=str(tmp_path / f"first.{format}")))
    found = []
    for format in formats[:-1]:
        out = tmp_path / f"{format}.jsonl"
        tag_files(replace(asked, inputs=(str(tmp_path / f"first.{format}"),), out=str(out), shard_bytes=100_000))
        found.append([(str(row["id"]), row["text"], row["n_words"]) for row in rows(out)])
        assert all("input_entities" in row or format == "spacy" for row in rows(out))
    assert found[0] == [(str(at), text, 9) for at, text in enumerate(TEXTS)]
    assert all(one == found[0] for one in found)


def test_patterns_and_files_named_twice(asked: Request, tmp_path: Path) -> None:
    """Prevents a document that is tagged twice because two patterns meet, and an output that becomes its own input."""
    (tmp_path / "more.jsonl").write_text('{"id": "m", "text": "Paris"}\n', encoding="utf-8")
    asked = replace(asked, inputs=(str(tmp_path / "*.jsonl"), *asked.inputs))
    tag_files(asked)
    tag_files(replace(asked, force=True))
    assert [row["id"] for row in rows(tmp_path / "out.jsonl")] == [*range(40), "m"]


def test_parquet_files_of_other_columns(asked: Request, tmp_path: Path) -> None:
    """Prevents a late failure where files do not fit together: the odd one is left out and named."""
    for name, kept in (("a", None), ("b", ()), ("c", None)):
        options = ReadOptions(fields=kept)
        tag_files(replace(asked, out=str(tmp_path / f"{name}.parquet"), options=options))
    (tmp_path / "b.jsonl").write_text('{"text": "x", "more": 1}\n', encoding="utf-8")
    table = pq.read_table(tmp_path / "b.parquet").append_column("extra", pq.read_table(tmp_path / "b.parquet").column("id"))
    pq.write_table(table, tmp_path / "b.parquet")
    (tmp_path / "0.parquet").write_bytes(b"PAR1 cut off")
    summary = tag_files(replace(asked, inputs=(str(tmp_path / "?.parquet"),), out=str(tmp_path / "out.parquet")))
    assert summary.counts["documents"] == 80
    assert [(Path(reject.id).name, reject.reason.split(" (")[0].split(";")[0]) for reject in summary.first] == [
        ("0.parquet", "truncated or corrupt Parquet file"),
        ("b.parquet", "its columns differ from those of the files before it"),
    ]


def test_input_that_changes_meanwhile(asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents shards that are cut by one version of a file and filled from another."""

    def then_changed(*arguments: Any) -> Any:
        made = plan(*arguments)
        with Path(asked.inputs[0]).open("a", encoding="utf-8") as file:
            file.write("more\n")
        return made

    monkeypatch.setattr("nerdistill.tagging.run.plan", then_changed)
    with pytest.raises(DataError, match=r"in\.jsonl: was changed while"):
        tag_files(asked)


def test_small_disk_is_said(asked: Request, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents hours of work towards a disk that cannot hold it, without a word."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    tag_files(replace(asked, quiet=False))
    assert "1,000 bytes are free" in capsys.readouterr().err


def test_large_docbin_wants_a_folder(asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a run of hours that ends in a file too large to be made."""
    monkeypatch.setattr(run, "LARGEST_DOCBIN_INPUT", 100)
    with pytest.raises(ConfigError, match=r"-o .*out/ --format spacy"):
        tag_files(replace(asked, out=str(tmp_path / "out.spacy")))


def test_standard_input(asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents input that can be read only once from making a run that cannot be continued."""

    def given(text: str) -> Request:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return replace(asked, inputs=("-",), input_format="text")

    text = "".join(f"{text}\n" for text in TEXTS)
    broken_off(given(text), monkeypatch, 2)
    with pytest.raises(ConfigError, match="the input - changed"):
        tag_files(given("other\n"))
    tag_files(given(text))
    assert [row["id"] for row in rows(tmp_path / "out.jsonl")] == [f"-:{at}" for at in range(1, 41)]
    assert left(tmp_path) == {"out.jsonl"}


def streamed(asked: Request) -> tuple[list[bytes], list[Reject], Summary]:
    """Lines, rejects and counts of a run to a stream."""
    file, refused = io.BytesIO(), list[Reject]()
    summary = tag_stream(replace(asked, out=None), file, refused.append)
    return file.getvalue().split(b"\n")[:-1], refused, summary


def test_stream(asked: Request, tmp_path: Path) -> None:
    """Prevents a stream that says something else than a file, or that stops at a bad file."""
    cut = tmp_path / "cut.txt.gz"
    cut.write_bytes(gzip.compress(b"one\n")[:-4])
    whole = replace(asked, inputs=(str(cut), *asked.inputs), shard_bytes=1 << 20)
    lines, refused, summary = streamed(whole)
    tag_files(whole)
    assert lines == (tmp_path / "out.jsonl").read_bytes().split(b"\n")[:-1]
    assert [reject.id for reject in refused] == [str(cut)]
    assert summary.counts["rejected"] == 1
    with pytest.raises(DataError, match="truncated"):
        streamed(replace(asked, inputs=(str(cut),)))
    with pytest.raises(ConfigError, match="-o"):
        streamed(replace(asked, format="parquet"))


def test_base_install_tags_text_and_jsonl(asked: Request) -> None:
    """Prevents workers that load what the base install has not, or what only costs memory."""
    code = f"""
import sys
for name in ("torch", "transformers", "pyarrow", "datasets", "fasttext_pybind", "spacy"):
    sys.modules[name] = None
from nerdistill.tagging import run
from tests.tagging.conftest import InlinePool
run.Pool = InlinePool
from pathlib import Path
request = run.Request(Path({str(asked.bundle)!r}), ({asked.inputs[0]!r},), {asked.out!r}, threads=1, quiet=True)
assert run.tag_files(request).counts["documents"] == 40
assert run.tag_stream(request, open({asked.out!r}, "wb"), print).counts["documents"] == 40
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

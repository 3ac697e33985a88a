"""Tagging by actors of Ray: what comes out is what comes out here, and what dies is done again. One cluster for the module."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nerdistill.errors import ConfigError, DataError, MissingExtraError
from nerdistill.runtime.tagger import Tagger
from nerdistill.tagging import on_ray, run
from nerdistill.tagging.batch import RESULTS, tag_batch
from nerdistill.tagging.on_ray import Note, tag_dataset
from nerdistill.tagging.pool import MOST_DEATHS, WorkerError
from nerdistill.tagging.ray_actors import room_for
from nerdistill.tagging.run import Request, tag_files
from nerdistill.tagging.shards import Shard, plan
from nerdistill.tagging.sources import Extent
from nerdistill.tagging.worker import Task, Worker

pytest.importorskip("ray.data", exc_type=ImportError)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*", "ignore::FutureWarning:ray.*", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("inline"),
]

TEXTS: list[str | None] = [f"Anna Schmidt besucht Berlin am {day}. Mai ." for day in range(24)]
TEXTS[5], TEXTS[17] = None, "Anna " * 30


@pytest.fixture
def asked(bundle_path: Path, tmp_path: Path) -> Request:
    """Two Parquet files of four shards, with a row without text and one that is too long."""
    for name, texts in (("a", TEXTS[:12]), ("b", TEXTS[12:])):
        table = pa.table({"id": pa.array([f"{name}{at}" for at in range(len(texts))]), "text": texts, "more": list(range(len(texts)))})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=6)
    options = replace(Request(bundle_path, ()).options, max_length=100)
    inputs = (str(tmp_path / "?.parquet"),)
    return Request(bundle_path, inputs, f"{tmp_path}/here/", "parquet", options=options, shard_bytes=1, workers=2, threads=1, quiet=True)


def files(folder: Path) -> dict[str, bytes]:
    """Parts and rejects of an output."""
    found = [*folder.glob("part-*"), folder.with_name(f"{folder.name}.rejects.jsonl")]
    return {path.name.replace(folder.name, ""): path.read_bytes() for path in found}


def test_rows_of_parquet_stay(asked: Request, tmp_path: Path) -> None:
    """Prevents rows that cannot be tagged from being lost, from going unsaid, and from moving the results of others."""
    summary = tag_files(asked)
    table = pq.read_table(tmp_path / "here")
    assert table.schema.names == ["id", "text", "more", *RESULTS[:3], "error"]
    assert table.column("text").to_pylist() == TEXTS
    errors = table.column("error").to_pylist()
    assert {at: error for at, error in enumerate(errors) if error} == {
        5: "column 'text': found null, expected a string",
        17: "the text has 150 characters, over 100; split it or raise --max-length",
    }
    good = [at for at, error in enumerate(errors) if not error]
    expected = tag_batch(Tagger.load(asked.bundle, threads=1), [TEXTS[at] for at in good])["entities"]
    found = table.column("entities").to_pylist()
    assert [[entity["text"] for entity in found[at]] for at in good] == [[entity["text"] for entity in one] for one in expected]
    assert found[5] == found[17] == []
    assert (summary.counts["documents"], summary.counts["rejected"]) == (22, 2)
    assert [reject.id for reject in summary.first] == ["a5", "b5"]


def test_either_engine_continues_the_other(asked: Request, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an output that depends on the engine; shards that are lost or done twice when a run is broken off; files left about."""
    summary = tag_files(asked)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    parts = [tmp_path / "there" / f"part-0000{number}.parquet" for number in range(4)]
    parts[0].unlink()
    parts[1].unlink()
    parts[2].write_bytes(b"half")  # a disk that lost what it had promised
    (tmp_path / "there" / ".part-00001.note").write_text("{", encoding="utf-8")  # of an actor that was killed with its run
    before = parts[3].stat().st_mtime_ns
    monkeypatch.chdir(tmp_path)  # actors run elsewhere than who names the files
    there = replace(asked, bundle=Path("bundle"), out="there/", engine="ray")
    assert tag_files(there).counts == summary.counts
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert parts[3].stat().st_mtime_ns == before
    assert not list((tmp_path / "there").glob(".part*"))
    parts[3].unlink()
    tag_files(replace(there, engine="local"))
    assert files(tmp_path / "there") == files(tmp_path / "here")


def test_actors_share_a_gpu(asked: Request, cluster: Any, tmp_path: Path) -> None:
    """Prevents actors that take no GPU where they are to, another output, and a wait without end for GPUs that are not there."""
    tag_files(asked)
    tag_files(replace(asked, out=f"{tmp_path}/there/", engine="ray", workers=None, gpus=0.5))
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert room_for(cluster, 1, 0.25) == 2, "by its cores"
    assert room_for(cluster, 1, 1.0) == 1, "by its GPU"
    with pytest.raises(ConfigError, match="--gpus 2: the Ray cluster has 1 in all"):
        tag_files(replace(asked, out=f"{tmp_path}/more/", engine="ray", gpus=2.0))


def test_data_set_keeps_every_row(cluster: Any, bundle_path: Path) -> None:
    """Prevents blocks that are lost for one bad text, and entities other than the tagger's."""
    texts = [*TEXTS[:4], None, *TEXTS[18:]]
    rows = cluster.data.from_arrow(pa.table({"key": list(range(len(texts))), "body": texts}))
    tagged = sorted(tag_dataset(rows, bundle_path, "body", workers=1, variant="fp32").take_all(), key=lambda row: int(row["key"]))
    assert [row["key"] for row in tagged] == list(range(len(texts)))
    expected = tag_batch(Tagger.load(bundle_path, "fp32", threads=1), texts)
    assert [[entity["text"] for entity in row["entities"]] for row in tagged] == [
        [one["text"] for one in row] for row in expected["entities"]
    ]
    assert [row["error"] for row in tagged] == expected["error"]


class DeathError(BaseException):
    """Stands for the end of a process."""


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Actors in this process, as Ray has them: one that dies is replaced and given the same again. What they return."""
    returned: list[dict[str, Any]] = []

    def through_actors(ray: Any, actor: Any, arguments: Any, items: Any, *size: int) -> Iterator[dict[str, Any]]:
        made = actor(*arguments)
        for item in items:
            row = None
            while row is None:
                try:
                    row = made({"item": item})
                except DeathError:
                    made = actor(*arguments)
            returned.append(row)
            yield row

    monkeypatch.setattr(on_ray, "through_actors", through_actors)
    monkeypatch.setattr("nerdistill.tagging.ray_actors.cluster", nullcontext)
    return returned


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Parquet writers that died
def test_a_text_that_kills_costs_only_itself(
    asked: Request, tmp_path: Path, actors: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a run in which Ray gives the same deadly text to one new process after the other."""

    def deadly(tagger: Any, texts: list[str], *options: Any) -> Any:
        if any("7. Mai" in text and "17" not in text for text in texts):
            raise DeathError
        return tag_batch(tagger, texts, *options)

    monkeypatch.setattr("nerdistill.tagging.worker.tag_batch", deadly)
    tag_files(replace(asked, engine="ray"))
    table = pq.read_table(tmp_path / "here")
    died = {at: error for at, error in enumerate(table.column("error").to_pylist()) if error and "killed" in error}
    assert list(died) == [7]
    assert table.num_rows == len(TEXTS)
    assert [row["deaths"] for row in actors] == [0, 3, 0, 0]


def test_errors_come_back_as_ours(asked: Request, actors: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a traceback of Ray's, endless retries, and a wrong exit code where an actor finds something wrong."""

    def then_changed(*arguments: Any) -> Any:
        made = plan(*arguments)
        os.utime(asked.inputs[0].replace("?", "b"))
        return made

    monkeypatch.setattr(run, "plan", then_changed)
    with pytest.raises(WorkerError, match=r"b\.parquet: was changed while") as found:
        tag_files(replace(asked, engine="ray"))
    assert found.value.exit_code == DataError.exit_code
    assert len(actors) == 3


def test_a_model_is_opened_once(asked: Request, actors: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents actors that open the model for every shard."""
    opened: list[Any] = []

    class Counted(Worker):
        def __init__(self, job: Any) -> None:
            opened.append(job)
            super().__init__(job)

    monkeypatch.setattr(on_ray, "Worker", Counted)
    tag_files(replace(asked, engine="ray"))
    assert (len(opened), len(actors)) == (1, 4)


def test_endless_deaths_end(tmp_path: Path) -> None:
    """Prevents processes that are started and die for ever."""
    shard = Shard(3, 0, Extent(first=8), 1)
    note = tmp_path / "note"
    for died in range(MOST_DEATHS):
        assert Note(note, shard, "in.txt").deaths == died
    with pytest.raises(WorkerError, match=r"in\.txt: the part that begins at line 8"):
        Note(note, shard, "in.txt")
    assert Note(note, shard, "in.txt").task == Task(shard)  # a new run tries again


def test_without_ray(asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a bare ImportError where Ray is not installed."""
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(MissingExtraError, match=r"--engine ray needs .*nerdistill\[ray\]"):
        tag_files(replace(asked, engine="ray"))


def test_options_of_the_command(asked: Request, tmp_path: Path) -> None:
    """Prevents an engine that is not there from being taken for the local one, and a stream from a cluster."""
    from nerdistill.cli.tag import tag

    with pytest.raises(ConfigError, match="add --engine ray"):
        tag(asked.bundle, list(asked.inputs), f"{tmp_path}/out/", gpus=1.0)
    for engine, says in (("rya", "expected one of local, ray"), ("ray", "name a file or a folder")):
        with pytest.raises(ConfigError, match=says):
            tag(asked.bundle, list(asked.inputs), engine=engine)

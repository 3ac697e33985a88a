"""Annotation by actors of Ray: the store is the one that this process would have written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from nerdistill.config import SignalsConfig
from nerdistill.files import DONE
from nerdistill.steps.annotate import _writer
from nerdistill.tagging.pool import MOST_DEATHS, WorkerError
from nerdistill.teachers import annotate as module
from nerdistill.teachers import on_ray
from nerdistill.teachers.annotate import Annotator, Write, annotate, write_here
from nerdistill.teachers.huggingface import load_pieces, load_teacher
from nerdistill.teachers.on_ray import write_on_ray
from nerdistill.teachers.onnx_engine import OnnxEngine
from nerdistill.teachers.reconcile import reconcile
from nerdistill.teachers.store import shard_path
from nerdistill.training.runlog import RunLog
from tests.teachers.tiny_teacher import SCHEME, save_checkpoint, text

pytest.importorskip("ray.data", exc_type=ImportError)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*", "ignore::FutureWarning:ray.*", "ignore::ResourceWarning")

LENGTHS = [4, 1, 7, 3, 5, 2, 6, 3]


@pytest.fixture
def annotator(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> Annotator:
    """A tiny teacher, and shards of three sentences."""
    monkeypatch.setattr(module, "SHARD_SENTENCES", 3)
    checkpoint = str(save_checkpoint(tmp_path / "teacher", tokenizer))
    model = load_teacher(checkpoint, None, "float32", 0)
    return Annotator(model, load_pieces(checkpoint).encoder(30), SCHEME, reconcile(model.tags, SCHEME, None), 60, (1,), 4)


def store(annotator: Annotator, folder: Path, write: Write = write_here) -> dict[str, bytes]:
    """The files of a store, but for the one that tells how long it took."""
    annotate(annotator, text(LENGTHS), folder, "x", RunLog(None, quiet=True), write)
    assert (folder / DONE).is_file()
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != DONE}


def test_the_store_is_the_same(annotator: Annotator, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents signals that depend on who read, shards in each other's places, and finished shards that are read again."""
    here = store(annotator, tmp_path / "here")
    assert len(here) == 4
    (tmp_path / "there").mkdir()
    for name in ("reduction.safetensors", "shard-00001.arrow"):
        shutil.copy(tmp_path / "here" / name, tmp_path / "there")
    before = shard_path(tmp_path / "there", 1).stat().st_mtime_ns
    monkeypatch.chdir(tmp_path)  # actors run elsewhere than who names the folder
    assert store(annotator, Path("there"), partial(write_on_ray, actors=1)) == here
    assert shard_path(tmp_path / "there", 1).stat().st_mtime_ns == before


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors in this process."""

    class InProcess:
        put = get = staticmethod(lambda value: value)

    def through_actors(ray: Any, actor: Any, arguments: Any, items: Any, *size: float) -> Iterator[dict[str, Any]]:
        made = actor(*arguments)
        for item in items:
            yield made({"item": item})

    monkeypatch.setattr(on_ray, "cluster", lambda what: nullcontext(InProcess))
    monkeypatch.setattr(on_ray, "through_actors", through_actors)
    monkeypatch.setattr(on_ray, "ray_for", lambda what: InProcess)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("int8", [False, True])
def test_the_engine_is_the_same(annotator: Annotator, tmp_path: Path, int8: bool) -> None:
    """Prevents actors that read with another engine than was asked for."""
    plain = store(annotator, tmp_path / "plain")
    asked = replace(annotator, engine=OnnxEngine(annotator.model, annotator.layers, int8))
    here = store(asked, tmp_path / "here")
    assert here != plain
    assert store(asked, tmp_path / "there", partial(write_on_ray, actors=1)) == here


@pytest.mark.usefixtures("in_process")
def test_errors_come_back(annotator: Annotator, tmp_path: Path) -> None:
    """Prevents an actor's error from being lost, a store from being finished without a shard, and processes that die for ever."""
    (tmp_path / "out").mkdir()
    begun = shard_path(tmp_path / "out", 1).with_suffix(".begun")
    begun.write_bytes(b"." * MOST_DEATHS)
    with pytest.raises(WorkerError, match=r"shard-00001: 12 processes ended"):
        store(annotator, tmp_path / "out", partial(write_on_ray, actors=1))
    assert not begun.exists()
    shard_path(tmp_path / "out", 1).with_suffix(".part").mkdir()  # where nothing can be written
    with pytest.raises(WorkerError, match="what is finished is kept"):
        store(annotator, tmp_path / "out", partial(write_on_ray, actors=1))
    assert [shard_path(tmp_path / "out", number).is_file() for number in range(3)] == [True, False, False]
    assert not (tmp_path / "out" / DONE).exists()


def test_the_configuration_chooses() -> None:
    """Prevents a cluster that nobody asked for, and one that was asked for and not used."""
    assert _writer(SignalsConfig()) is write_here
    asked = _writer(SignalsConfig(ray_actors=3, actor_cpus=2, actor_gpus=0.5))
    assert isinstance(asked, partial)
    assert asked.func is write_on_ray
    assert asked.keywords == {"actors": 3, "cpus": 2, "gpus": 0.5}

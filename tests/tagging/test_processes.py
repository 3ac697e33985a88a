"""Worker processes that die, and runs that are killed or told to stop."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nerdistill.tagging import pool
from nerdistill.tagging.pool import WorkerError
from nerdistill.tagging.run import Request, tag_files
from tests.tagging import deadly
from tests.tagging.conftest import InlinePool


def request_for(bundle: Path, folder: Path, texts: list[str], shard_bytes: int) -> Request:
    """A run with two workers, in shards of about so many bytes."""
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"id": at, "text": text}) + "\n" for at, text in enumerate(texts)), encoding="utf-8")
    return Request(bundle, (str(path),), str(folder / "out.jsonl"), workers=2, threads=1, shard_bytes=shard_bytes, quiet=True)


def ids(path: Path) -> list[int]:
    """Ids of the documents in a file of JSON lines."""
    return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_documents_that_kill_are_left_out(bundle_path: Path, tmp_path: Path) -> None:
    """Prevents a worker that dies unnoticed, a run that hangs or ends because of one document, and one that loses its neighbours."""
    texts = ["Anna in Berlin"] * 8
    texts[5] = "DEADLY"
    summary = tag_files(replace(request_for(bundle_path, tmp_path, texts, 130), workers=1), deadly.die_of_a_text)
    assert ids(tmp_path / "out.jsonl") == [0, 1, 2, 3, 4, 6, 7]
    assert [(reject.id, reject.location) for reject in summary.first] == [(5, f"{tmp_path}/in.jsonl:6")]
    assert "killed" in summary.first[0].reason


@pytest.mark.parametrize(
    ("target", "most", "says"),
    [
        (deadly.die_at_once, "MOST_STARTS", "opened the model"),
        (deadly.die_of_every_shard, "MOST_DEATHS", r"in\.jsonl: the part that begins"),
    ],
)
def test_endless_deaths_end_the_run(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Callable[..., None], most: str, says: str
) -> None:
    """Prevents processes that are started and die for ever."""
    monkeypatch.setattr(pool, most, 2)
    with pytest.raises(WorkerError, match=f"{says}.*SIGKILL"):
        tag_files(replace(request_for(bundle_path, tmp_path, ["Anna"], 1000), workers=1), target)


def started(asked: Request) -> subprocess.Popen[bytes]:
    """The same run by the command line, in a process of its own, when its first shards are done."""
    assert asked.out is not None
    command = [sys.executable, "-m", "nerdistill", "tag", str(asked.bundle), *asked.inputs, "-o", asked.out]
    command += ["--workers", "2", "--threads", "1", "--shard-size", str(asked.shard_bytes)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    manifest = Path(f"{asked.out}.parts", "_manifest.jsonl")
    before = done(manifest)
    while process.poll() is None and done(manifest) < before + 2:
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()
    return process


def done(manifest: Path) -> int:
    """Finished shards."""
    return manifest.read_bytes().count(b"\n") if manifest.is_file() else 0


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """Processes that it started."""
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()]


def wait_for_end(pids: list[int]) -> None:
    """Wait until these processes are gone."""
    until = time.monotonic() + 20
    while [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, "workers outlive the run"
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the processes")
def test_killed_and_stopped_runs_continue(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an output that depends on kills, workers that go on without their run, and a Ctrl-C that loses or never ends work."""
    texts = [f"Anna Schmidt besucht Berlin am {at}. Mai ." for at in range(5_000)]
    asked = request_for(bundle_path, tmp_path, texts, 6_000)

    run = started(asked)
    os.kill(children(run)[-1], signal.SIGKILL)  # a worker
    time.sleep(0.05)
    workers = children(run)
    run.kill()
    run.communicate()
    wait_for_end(workers)

    run = started(asked)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert b"shards are done and kept" in said
    assert b"Traceback" not in said

    with monkeypatch.context() as patched:
        patched.setattr("nerdistill.tagging.run.Pool", InlinePool)
        tag_files(asked)
        continued = (tmp_path / "out.jsonl").read_bytes()
        (tmp_path / "out.jsonl").unlink()
        tag_files(asked)
    assert continued == (tmp_path / "out.jsonl").read_bytes()
    assert ids(tmp_path / "out.jsonl") == list(range(5_000))


def test_full_disk_keeps_what_is_finished(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a full disk from costing what is done, or from ending in a traceback."""
    asked = request_for(bundle_path, tmp_path, [""] * 200 + ["Anna Schmidt besucht Berlin"] * 300, 4_000)
    assert asked.out is not None
    command = [sys.executable, "-m", "nerdistill", "tag", str(asked.bundle), *asked.inputs, "-o", asked.out]
    command += ["--workers", "1", "--shard-size", "4000"]

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    full = subprocess.run(command, preexec_fn=small_files, capture_output=True, text=True, check=False, timeout=60)
    assert full.returncode == 1
    assert "File too large" in full.stderr
    assert "Traceback" not in full.stderr
    assert done(Path(f"{asked.out}.parts", "_manifest.jsonl")) == 2
    monkeypatch.setattr("nerdistill.tagging.run.Pool", InlinePool)
    assert tag_files(asked).counts["documents"] == 500

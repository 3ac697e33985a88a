"""A run that is killed and started again ends with the weights of one that was not."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

KILLS = [
    ("nerdistill.training.loop", "save_checkpoint", "3", "before"),  # the teacher, between two checkpoints
    ("nerdistill.training.checkpoint", "save_file", "2", "after"),  # the teacher, in the middle of writing one
    ("nerdistill.teachers.annotate", "write_shard", "3", "before"),  # the signals, two shards done
    ("nerdistill.training.loop", "save_checkpoint", "4", "after"),  # the student, in its first stage
    ("nerdistill.steps.distill", "save_model", "3", "after"),  # the student, a stage done but not yet marked so
    ("nerdistill.export.bundle_writer", "write_int8", "1", "before"),  # the bundle, half written
    ("nerdistill.steps.evaluate", "write_report", "1", "before"),  # the report
]


def run(config: Path, out: Path, *kill: str) -> subprocess.CompletedProcess[str]:
    """One process."""
    script = Path(__file__).with_name("killed_run.py")
    command = [sys.executable, str(script), str(config), str(out), *kill]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def weights(out: Path) -> dict[str, str]:
    """Digests of everything that was learnt."""
    files = [out / "bundle" / "model.safetensors", out / "bundle" / "model.onnx", *out.glob("teacher-*/model.safetensors")]
    files += out.glob("no_teacher-*/bundle/model.safetensors")
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_killed_at_every_step_and_continued(toy_config: Path, tmp_path: Path) -> None:
    """Prevents a checkpoint that forgets part of the state, and half-written folders that are taken for whole ones."""
    whole = run(toy_config, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    for kill in KILLS:
        killed = run(toy_config, tmp_path / "killed", *kill)
        assert killed.returncode == -signal.SIGKILL, f"{kill} was not reached: {killed.stderr[-2000:]}"
    final = run(toy_config, tmp_path / "killed")
    assert final.returncode == 0, final.stderr
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert list((tmp_path / "killed" / "dist").glob("*.whl"))

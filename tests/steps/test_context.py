"""A run folder belongs to one process at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nerdistill.errors import ConfigError
from nerdistill.steps.context import STEP_VERSIONS, locked
from nerdistill.students.base import STUDENTS
from nerdistill.training.stage import Stage, Term

HOLD = """
import sys, time
from pathlib import Path
from nerdistill.steps.context import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_process_is_kept_out_until_the_first_is_gone(tmp_path: Path) -> None:
    """Prevents two runs from writing to one folder, and a killed run from locking its folder for ever."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(ConfigError, match=f"process {holder.pid}"), locked(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with locked(tmp_path):
        assert str(holder.pid) not in (tmp_path / "run.lock").read_text()


def test_defaults_are_versioned() -> None:
    """A default that changes silently would let finished work of the old one pass for the new one's."""
    stage = Stage(name="a", text="labelled", terms=(Term(loss="hard_tags"),)).model_dump()
    bilstm = STUDENTS.get("bilstm").options().model_dump()
    changed = "a default changed: count up STEP_VERSIONS['distill'], then correct this test"
    assert stage["optimisation"] == OPTIMISATION, changed
    assert (stage["select"], stage["trainable"], stage["teacher"]) == ("dev_f1", ("*",), "stored"), changed
    assert (bilstm["hidden_width"], bilstm["pooling"], bilstm["dropout"]) == (160, "first_mean", 0.2), changed
    assert STEP_VERSIONS["distill"] == 3


OPTIMISATION = {
    "learning_rate": 1e-3, "schedule": "cosine", "warmup": 0.05, "weight_decay": 0.0, "clip": 1.0, "batch": 4096, "accumulate": 1,
    "epochs": 1.0, "patience": 0, "evaluations": 1,
}  # fmt: skip

"""A run folder belongs to one process at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nerdistill.errors import ConfigError
from nerdistill.steps.context import locked

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

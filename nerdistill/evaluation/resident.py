"""The memory that processes hold, read from ``/proc`` while they run."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_POINTS = 400
"""Of the curve of memory that are kept."""


@dataclass
class Memory:
    """Resident memory of a process and all that it started, while it runs.

    Attributes:
        seconds: Since the beginning.
        resident: Bytes at that moment.
    """

    seconds: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)

    def watch(self, process: subprocess.Popen[bytes], every: float = 0.25) -> None:
        """Read until the process ends."""
        began = time.monotonic()
        while process.poll() is None:
            self.seconds.append(round(time.monotonic() - began, 2))
            self.resident.append(sum(map(resident, family(process.pid))))
            time.sleep(every)

    def thinned(self) -> dict[str, list[Any]]:
        """At most `_POINTS` of the moments; the highest of those that each stands for."""
        step = -(-len(self.resident) // _POINTS) or 1
        starts = range(0, len(self.resident), step)
        return {"seconds": [self.seconds[at] for at in starts], "bytes": [max(self.resident[at : at + step]) for at in starts]}


def family(pid: int) -> list[int]:
    """A process and all that come from it, as far as they still are."""
    try:
        children = [int(word) for file in Path(f"/proc/{pid}/task").glob("*/children") for word in file.read_text(encoding="ascii").split()]
    except OSError:
        children = []
    return [pid, *(one for child in children for one in family(child))]


def resident(pid: int) -> int:
    """Bytes of a process that are in memory; 0 where it has ended or the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")

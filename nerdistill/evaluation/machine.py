"""What a measurement was made on, and the frame that every results file has."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nerdistill.runtime.session import cores

_TOLD_ISA = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "neon")


def machine(threads: int, gpu: str | None = None) -> dict[str, Any]:
    """CPU, cores, threads used, accelerator and the instruction sets that decide speed."""
    return {
        "cpu": _cpu_name(),
        "cores": cores(),
        "threads": threads,
        "gpu": gpu,
        "isa": [name for name in _TOLD_ISA if name in _flags()],
    }


def results_frame(
    what: str, command: str, threads: int, data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], gpu: str | None = None
) -> dict[str, Any]:
    """A results object as every file under ``results/`` holds one."""
    return {
        "what": what,
        "command": command,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine(threads, gpu),
        "data": dict(data),
        "rows": [dict(row) for row in rows],
    }


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _cpu_name() -> str:
    for line in _cpuinfo().split("\n"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _flags() -> frozenset[str]:
    for line in _cpuinfo().split("\n"):
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _commit() -> str | None:
    """The commit of the program's own checkout, with ``+`` if files of the program were changed since."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None

"""Runs a configuration in a process of its own and kills it, as SIGKILL does, at the n-th call of a chosen function.

Usage: killed_run.py CONFIG OUT [MODULE FUNCTION N before|after]
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch


def arm(module: str, function: str, number: int, when: str) -> None:
    """Make the n-th call of a function the process's last."""
    owner = importlib.import_module(module)
    original = getattr(owner, function)
    calls = 0

    @functools.wraps(original)
    def deadly(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, function, deadly)


def main() -> None:
    """Run, with small shards and a checkpoint at every step."""
    torch.set_num_threads(1)
    from nerdistill.config import load_config
    from nerdistill.steps.context import Context, locked
    from nerdistill.steps.run import run
    from nerdistill.teachers import annotate, store
    from nerdistill.training import loop

    for owner in (annotate, store):
        vars(owner)["SHARD_SENTENCES"] = 32
    original = loop.StageRun

    def often(**fields: Any) -> loop.StageRun:
        return original(**{**fields, "checkpoint_seconds": -1.0})

    for module in ("nerdistill.steps.teach", "nerdistill.steps.distill"):
        vars(importlib.import_module(module))["StageRun"] = often
    if len(sys.argv) > 3:
        arm(sys.argv[3], sys.argv[4], int(sys.argv[5]), sys.argv[6])
    out = Path(sys.argv[2])
    with locked(out):
        run(Context(load_config(Path(sys.argv[1])), out, quiet=True, cpu=True))


if __name__ == "__main__":
    main()

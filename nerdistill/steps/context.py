"""A run in progress: its configuration, folder, log and data, shared by the steps."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from nerdistill import __version__
from nerdistill.config import RunConfig
from nerdistill.errors import ConfigError
from nerdistill.files import write_json
from nerdistill.fingerprint import fingerprint, fingerprint_sentences
from nerdistill.steps.prepare import RunData, prepare
from nerdistill.training.runlog import RunLog

STEP_VERSIONS = {"teach": 1, "annotate": 1, "distill": 1}
"""Part of every fingerprint; counts up when a step comes to do something else with the same input."""


class Context:
    """A run.

    Args:
        config: What to do.
        folder: Where; made if it is not there.
        quiet: Show no progress.
        command: How it was called, for the results.
        cpu: Stay off any accelerator.
    """

    def __init__(self, config: RunConfig, folder: Path, quiet: bool = False, command: str = "", cpu: bool = False) -> None:
        self.config = config
        self.folder = folder
        self.command = command
        folder.mkdir(parents=True, exist_ok=True)
        self.log = RunLog(folder / "metrics.jsonl", quiet)
        self.accelerator = Accelerator(cpu=cpu)
        write_json(folder / "config.json", {"nerdistill": __version__, **config.model_dump(mode="json")})

    @cached_property
    def data(self) -> RunData:
        """All text that may be learnt from, read once."""
        self.log.say("reading data")
        data = prepare(self.config)
        counts = data.counts
        self.log.say(
            f"  {len(self.config.data.languages)} languages: {counts['train_sentences']:,} labelled sentences, "
            f"{counts['dev_sentences']:,} for dev, "
            f"{counts['transfer_sentences']:,} unlabelled ({counts['train_dropped_as_held_out']:,} and "
            f"{counts['transfer_dropped_as_repeated_or_held_out']:,} dropped as repeated or held out)"
        )
        return data

    @cached_property
    def labelled_digest(self) -> str:
        """Fingerprint of train and dev."""
        return fingerprint(fingerprint_sentences(self.data.train), fingerprint_sentences(self.data.dev), self.config.data.types)

    def step_folder(self, step: str, identity: str) -> Path:
        """Where a step's result of that fingerprint is."""
        return self.folder / f"{step}-{identity[:8]}"

    def identity(self, step: str, *inputs: Any) -> str:
        """Fingerprint of a step's result."""
        return fingerprint(step, STEP_VERSIONS.get(step, 1), self.config.seed, *inputs)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process out of a run folder.

    Raises:
        ConfigError: Another live process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "run.lock"
    mine = f"{os.getpid()} {socket.gethostname()}"
    while True:
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            _refuse_if_alive(lock, folder)
            lock.unlink(missing_ok=True)
    with os.fdopen(handle, "w") as file:
        file.write(mine)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _refuse_if_alive(lock: Path, folder: Path) -> None:
    try:
        pid, host = lock.read_text().split()
    except (OSError, ValueError):
        return
    if host != socket.gethostname():
        raise ConfigError(f"{folder}: in use by process {pid} on {host}; if that one is gone, delete {lock}")
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return
    except PermissionError:
        pass
    if int(pid) != os.getpid():
        raise ConfigError(f"{folder}: in use by process {pid}; wait for it, or choose another folder with --out")

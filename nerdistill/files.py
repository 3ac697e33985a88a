"""Writing so that a kill at any moment leaves either the old state or the new one."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nerdistill.errors import ConfigError

DONE = "done.json"
"""Name of the marker that is written last into a finished folder."""


def sync(path: Path) -> None:
    """Have what was written to a file or a folder on disk before anything else is done."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file beside its place, flush it to disk and rename it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        sync(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, with a newline at the end."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON from UTF-8."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def folder_beside(path: Path, done: dict[str, Any]) -> Iterator[Path]:
    """Fill a new folder that takes its place only when the block ends without an error; after an error nothing is left of it.

    Args:
        path: Where the folder will be; what is there already is replaced.
        done: Content of the marker file `DONE`, written last.

    Yields:
        The folder to fill, on the same file system.
    """
    path = path.resolve()
    beside = path.with_name(f".{path.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        write_json(beside / DONE, done)
        for file in beside.rglob("*"):
            sync(file)
        _put(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync(path.parent)
    shutil.rmtree(beside, ignore_errors=True)


def _put(beside: Path, path: Path) -> None:
    """Move a folder to its place; what was there is then beside, where it may be taken apart in peace."""
    if not path.exists():
        beside.replace(path)
    elif not _exchange(beside, path):
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        path.replace(old)
        try:
            beside.replace(path)
        except BaseException:
            old.replace(path)
            raise
        old.replace(beside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def finished(path: Path, **expected: Any) -> bool:
    """Whether a folder is complete and its marker holds these values."""
    marker = path / DONE
    if not marker.is_file():
        return False
    try:
        found = read_json(marker)
    except ValueError:
        return False
    return isinstance(found, dict) and all(found.get(key) == value for key, value in expected.items())


@contextmanager
def exclusive(path: Path, advice: str, wait: bool = False) -> Iterator[None]:
    """Keep a second process out. The system lets go of the lock when its holder ends, however it ends.

    Args:
        path: The file that is locked; it names the holder.
        advice: What to do where another process holds it, for the error.
        wait: Wait for that process instead.

    Raises:
        ConfigError: Another process holds it, and this one is not to wait.
    """
    import fcntl

    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            file.seek(0)
            raise ConfigError(f"{path.parent}: in use by {file.read().strip() or 'another process'}; {advice}") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield

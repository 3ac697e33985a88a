"""What of a run is done, on disk: a line of JSON for the run and one for each finished shard, written after the shard's files.

A line counts only if it is whole. So a kill at any moment leaves a list of shards that are truly done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nerdistill.errors import ConfigError
from nerdistill.files import sync

NAME = "_manifest.jsonl"
"""Of the file; readers of data sets pass over names that begin so."""


class Manifest:
    """The list of a folder.

    Args:
        path: The file.
        identity: What the run is: everything that can change its result, as JSON.

    Attributes:
        done: Number of each finished shard to what is known of it.

    Raises:
        ConfigError: The folder holds another run.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.done: dict[int, dict[str, Any]] = {}
        lines, size = _whole_lines(path)
        if not lines:
            path.unlink(missing_ok=True)
            self._append(identity)
            return
        if changes := list(_changes("", lines[0], identity)):
            raise ConfigError(
                f"{path.parent}: holds another run, and since then {'; '.join(changes[:5])}. "
                "Give what it was begun with to continue it, or --force to begin anew"
            )
        self.done = {line["shard"]: line for line in lines[1:]}
        os.truncate(path, size)  # what a kill left of a line

    def add(self, shard: int, facts: dict[str, Any]) -> None:
        """Say that a shard is done; its files are on disk."""
        self.done[shard] = {"shard": shard, **facts}
        self._append(self.done[shard])

    def forget(self, shard: int) -> None:
        """Do a shard again, whose file is not as it was."""
        del self.done[shard]

    def total(self, name: str) -> Any:
        """The sum of a fact over all finished shards."""
        return sum(facts[name] for facts in self.done.values())

    def _append(self, line: dict[str, Any]) -> None:
        sync(self.path.parent)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines up to the first one that is not whole, and their bytes."""
    kept: list[dict[str, Any]] = []
    size = 0
    if path.is_file():
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                kept.append(json.loads(line))
            except ValueError:
                break
            size += len(line) + 1
    return kept, size


def _changes(name: str, before: Any, now: Any) -> Iterator[str]:
    """What differs, by name."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from _changes(f"{name} {key}".strip(), before.get(key), now.get(key))
    elif before != now:
        values = [json.dumps(value, ensure_ascii=False) for value in (before, now)]
        yield f"{name} changed" + (f" from {values[0]} to {values[1]}" if max(map(len, values)) < 40 else "")

"""Runs without processes, which take a second each to start; what is about processes is in test_processes.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest

from nerdistill.runtime.tagger import Tagger
from nerdistill.tagging import run
from nerdistill.tagging.shards import Shard
from nerdistill.tagging.worker import Job, Task, Worker


class InlinePool:
    """What `Pool` is to a run, in this process."""

    def __init__(self, job: Job, size: int, target: Any, warned: Callable[[str], None]) -> None:
        self.job = job
        self.stopping = False

    def run(self, shards: Iterable[Shard]) -> Iterator[tuple[int, dict[str, int]]]:
        """Do the shards, one after the other."""
        with closing(Worker(self.job)) as worker:
            for shard in shards:
                counts = worker.do(Task(shard))
                assert counts is not None
                yield shard.number, counts

    def doing(self) -> list[Any]:
        """Nothing is under way between two shards."""
        return []


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make runs do their shards in this process, and wait for no disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(run, "Pool", InlinePool)


@pytest.fixture
def tagger(bundle_path: Any) -> Tagger:
    """The tiny student, which finds many entities in anything; in float32, where texts of one call do not touch each other's scores."""
    return Tagger.load(bundle_path, "fp32", threads=1)

"""What worker processes run in tests of their deaths."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from nerdistill.tagging import worker
from nerdistill.tagging.batch import Columns, tag_batch
from nerdistill.tagging.worker import Job, work


def _deadly(tagger: Any, texts: Sequence[Any], *options: Any) -> Columns:
    if any("DEADLY" in text for text in texts):
        os.kill(os.getpid(), signal.SIGKILL)
    return tag_batch(tagger, texts, *options)


def die_of_a_text(connection: Connection, job: Job) -> None:
    """A worker that some texts kill, as running out of memory does."""
    vars(worker)["tag_batch"] = _deadly
    work(connection, job)


def die_at_once(connection: Connection, job: Job) -> None:
    """A worker that never gets ready."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_of_every_shard(connection: Connection, job: Job) -> None:
    """A worker that dies before it reports anything."""
    worker.Worker.do = lambda self, *arguments: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    work(connection, job)

"""Worker processes under one roof: shards are handed out in order, and what happens to a process is noticed.

Each worker has a pipe of its own and shares no lock or queue with others, so that one that is killed at any moment leaves nothing locked.
Processes are spawned, not forked: the network's threads would not survive a fork.

A shard whose worker dies is done again by a new one. After the second death, the batch in which it happened is tagged document by
document; a document in which it happens then is left out, with a reject. A shard that goes on ending processes ends the run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from nerdistill.errors import NerdistillError
from nerdistill.tagging.shards import Shard
from nerdistill.tagging.worker import Job, Task, work

MOST_DEATHS = 12
"""Of processes in one shard; a document that ends its process costs three."""
MOST_STARTS = 3
"""Of processes in a row that die before they are ready."""


class WorkerError(NerdistillError):
    """Workers failed in a way that doing a shard again does not mend."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def with_care(task: Task, deaths: int, report: Sequence[Any], seen: Sequence[Any]) -> Task:
    """How to do a shard again in which a worker died.

    Args:
        task: How it was done.
        deaths: How many workers died in it so far.
        report: The last report of the worker that died, as of `Worker.do`; empty if there was none.
        seen: Its last report of a batch.
    """
    if report and report[0] == "alone":
        return replace(task, skipped=task.skipped | {report[1]})
    if seen and deaths > 1:
        return replace(task, alone=task.alone | {seen[1]})
    return task


@dataclass
class _Seat:
    """A worker process and what it is doing.

    Attributes:
        process: The process.
        connection: This end of its pipe.
        ready: Whether it has opened the model.
        task: What it does now.
        report: Its last report on that.
        seen: Its last report of a batch.
    """

    process: SpawnProcess
    connection: Connection
    ready: bool = False
    task: Task | None = None
    report: tuple[Any, ...] = ()
    seen: tuple[Any, ...] = ()


@dataclass
class Pool:
    """Does shards in worker processes.

    Attributes:
        job: What they have to know.
        size: How many work at a time, at most.
        target: What a process runs; another one only to test what happens when processes die.
        stopping: Set to True, finishes what is nearly done and ends.
        warned: Told when a process died.
    """

    job: Job
    size: int
    target: Callable[[Connection, Job], None] = work
    stopping: bool = False
    warned: Callable[[str], None] = lambda _: None
    _seats: list[_Seat] = field(default_factory=list)
    _todo: deque[Task] = field(default_factory=deque)
    _deaths: dict[int, int] = field(default_factory=dict)
    _failed_starts: int = 0

    def run(self, shards: Iterable[Shard]) -> Iterator[tuple[int, dict[str, int]] | None]:
        """Do shards.

        Yields:
            The number and the counts of each shard that is done, in the order in which they are; None at least every half second, so that
            progress can be shown and `stopping` be set.

        Raises:
            WorkerError: A worker met an error, processes die while they start, or one shard ends process after process.
        """
        self._todo.extend(Task(shard) for shard in shards)
        try:
            while self._todo or self._busy():
                if self.stopping and not self._wind_down():
                    return
                self._fill()
                for ready in wait([seat.connection for seat in self._seats], timeout=0.5):
                    seat = next(seat for seat in self._seats if seat.connection is ready)
                    if done := self._hear(seat):
                        yield done
                yield None
            self._dismiss()
        finally:
            for seat in self._seats:
                seat.process.kill()
                seat.process.join()

    def doing(self) -> list[tuple[Shard, tuple[Any, ...]]]:
        """The shards in work with the last report of a batch of each."""
        return [(seat.task.shard, seat.seen) for seat in self._seats if seat.task and seat.seen]

    def _busy(self) -> bool:
        return any(seat.task for seat in self._seats)

    def _wind_down(self) -> bool:
        """Ask all workers to stop; False when none has anything left to finish."""
        self._todo.clear()
        for seat in self._seats:
            self._send(seat, "stop")
        return self._busy()

    def _fill(self) -> None:
        """Give every worker something to do; start workers while there is more to do."""
        for seat in self._seats:
            if seat.ready and seat.task is None and self._todo:
                seat.task, seat.report, seat.seen = self._todo.popleft(), (), ()
                self._send(seat, seat.task)
        starting = sum(1 for seat in self._seats if not seat.ready)
        while len(self._seats) < self.size and starting < len(self._todo):
            self._seats.append(self._start())
            starting += 1

    def _start(self) -> _Seat:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=self.target, args=(theirs, self.job), daemon=True)
        with _quiet_start(self.job.threads):
            process.start()
        theirs.close()
        return _Seat(process, ours)

    def _send(self, seat: _Seat, message: Task | str | None) -> None:
        with suppress(OSError):  # it died, which its end of the pipe says too
            seat.connection.send(message)

    def _hear(self, seat: _Seat) -> tuple[int, dict[str, int]] | None:
        """Take one message; a shard that is done, if that is it."""
        try:
            kind, *message = seat.connection.recv()
        except (EOFError, OSError):
            self._bury(seat)
            return None
        if kind == "ready":
            seat.ready, self._failed_starts = True, 0
        elif kind == "failed":
            raise WorkerError(message[1], message[0])
        elif kind == "done":
            seat.task = None
            return (message[0], message[1]) if message[1] is not None else None
        else:
            seat.report = (kind, *message)
            seat.seen = seat.report if kind == "batch" else seat.seen
        return None

    def _bury(self, seat: _Seat) -> None:
        """Do again what a worker that died was doing, with more care the more died of it."""
        seat.process.join()
        seat.connection.close()
        self._seats.remove(seat)
        if self.stopping:
            return
        how = _cause(seat.process.exitcode)
        if seat.task is None:
            self._failed_starts += not seat.ready
            if self._failed_starts == MOST_STARTS:
                raise WorkerError(f"{MOST_STARTS} worker processes in a row died while they opened the model ({how}); try fewer --workers")
            return
        task = seat.task
        source = self.job.sources[task.shard.source].name
        deaths = self._deaths[task.shard.number] = self._deaths.get(task.shard.number, 0) + 1
        if deaths == MOST_DEATHS:
            raise WorkerError(
                f"{source}: the part that begins at line {task.shard.extent.first} ended {deaths} worker processes, the last one {how}; "
                "what is finished is kept, and the same command continues. If memory ran out, try fewer --workers or a smaller --max-length"
            )
        self.warned(f"a worker process died ({how}) in {source} from line {task.shard.extent.first} on; that part is done again")
        self._todo.appendleft(with_care(task, deaths, seat.report, seat.seen))

    def _dismiss(self) -> None:
        """Let all workers end by themselves."""
        for seat in self._seats:
            self._send(seat, None)
        for seat in self._seats:
            seat.process.join(timeout=10)


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"{name}; out of memory?" if name == "SIGKILL" else name
    return f"exit code {exitcode}"


@contextmanager
def _quiet_start(threads: int) -> Iterator[None]:
    """What a new process inherits: no Ctrl-C, which it would not know how to take before it runs, and its share of the cores."""
    before = os.environ.get("RAYON_NUM_THREADS")
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # of the tokenizer
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        if before is None:
            del os.environ["RAYON_NUM_THREADS"]
        else:
            os.environ["RAYON_NUM_THREADS"] = before

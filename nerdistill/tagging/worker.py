"""A worker process: it opens the model, is handed shards, and writes each of them to a file of its own.

It reads its part of the input itself and holds one batch at a time, so nothing but small messages goes between processes. Its files
take their names only when they are whole and on disk.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nerdistill.errors import BundleError, DataError, NerdistillError
from nerdistill.files import sync
from nerdistill.fingerprint import fingerprint
from nerdistill.runtime.backends import Backend, open_for
from nerdistill.runtime.bundle import TOKENIZER, VARIANTS, Bundle, Variant
from nerdistill.runtime.tagger import Tagger
from nerdistill.tagging.batch import RESULTS, Columns, tag_batch
from nerdistill.tagging.from_parquet import open_parquet, row_schema
from nerdistill.tagging.language import LanguageFilter
from nerdistill.tagging.reading import opened, read
from nerdistill.tagging.shards import Shard
from nerdistill.tagging.sinks import SUFFIXES, open_sink, reject_line, writing
from nerdistill.tagging.sources import Documents, ReadOptions, Source, stamp_of
from nerdistill.tagging.unpacked import Unpacked

PATIENCE = 10.0
"""Seconds that a shard may still need, as far as can be told, to be finished when the run is to stop; a longer one is given up."""

COUNTS = ("documents", "words", "windows", "entities", "rejected", "odd", "untagged")
"""What is counted of each shard: rejected records, texts with control characters (odd), texts in other languages (untagged)."""

Report = Callable[..., None]


@dataclass(frozen=True)
class Job:
    """What every worker of a run has to know.

    Attributes:
        bundle: Folder of the student.
        variant: ``fp32`` or ``int8``; None takes the bundle's own choice.
        backend: What runs the network.
        model: What `model_identity` said of it when the run was planned.
        threads: Threads of each worker.
        threshold: As in `tag_batch`.
        languages: Languages to tag; None tags every text.
        lid: Model of language identification; None takes the packaged one.
        options: How the sources are read.
        sources: The input files.
        format: Of the output.
        packing: Of the output, as a suffix.
        native: Where all records stay Arrow, from Parquet to Parquet, a source whose columns they have; else None.
        folder: Where the parts go.
    """

    bundle: Path
    variant: Variant | None
    backend: Backend
    model: str
    threads: int
    threshold: float
    languages: tuple[str, ...] | None
    lid: Path | None
    options: ReadOptions
    sources: tuple[Source, ...]
    format: str
    packing: str
    native: Source | None
    folder: Path

    def part(self, shard: int) -> Path:
        """The output of a shard."""
        return self.folder / f"part-{shard:05}{SUFFIXES[self.format]}{self.packing}"

    def rejects(self, shard: int) -> Path:
        """What was left out of a shard; no file if nothing was."""
        return self.folder / f"_part-{shard:05}.rejects.jsonl"

    def schema(self) -> Any:
        """The Arrow schema of records that stay Arrow; None for all others."""
        if self.native is None:
            return None
        with open_parquet(self.native) as file:
            return row_schema(file.schema_arrow, self.options)


@dataclass(frozen=True)
class Task:
    """A shard to do.

    Attributes:
        shard: Which.
        alone: Batches whose documents are tagged one by one, because processes died in them.
        skipped: Places of documents that are known to end a process.
    """

    shard: Shard
    alone: frozenset[int] = field(default_factory=frozenset)
    skipped: frozenset[int] = field(default_factory=frozenset)


def model_identity(bundle: Bundle) -> str:
    """The fingerprint of all of a student that decides about entities."""
    rules = {"types", "splitter", "inputs", "unk_id", "pad_id", "bos_id", "eos_id", "max_pieces", "window", "overlap"}
    digests = [bundle.info.digests[name] for name in (TOKENIZER, VARIANTS[bundle.variant])]
    return fingerprint(bundle.info.model_dump(include=rules, mode="json"), digests)


class Worker:
    """Does shards, one after the other.

    Args:
        job: What to do with them.

    Raises:
        BundleError: The model is not the one of the plan, or cannot be opened.
        MissingExtraError: Language identification is asked for and not installed.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        bundle = open_for(job.bundle, job.variant, job.backend)
        if model_identity(bundle) != job.model:
            raise BundleError(f"{job.bundle}: the model was changed while it was used; start again")
        self.tagger = Tagger(bundle, job.threads, job.backend)
        self.judge = LanguageFilter(job.languages, job.lid) if job.languages else None
        self.schema = job.schema()
        self._open: tuple[Source, Unpacked] | None = None

    def do(self, task: Task, report: Report = lambda *_: None, stopping: Callable[[], bool] = lambda: False) -> dict[str, int] | None:
        """Tag a shard and write its files.

        Args:
            task: The shard.
            report: Is told of every batch before it is tagged, with ``"batch"``, its number, documents and words done, the share done;
                and of every document that is tagged alone, with ``"alone"`` and its place.
            stopping: Whether the run is to stop.

        Returns:
            Counts of the shard, or None if it was given up.
        """
        job, number = self.job, task.shard.number
        part, rejects = job.part(number), job.rejects(number)
        mine = f"{socket.gethostname()}.{os.getpid()}"  # workers of several machines may share the folder
        beside = [path.with_name(f".{path.name.lstrip('_')}.{mine}") for path in (part, rejects)]
        try:
            counts = self._write(task, beside[0], beside[1], report, stopping)
            if counts is None:
                return None
            for path in beside:
                sync(path)
            if counts["rejected"]:
                beside[1].replace(rejects)
            else:
                rejects.unlink(missing_ok=True)
            beside[0].replace(part)
            return {**counts, "bytes": part.stat().st_size}
        finally:
            for path in beside:
                path.unlink(missing_ok=True)

    def _write(self, task: Task, part: Path, rejects: Path, report: Report, stopping: Callable[[], bool]) -> dict[str, int] | None:
        job, extent, source = self.job, task.shard.extent, self.job.sources[task.shard.source]
        if source.stamp != stamp_of(source.path):
            raise DataError(f"{source.name}: was changed while it was tagged; copy it to where nobody writes, and begin anew with --force")
        counts = dict.fromkeys(COUNTS, 0)
        began, share = time.monotonic(), 0.0
        with writing(part, job.packing) as file, rejects.open("wb") as refused:
            sink = open_sink(job.format, file, job.options, self.schema)
            for number, batch in enumerate(read(source, job.options, extent, self._lines_of(source))):
                report("batch", number, counts["documents"], counts["words"], share)
                if stopping() and (time.monotonic() - began) * (1 - share) > PATIENCE * share:
                    return None
                documents, results = self._tag(batch, task, number in task.alone, report)
                sink.write(documents, results)
                for _, reject in sorted(documents.rejects, key=lambda pair: pair[0]):
                    refused.write(reject_line(reject))
                count(counts, documents, results)
                share = (batch.reached - extent.start) / (extent.stop - extent.start) if extent.stop else 0.0
            sink.close()
        return counts

    def _tag(self, batch: Documents, task: Task, alone: bool, report: Report) -> tuple[Documents, Columns]:
        """What of a batch can be tagged, with its results; the rest is among its rejects."""
        source, stay = self.job.sources[task.shard.source], self.job.options.keeps_errors
        if task.skipped:
            died = "the process that tagged it was killed, or ran out of memory"
            batch = batch.refuse({at: died for at, place in enumerate(batch.places) if place in task.skipped}, source, stay)
        if alone:
            results: Columns = {column: [] for column in RESULTS}
            for place, text in zip(batch.places, batch.texts, strict=True):
                report("alone", place)
                for column, values in tag_batch(self.tagger, [text], self.job.threshold, self.judge).items():
                    results[column] += values
        else:
            results = tag_batch(self.tagger, batch.texts, self.job.threshold, self.judge)
        return settled(batch, results, source, stay)

    def _lines_of(self, source: Source) -> Unpacked | None:
        """The file of a source of lines, left open from shard to shard: a packed one is read on, not begun anew."""
        if source.kind not in ("text", "jsonl"):
            return None
        if self._open is None or self._open[0] != source:
            self.close()
            self._open = source, opened(source)
        return self._open[1]

    def close(self) -> None:
        """Close what is open of the sources."""
        if self._open is not None:
            self._open[1].close()


def settled(batch: Documents, results: Columns, source: Source, stay: bool = False) -> tuple[Documents, Columns]:
    """A batch and its results with rejects for the texts that could not be tagged, which stay with the reason or are left out."""
    errors = {at: error for at, error in enumerate(results["error"]) if error is not None}
    if errors:
        batch = batch.refuse(errors, source, stay)
    if stay:
        results = {**results, "error": [batch.errors.get(at) for at in range(len(batch.texts))]}
    elif errors:
        results = {name: [value for at, value in enumerate(values) if at not in errors] for name, values in results.items()}
    return batch, results


def count(counts: dict[str, int], documents: Documents, results: Columns) -> None:
    """Add a batch to the sums."""
    counts["documents"] += len(documents.texts) - len(documents.errors)
    counts["words"] += sum(results["n_words"])
    counts["windows"] += sum(results["n_windows"])
    counts["entities"] += sum(map(len, results["entities"]))
    counts["untagged"] += sum(1 for note in results["note"] if note)
    counts["odd"] += documents.odd
    counts["rejected"] += len(documents.rejects)


def work(connection: Connection, job: Job) -> None:
    """The life of a worker process.

    It is sent `Task` objects, None for the end and ``"stop"`` when the run is to stop, and sends tuples: ``("ready",)``, the reports of
    `Worker.do`, ``("done", shard, counts)`` with counts None for a shard that was given up, and ``("failed", exit code, message)``.
    When the other end is closed, it ends at once: nobody would count what it does.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the process that started this one, which says what to do
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    stopping = threading.Event()
    threading.Thread(target=_listen, args=(connection, tasks, stopping), daemon=True).start()
    try:
        worker = Worker(job)
        connection.send(("ready",))
        while task := tasks.get():
            counts = worker.do(task, lambda *report: connection.send(report), stopping.is_set)
            connection.send(("done", task.shard.number, counts))
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        connection.send(("failed", *failure_of(error)))


def failure_of(error: Exception) -> tuple[int, str]:
    """The exit code and the message for an error that ended a worker's work; to be called where it is handled."""
    if isinstance(error, NerdistillError):
        return error.exit_code, str(error)
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        return 1, f"{error.strerror or error}{place}; what is finished is kept, and the same command continues"
    return 1, f"a worker failed, which is a fault of nerdistill:\n{traceback.format_exc()}"


def _listen(connection: Connection, tasks: queue.SimpleQueue[Task | None], stopping: threading.Event) -> None:
    """Take messages while the main thread works."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        if message == "stop":
            stopping.set()
        else:
            tasks.put(message)

"""Tagging by the actors of a Ray cluster, where one machine is not enough.

Two ways in. `RayPool` is what `nerdistill.tagging.pool.Pool` is, with actors in the place of worker processes: ``nerdistill tag --engine
ray``. `tag_dataset` maps `nerdistill.tagging.batch.tag_record_batch` over a data set of Ray Data, for programs that have one.

What Ray Data maps in the first are not documents but the numbers of shards. An actor does with a shard what a local worker does with it:
reads it, tags it batch by batch, writes its part beside its place and renames it. So plan, manifest, parts and rejects are those of a local
run, to the byte, and either engine continues what the other began. The other way, documents as rows, was not taken for runs that must be
continued: Ray Data's own checkpoints know a document by an id that the user must have made unique, and hold all ids in memory; a block that
fails is lost or repeated as a whole; and text and results would go through the object store only to be written where they came from. What
it takes is a file system that all machines see under the same paths.

A document may end its process, for which Ray knows one answer: again. So an actor keeps a note beside the part of what it is at. Who does
the shard after a death finds it, and takes the care that `nerdistill.tagging.pool` takes: tags the batch in question document by document,
and leaves out a document that kills again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nerdistill.runtime.backends import Backend
from nerdistill.runtime.bundle import Variant
from nerdistill.runtime.tagger import Tagger
from nerdistill.tagging.batch import tag_record_batch
from nerdistill.tagging.pool import MOST_DEATHS, WorkerError, with_care
from nerdistill.tagging.ray_actors import ray_for, through_actors
from nerdistill.tagging.shards import Shard
from nerdistill.tagging.sources import MOST_DOCUMENTS
from nerdistill.tagging.unpacked import pyarrow_for
from nerdistill.tagging.worker import COUNTS, Job, Task, Worker, failure_of

_RESULTS = (*COUNTS, "bytes")


@dataclass
class RayPool:
    """Does shards in actors; what `Pool` is to a run.

    Attributes:
        ray: From `nerdistill.tagging.ray_actors.cluster`.
        job: What the actors have to know.
        size: How many work at a time, at most.
        warned: Told when processes died.
        gpus: Of each.
        stopping: Set to True, ends with the next shard that is done; the others in work are given up.
    """

    ray: Any
    job: Job
    size: int
    warned: Callable[[str], None]
    gpus: float = 0.0
    stopping: bool = False

    def run(self, shards: Iterable[Shard]) -> Iterator[tuple[int, dict[str, int]]]:
        """Do shards.

        Yields:
            The number and the counts of each shard that is done, in the order in which they are.

        Raises:
            RayError: Ray gave up.
            WorkerError: An actor met an error, or one shard ends process after process.
        """
        todo = {shard.number: shard for shard in shards}
        if not todo:
            return
        arguments = (seen_everywhere(self.job), todo)
        with closing(through_actors(self.ray, ShardActor, arguments, list(todo), self.size, self.job.threads, self.gpus)) as rows:
            for row in rows:
                if row["failure"]:
                    raise WorkerError(row["failure"], row["exit_code"])
                if row["deaths"]:
                    shard = todo[row["shard"]]
                    name = self.job.sources[shard.source].name
                    self.warned(f"{row['deaths']} processes ended in {name} from line {shard.extent.first} on; that part was done again")
                yield row["shard"], {name: row[name] for name in _RESULTS}
                if self.stopping:
                    return

    def doing(self) -> list[tuple[Shard, tuple[Any, ...]]]:
        """Nothing is known of a shard before it is done."""
        return []


def seen_everywhere(job: Job) -> Job:
    """The job with paths that do not depend on the folder in which a process runs."""

    def whole(path: Path) -> Path:
        return path.absolute()

    sources = tuple(replace(source, path=whole(source.path)) for source in job.sources)
    native = replace(job.native, path=whole(job.native.path)) if job.native else None
    lid = whole(job.lid) if job.lid else None
    return replace(job, bundle=whole(job.bundle), lid=lid, sources=sources, native=native, folder=whole(job.folder))


class ShardActor:
    """Does shards, one after the other, with a model that it opens once.

    Args:
        job: What to do with them.
        shards: All shards of the run, by number.
    """

    def __init__(self, job: Job, shards: dict[int, Shard]) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(job.threads)  # of the tokenizer
        self.job = job
        self.shards = shards
        self._worker: Worker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the shard with the number ``row["item"]``.

        Returns:
            ``shard``; ``deaths``, how many processes ended in it; its counts; ``failure``, what went wrong, and its ``exit_code``.
        """
        shard = self.shards[row["item"]]
        beside = self.job.part(shard.number).with_name(f".part-{shard.number:05}.note")
        try:
            note = Note(beside, shard, self.job.sources[shard.source].name)
            self._worker = self._worker or Worker(self.job)
            counts = self._worker.do(note.task, note.take)
            beside.unlink(missing_ok=True)
        except Exception as error:  # raised here it would be Ray's, with a traceback
            code, message = failure_of(error)
            return {"shard": shard.number, "deaths": 0, **dict.fromkeys(_RESULTS, 0), "failure": message, "exit_code": code}
        return {"shard": shard.number, "deaths": note.deaths, **(counts or {}), "failure": "", "exit_code": 0}


class Note:
    """What an actor is at in a shard, on disk, for whoever does the shard again if it dies.

    Its name is that of unfinished parts, which a run that begins sweeps away.

    Args:
        path: The file.
        shard: What is to be done.
        source: Name of the file that it is a part of.

    Attributes:
        deaths: How many processes ended in the shard before this one.
        task: How it is to be done after that.

    Raises:
        WorkerError: Too many did.
    """

    def __init__(self, path: Path, shard: Shard, source: str) -> None:
        self.path = path
        self.deaths = 0
        self.task = Task(shard)
        self._seen: tuple[Any, ...] = ()
        if left := _read(path):
            self.deaths = left["deaths"] + 1
            before = Task(shard, frozenset(left["alone"]), frozenset(left["skipped"]))
            self.task = with_care(before, self.deaths, left["report"], left["seen"])
        if self.deaths >= MOST_DEATHS:
            path.unlink()
            raise WorkerError(
                f"{source}: the part that begins at line {shard.extent.first} ended {self.deaths} processes; "
                "what is finished is kept, and the same command continues. If memory ran out, try fewer --workers or a smaller --max-length"
            )
        self._write(())

    def take(self, *report: Any) -> None:
        """Write down a report of `Worker.do`."""
        if report[0] == "batch":
            self._seen = report
        self._write(report)

    def _write(self, report: tuple[Any, ...]) -> None:
        task = self.task
        left = {"deaths": self.deaths, "alone": [*task.alone], "skipped": [*task.skipped], "report": report, "seen": self._seen}
        self.path.write_text(json.dumps(left), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    """What a process that died left; nothing if none did, or did while it wrote."""
    try:
        left: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return left


def tag_dataset(
    dataset: Any,
    bundle: str | Path,
    text: str = "text",
    threshold: float = 0.0,
    workers: int = 1,
    threads: int = 1,
    variant: Variant | None = None,
    backend: Backend = "onnxruntime",
    gpus: float = 0.0,
) -> Any:
    """`tag_record_batch` over a data set of Ray Data; errors are a column, so no row and no block is lost.

    Args:
        dataset: A ``ray.data.Dataset``. None of its columns may have the name of a result.
        bundle: Folder of the student, which all machines see.
        text: The column that holds the text; null gets an error.
        threshold: As in `tag_batch`.
        workers: Actors, each with a model of its own.
        threads: Of each; as many cores of the cluster are taken.
        variant: ``fp32`` or ``int8``; None takes the bundle's own choice.
        backend: What runs the network.
        gpus: Of each actor; a part of one lets several share it.

    Returns:
        The data set with the columns of `nerdistill.tagging.batch.RESULTS`, as lazy as it was.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    ray = ray_for("tagging a data set of Ray Data")
    return dataset.map_batches(
        BatchActor,
        fn_constructor_args=(str(Path(bundle).absolute()), text, threshold, threads, variant, backend),
        batch_size=MOST_DOCUMENTS,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=threads,
        num_gpus=gpus,
    )


class BatchActor:
    """Tags Arrow tables with a model that it opens once; arguments as of `tag_dataset`."""

    def __init__(self, bundle: str, text: str, threshold: float, threads: int, variant: Variant | None, backend: Backend) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        self.tagger = Tagger.load(Path(bundle), variant, threads, backend)
        self.text = text
        self.threshold = threshold

    def __call__(self, table: Any) -> Any:
        """The table with the columns of the results."""
        pa = pyarrow_for("tagging a data set of Ray Data")
        batches = table.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
        return pa.Table.from_batches([tag_record_batch(self.tagger, batch, self.text, self.threshold) for batch in batches])

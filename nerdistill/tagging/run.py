"""A whole run: inputs to shards, shards through workers, parts to the output; continued where an earlier run was broken off.

Because a part depends on its shard alone, the output has the same bytes however often the run was broken off, and with any number of
workers. The exception is a batch in which worker processes died time after time: its documents are then tagged one by one, and an 8-bit
network may score them a little differently.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal, Protocol, TypeAlias, get_args

from nerdistill.errors import ConfigError, DataError, NerdistillError
from nerdistill.files import exclusive
from nerdistill.fingerprint import sha256_file
from nerdistill.runtime.backends import Backend, open_for
from nerdistill.runtime.bundle import Variant
from nerdistill.runtime.session import cores
from nerdistill.runtime.tagger import Tagger
from nerdistill.tagging.batch import RESULTS, tag_batch
from nerdistill.tagging.language import LanguageFilter
from nerdistill.tagging.manifest import NAME, Manifest
from nerdistill.tagging.place import Place, check_vacant, clear, finish, place_of, sweep
from nerdistill.tagging.pool import Pool
from nerdistill.tagging.progress import Progress
from nerdistill.tagging.reading import read
from nerdistill.tagging.shards import Plan, Shard, check_kind, find_sources, plan, shard_bytes
from nerdistill.tagging.sinks import open_sink
from nerdistill.tagging.sources import STDIN, ReadOptions, Reject, Source
from nerdistill.tagging.worker import COUNTS, Job, count, model_identity, settled, work

VERSION = 2
"""Part of every manifest; counts up when the same input and settings come to give another output."""

LARGEST_DOCBIN_INPUT = 64 << 20
"""Bytes of input up to which the output may be one ``.spacy`` file, which can only be made and read whole."""


Engine: TypeAlias = Literal["local", "ray"]
"""Who does the shards: worker processes of this machine, or the actors of a Ray cluster."""

ENGINES: tuple[Engine, ...] = get_args(Engine)


class Crew(Protocol):
    """Does shards, as `Pool` does."""

    stopping: bool

    def run(self, shards: Iterable[Shard], /) -> Iterator[tuple[int, dict[str, int]] | None]:
        """The number and counts of each shard that is done; None now and then."""

    def doing(self) -> list[tuple[Shard, tuple[Any, ...]]]:
        """The shards in work with the last report of a batch of each."""


Hire: TypeAlias = Callable[[Job, int, Callable[[str], None]], Crew]
"""Given the job, how many are to work at a time and whom to warn: who does it."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        bundle: Folder of the student.
        inputs: Files, patterns, or ``-``.
        out: File, or folder if it ends in ``/`` or is one; None for a stream.
        format: Of the output; None goes by the suffix of `out`.
        input_format: Of the inputs; None goes by the suffix of each.
        options: How inputs are read; which results there are follows from `languages`.
        variant: ``fp32`` or ``int8``; None takes the bundle's own choice.
        backend: What runs the network; see `nerdistill.runtime.backends`.
        threshold: Entities with a score below it are left out.
        languages: Languages to tag; None tags every text.
        lid: Model of language identification; None takes the packaged one.
        engine: Who does the shards; nothing of the output depends on it.
        workers: Processes; None takes one for each core, of this machine or of the cluster.
        threads: Threads of each; None shares the cores out, and is one thread on Ray.
        gpus: Of each actor on Ray.
        shard_bytes: Bytes from which a shard ends; None chooses.
        force: Replace what is there.
        quiet: Show no progress.
    """

    bundle: Path
    inputs: tuple[str, ...]
    out: str | None = None
    format: str | None = None
    input_format: str | None = None
    options: ReadOptions = field(default_factory=ReadOptions)
    variant: Variant | None = None
    backend: Backend = "onnxruntime"
    threshold: float = 0.0
    languages: tuple[str, ...] | None = None
    lid: Path | None = None
    engine: Engine = "local"
    workers: int | None = None
    threads: int | None = None
    gpus: float = 0.0
    shard_bytes: int | None = None
    force: bool = False
    quiet: bool = False

    @property
    def reading(self) -> ReadOptions:
        """How inputs are read, with the results that will stand beside their fields."""
        return replace(self.options, results=(*RESULTS[:3], "note") if self.languages else RESULTS[:3])

    @property
    def reading_rows(self) -> ReadOptions:
        """The same from Parquet to Parquet, where a row that cannot be used stays with its error."""
        return replace(self.options, results=(*self.reading.results, "error"))


@dataclass(frozen=True)
class Summary:
    """What a finished run did.

    Attributes:
        counts: Sums over all documents, by the names in `COUNTS`.
        out: The output; None for a stream.
        rejects: The file of rejects; None if there are none, or for a stream.
        first: Some rejects, to show.
    """

    counts: dict[str, int]
    out: Path | None = None
    rejects: Path | None = None
    first: tuple[Reject, ...] = ()


class StoppedError(NerdistillError):
    """The run was told to stop by a signal, 130 after Ctrl-C and 143 after SIGTERM; what was finished is kept."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def tag_files(request: Request, target: Callable[[Connection, Job], None] = work) -> Summary:
    """Tag files to a file or a folder.

    Args:
        request: What is asked for, with `Request.out`.
        target: As in `Pool`; only for tests.

    Raises:
        BundleError: The model cannot be opened.
        ConfigError: An option is not usable, the output is there already, or it was begun with something else.
        DataError: No input can be read.
        RayError: Ray gave up.
        StoppedError: It was told to stop.
        WorkerError: Workers failed.
    """
    if request.engine == "ray":
        from nerdistill.tagging.on_ray import RayPool
        from nerdistill.tagging.ray_actors import check_gpus, cluster, room_for

        with cluster("--engine ray") as ray:
            threads = request.threads or 1
            if request.gpus:
                check_gpus(ray, request.gpus)
            workers = request.workers or room_for(ray, threads, request.gpus)
            return _tag_files(request, workers, threads, partial(RayPool, ray, gpus=request.gpus))
    workers = request.workers or cores()
    threads = request.threads or max(1, cores() // workers)
    return _tag_files(request, workers, threads, lambda job, size, warned: Pool(job, size, target, warned=warned))


def _tag_files(request: Request, workers: int, threads: int, hire: Hire) -> Summary:
    if request.out is None:
        raise ConfigError("no output is named")
    place = place_of(request.out, request.format)
    check_kind(request.input_format)
    model = model_identity(open_for(request.bundle, request.variant, request.backend))
    if request.languages:
        LanguageFilter(request.languages, request.lid)  # its errors belong before the work
    sources = find_sources(request.inputs, request.input_format, [place.out, place.rejects])
    check_vacant(place, request.force)
    with _folder_of(place):
        if request.force:
            clear(place)
        sources = [_spooled(source, place.folder) for source in sources]
        native = place.format == "parquet" and all(source.kind == "parquet" for source in sources)
        options = request.reading_rows if native else request.reading
        size = request.shard_bytes or shard_bytes(sources)
        planned = plan(sources, options, size, native)
        _check_docbin(place, planned)
        manifest = Manifest(place.folder / NAME, _identity(request, place, planned, model, size))
        whole = [source for source, digest in zip(planned.sources, planned.digests, strict=True) if digest]
        job = Job(
            bundle=request.bundle,
            variant=request.variant,
            backend=request.backend,
            model=model,
            threads=threads,
            threshold=request.threshold,
            languages=request.languages,
            lid=request.lid,
            options=options,
            sources=planned.sources,
            format=place.format,
            packing=place.packing,
            native=whole[0] if native else None,
            folder=place.folder,
        )
        _tag_shards(job, planned, manifest, workers, request.quiet, hire)
        counts = {name: manifest.total(name) for name in COUNTS}
        counts["rejected"] += len(planned.faults)
        first = finish(place, job, planned, manifest)
    return Summary(counts, place.out, place.rejects if first else None, tuple(first))


@contextmanager
def _folder_of(place: Place) -> Iterator[None]:
    """The run's folder, locked; one that this call made is gone again if nothing was begun in it."""
    place.folder.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(place.folder / "_lock", "wait for it"):
            yield
    finally:
        names = {path.name for path in place.folder.iterdir()} if place.folder.is_dir() else set()
        if names and names <= {"_lock", "_stdin", "_replaces"}:
            shutil.rmtree(place.folder)


def _spooled(source: Source, folder: Path) -> Source:
    """Standard input as a file in the run's folder: shards and a second run have to read it again."""
    if source.name != STDIN:
        return source
    path = folder / "_stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    return Source(source.name, path, source.kind)


def _check_docbin(place: Place, planned: Plan) -> None:
    size = sum(shard.size for shard in planned.shards)
    if place.joined and place.format == "spacy" and size > LARGEST_DOCBIN_INPUT:
        raise ConfigError(
            f"{place.out}: a .spacy file can only be made and read whole, which {size} bytes of input are too many for; "
            f"give a folder: -o {place.out.with_suffix('')}/ --format spacy"
        )


def _identity(request: Request, place: Place, planned: Plan, model: str, size: int) -> dict[str, Any]:
    """All that decides what the output is, by the names that messages call it."""
    options = request.options
    return {
        "version": VERSION,
        "the model": model,
        "--backend": request.backend,
        "the input": dict(zip((source.name for source in planned.sources), planned.digests, strict=True)),
        "the order of inputs": [source.name for source in planned.sources],
        "--input-format": [source.kind for source in planned.sources],
        "--format": place.format + place.packing,
        "--text-field": options.text_field,
        "--id-field": options.id_field,
        "--fields": None if options.fields is None else list(options.fields),
        "--encoding": options.encoding,
        "--replace": options.replace,
        "--max-length": options.max_length,
        "--threshold": request.threshold,
        "--languages": None if request.languages is None else list(request.languages),
        "--lid": None if request.lid is None else sha256_file(request.lid),
        "--shard-size": size,
    }


def _tag_shards(job: Job, planned: Plan, manifest: Manifest, workers: int, quiet: bool, hire: Hire) -> None:
    """Do the shards that are not done."""
    sweep(job.folder)
    for number, counts in list(manifest.done.items()):
        part = job.part(number)
        if not part.is_file() or part.stat().st_size != counts["bytes"]:
            manifest.forget(number)
    todo = [shard for shard in planned.shards if shard.number not in manifest.done]
    total = sum(shard.size for shard in planned.shards)
    finished = total - sum(shard.size for shard in todo)
    progress = Progress(total, finished, quiet)
    if manifest.done and todo:
        progress.say(f"continuing: {len(manifest.done)} of {len(planned.shards)} shards are done")
    _check_room(job, todo, progress)
    documents = words = 0
    crew = hire(job, min(workers, len(todo)), progress.say)
    with _stoppable(crew, progress) as signals:
        for done in crew.run(todo):
            if done is not None:
                number, counts = done
                manifest.add(number, counts)
                finished += planned.shards[number].size
                documents, words = documents + counts["documents"], words + counts["words"]
            doing = crew.doing()
            progress.show(
                finished + sum(shard.size * report[4] for shard, report in doing),
                documents + sum(report[2] for _, report in doing),
                words + sum(report[3] for _, report in doing),
            )
    if len(manifest.done) < len(planned.shards):
        raise StoppedError(
            f"stopped: {len(manifest.done)} of {len(planned.shards)} shards are done and kept, and the same command continues", signals[0]
        )


def _check_room(job: Job, todo: Sequence[Shard], progress: Progress) -> None:
    """Say in time that the disk may be too small: parts are about as large as their text and its entities, and joining takes them twice."""
    free, needed = shutil.disk_usage(job.folder).free, 4 * sum(shard.size for shard in todo)
    if free < needed:
        progress.say(f"warning: {free:,} bytes are free in {job.folder}, and up to {needed:,} may be needed")


@contextmanager
def _stoppable(crew: Crew, progress: Progress) -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM stop the work in order, and a second one at once; yields the signals that came."""
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if crew.stopping:
            raise KeyboardInterrupt
        crew.stopping = True
        progress.say("stopping: what is nearly done is finished first; once more stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tag_stream(request: Request, file: IO[bytes], refused: Callable[[Reject], None]) -> Summary:
    """Tag inputs one after the other in this process, to a stream: no shards, nothing to continue.

    Args:
        request: What is asked for, without `Request.out`.
        file: Where to write.
        refused: Is told of every reject.

    Raises:
        BundleError: The model cannot be opened.
        ConfigError: An option is not usable.
        DataError: No input can be read.
    """
    format = request.format or "jsonl"
    if format not in ("jsonl", "conll"):
        raise ConfigError(f"--format {format}: can only be written to a file; give one with -o")
    check_kind(request.input_format)
    options = request.reading
    sources = find_sources(request.inputs, request.input_format)
    tagger = Tagger.load(request.bundle, request.variant, request.threads, request.backend)
    judge = LanguageFilter(request.languages, request.lid) if request.languages else None
    counts = dict.fromkeys(COUNTS, 0)
    sink = open_sink(format, file, options)
    faults: list[DataError] = []
    for source in sources:
        try:
            for batch in read(source, options):
                documents, results = settled(batch, tag_batch(tagger, batch.texts, request.threshold, judge), source)
                sink.write(documents, results)
                file.flush()
                count(counts, documents, results)
                for _, reject in sorted(documents.rejects, key=lambda pair: pair[0]):
                    refused(reject)
        except DataError as error:
            faults.append(error)
            counts["rejected"] += 1
            refused(Reject(source.name, str(error), f"{source.name}:1"))
    if len(faults) == len(sources):
        raise faults[0]
    return Summary(counts)

"""Where a run writes, and how its parts become its output.

A file OUT has its parts in ``OUT.parts`` until all of them are there; then they are joined beside it and it takes its name in one step. A
folder OUT is its parts. Rejects always are in ``OUT.rejects.jsonl``. Names that begin with ``_`` are the run's own; readers of data sets
pass over them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nerdistill.errors import ConfigError
from nerdistill.files import sync
from nerdistill.tagging.manifest import NAME, Manifest
from nerdistill.tagging.shards import Plan
from nerdistill.tagging.sinks import SUFFIXES, check_format, format_of, join, open_sink, reject_line, writing
from nerdistill.tagging.sources import Reject
from nerdistill.tagging.unpacked import PACKINGS
from nerdistill.tagging.worker import Job

_REPLACES = "_replaces"
"""Says that the output may be replaced: --force was given when there was one, or this run itself is about to put it there."""

_SHOWN = 10


@dataclass(frozen=True)
class Place:
    """Where a run writes.

    Attributes:
        out: The output, a file or a folder.
        folder: Where parts and manifest are.
        joined: Whether the output is one file.
        format: Of the output.
        packing: Of the output, as a suffix.
    """

    out: Path
    folder: Path
    joined: bool
    format: str
    packing: str

    @property
    def rejects(self) -> Path:
        """The file of rejects."""
        return self.out.with_name(f"{self.out.name}.rejects.jsonl")


def place_of(out: str, format: str | None) -> Place:
    """Where to write what the user calls `out`: a folder if it ends in ``/`` or is one.

    Raises:
        ConfigError: It does not say in which format, or asks for one that there is not.
    """
    path = Path(out)
    folder = out.endswith("/") or path.is_dir()
    chosen, packing = "jsonl", ""
    if not folder and not format:
        named = format_of(out)
        if named is None:
            raise ConfigError(
                f"{out}: no format has this suffix; expected one of {', '.join(SUFFIXES.values())}, / for a folder, or --format"
            )
        chosen, packing = named
    elif not folder and path.suffix.lower() in PACKINGS:
        packing = path.suffix.lower()
    check_format(format or chosen, packing)
    return Place(path, path if folder else path.with_name(f"{path.name}.parts"), not folder, format or chosen, packing)


def check_vacant(place: Place, force: bool) -> None:
    """Refuse to touch what another run, or somebody else, has written.

    Raises:
        ConfigError: There is something.
    """
    if not place.joined:
        if place.out.is_dir() and not (place.out / NAME).exists() and any(not _own(path) for path in place.out.iterdir()):
            raise ConfigError(f"{place.out}: a folder with other files in it; name a new one")
    elif place.out.exists() and not force and not (place.folder / _REPLACES).exists():
        raise ConfigError(f"{place.out}: exists already; --force begins anew, and replaces it when all is done")


def clear(place: Place) -> None:
    """Forget what an earlier run has done; an output file stays until the new one is whole."""
    for path in place.folder.iterdir():
        if path.name != "_lock" and (_own(path) or path.name.startswith("part-")):
            path.unlink()
    if place.joined and place.out.exists():
        (place.folder / _REPLACES).touch()


def sweep(folder: Path) -> None:
    """Remove what killed workers were writing."""
    for path in folder.glob(".part-*"):
        path.unlink()


def _own(path: Path) -> bool:
    return path.name.startswith(("_", ".part-"))


def finish(place: Place, job: Job, plan: Plan, manifest: Manifest) -> list[Reject]:
    """Make the output from the parts, and the file of rejects.

    Returns:
        Some of the rejects.
    """
    first = _write_rejects(place, job, plan, manifest)
    if not place.joined:
        (place.folder / "_stdin").unlink(missing_ok=True)
        return first
    beside = place.folder / "_joined"
    parts = [job.part(shard.number) for shard in plan.shards]
    if parts:
        with beside.open("wb") as file:
            join(place.format, parts, file)
    else:
        with writing(beside, place.packing) as file:
            open_sink(place.format, file, job.options, job.schema()).close()
    sync(beside)
    (place.folder / _REPLACES).touch()
    beside.replace(place.out)
    sync(place.out.absolute().parent)
    manifest.path.unlink()  # from here on there is nothing to continue
    shutil.rmtree(place.folder)
    return first


def _write_rejects(place: Place, job: Job, plan: Plan, manifest: Manifest) -> list[Reject]:
    """All rejects in the order of the inputs, in one file; no file if there are none."""
    beside = place.folder / "_rejects"
    with beside.open("wb") as file:
        for number, source in enumerate(plan.sources):
            for shard in plan.shards:
                if shard.source == number and manifest.done[shard.number]["rejected"]:
                    with job.rejects(shard.number).open("rb") as part:
                        shutil.copyfileobj(part, file)
            file.writelines(reject_line(fault) for fault in plan.faults if fault.id == source.name)
    sync(beside)
    if beside.stat().st_size == 0:
        beside.unlink()
        place.rejects.unlink(missing_ok=True)
        return []
    beside.replace(place.rejects)
    with place.rejects.open("rb") as file:
        return [Reject(**json.loads(line)) for line in islice(file, _SHOWN)]

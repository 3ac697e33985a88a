"""The plan of a run: which files, and cut into which shards.

A shard is the unit of work, of retry and of what is kept when a run is broken off. All inputs are read once before the work begins: that
finds damaged files, gives every shard its first line number, and a digest by which a changed input is noticed. It costs about as much
as copying the files, far less than tagging them.

A file that cannot be read to its end is left out as a whole, with one reject: it has to be fetched again anyway, and then nothing of it
is tagged twice.
"""

from __future__ import annotations

import codecs
import glob
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nerdistill.corpus.readers.lines import CHUNK
from nerdistill.errors import ConfigError, DataError
from nerdistill.fingerprint import sha256_file
from nerdistill.tagging.from_docbin import docbin_bytes
from nerdistill.tagging.from_parquet import open_parquet, row_schema
from nerdistill.tagging.sources import KINDS, STDIN, Extent, ReadOptions, Reject, Source, kind_of, stamp_of
from nerdistill.tagging.unpacked import Unpacked

SMALLEST = 8 << 20
"""Bytes of a shard: some seconds of work, which is what a kill can cost each worker."""
MOST = 4000
"""Shards of a run, about: larger corpora get larger shards, not more files than a folder should hold."""

Told = Callable[[int], None]
"""Is told of every some bytes that were read."""


@dataclass(frozen=True)
class Shard:
    """A part of the work.

    Attributes:
        number: From 0, in the order of the inputs.
        source: Index of the source that it is a part of.
        extent: Which part.
        size: Its bytes, unpacked where that is known; what progress is measured by.
    """

    number: int
    source: int
    extent: Extent
    size: int


@dataclass(frozen=True)
class Plan:
    """The whole work.

    Attributes:
        sources: The input files in the order of their output.
        digests: SHA-256 of what each source holds; empty for one that cannot be read.
        shards: The parts, in order.
        faults: The sources that cannot be read.
    """

    sources: tuple[Source, ...]
    digests: tuple[str, ...]
    shards: tuple[Shard, ...]
    faults: tuple[Reject, ...]


def find_sources(names: Sequence[str], kind: str | None, avoid: Sequence[Path] = ()) -> list[Source]:
    """The files that are meant by names and patterns, each once.

    Args:
        names: Files, patterns such as ``text/*.jsonl.gz`` (their files in alphabetical order), or ``-``.
        kind: A value of `KINDS`; None goes by each file's suffix, and takes standard input for text.
        avoid: Files of the run itself, which a pattern passes over.

    Raises:
        ConfigError: A folder, or a file of the run itself, is named as input.
        DataError: There is no such file.
    """
    found: dict[Path, Source] = {}
    forbidden = {path.resolve() for path in avoid}
    for name in names:
        plain = name == STDIN or Path(name).exists()
        matches = [name] if plain else sorted(glob.glob(name, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
        if not matches:
            raise DataError(f"{name}: no such file; expected a file, a pattern such as 'text/*.jsonl', or - for standard input")
        for match in matches:
            path = Path(match)
            if match != STDIN and path.is_dir():
                if plain:
                    raise ConfigError(f"{name}: is a folder; name its files, or a pattern such as '{name.rstrip('/')}/*.jsonl'")
                continue
            place = path if match == STDIN else path.resolve()
            if place in forbidden:
                if plain:
                    raise ConfigError(f"{name}: is input and output at once; name another output")
                continue
            found.setdefault(place, Source(match, path, kind or kind_of(match)))
    if not found:
        raise DataError(f"{' '.join(names)}: no file to read")
    return list(found.values())


def check_kind(kind: str | None) -> None:
    """Refuse a kind of file that is not read.

    Raises:
        ConfigError: It is unknown.
    """
    if kind is not None and kind not in KINDS.values():
        raise ConfigError(f"--input-format {kind}: unknown, expected one of {', '.join(dict.fromkeys(KINDS.values()))}")


def shard_bytes(sources: Sequence[Source]) -> int:
    """How large shards are if nobody says."""
    return max(SMALLEST, sum(source.path.stat().st_size for source in sources) // MOST)


def plan(sources: Sequence[Source], options: ReadOptions, size: int, native: bool, told: Told = lambda _: None) -> Plan:
    """Read all sources and cut them into shards.

    Args:
        sources: The files.
        options: How they will be read.
        size: Bytes from which a shard ends.
        native: Records of Parquet files stay as they are, so their columns must be the same in all files.
        told: Is told of every some bytes that were read.

    Raises:
        DataError: No source can be read.
    """
    digests: list[str] = []
    shards: list[Shard] = []
    faults: list[Reject] = []
    schema: list[object] = []
    sources = [replace(source, stamp=stamp_of(source.path)) for source in sources]
    for number, source in enumerate(sources):
        extents: list[tuple[Extent, int]] = []
        digest = ""
        try:
            if source.kind == "parquet":
                extents, digest = _row_groups(source, options, size, schema if native else None)
            elif source.kind == "spacy":
                extents = [(Extent(), len(docbin_bytes(source)))]
                digest = sha256_file(source.path)
            else:
                extents, digest = _lines(source, size, told)
        except (DataError, OSError) as error:
            extents = []
            location, reason = _location(source, error)
            faults.append(Reject(source.name, reason, location))
        digests.append(digest)
        shards += [Shard(len(shards) + at, number, extent, length) for at, (extent, length) in enumerate(extents)]
    if faults and len(faults) == len(sources):
        raise DataError(f"{faults[0].location}: {faults[0].reason}" + (f" (and {len(faults) - 1} more files)" if len(faults) > 1 else ""))
    return Plan(tuple(sources), tuple(digests), tuple(shards), tuple(faults))


class _UnreadableError(DataError):
    """A file that breaks off at a line."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


def _location(source: Source, error: Exception) -> tuple[str, str]:
    """Where and why a file cannot be read."""
    line = error.line if isinstance(error, _UnreadableError) else 1
    return f"{source.name}:{line}", str(error).removeprefix(f"{source.path}: ").removeprefix(f"{source.name}: ")


def _lines(source: Source, size: int, told: Told) -> tuple[list[tuple[Extent, int]], str]:
    """Shards that begin and end with whole lines."""
    digest = hashlib.sha256()
    extents: list[tuple[Extent, int]] = []
    start, first, line = 0, 1, 1
    file = Unpacked(source.path)
    try:
        for content in _chunks(file):
            base = file.at - len(content)
            if base == 0:
                _check_unicode(content)
            digest.update(content)
            told(len(content))
            done = 0
            while (end := content.find(b"\n", max(done, start + size - 1 - base))) >= 0:
                line += content.count(b"\n", done, end + 1)
                done = end + 1
                extents.append((Extent(start, base + done, first), base + done - start))
                start, first = base + done, line
            line += content.count(b"\n", done)
    except DataError as error:
        raise _UnreadableError(str(error), line) from error
    finally:
        file.close()
    if file.at > start:
        extents.append((Extent(start, file.at, first), file.at - start))
    return extents, digest.hexdigest()


def _chunks(file: Unpacked) -> Iterator[bytes]:
    while content := file.read(CHUNK):
        yield content


def _check_unicode(head: bytes) -> None:
    """Refuse UTF-16 and UTF-32, whose lines do not end where bytes say: by their mark, or by zeros in every second byte of Latin text."""
    half = len(head[:1024]) // 2
    zeros = sorted((head[:1024:2].count(0), head[1:1024:2].count(0)))
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    if marked or (half > 1 and zeros[1] > half // 2 and zeros[0] <= half // 20):
        raise DataError("the file is UTF-16 or UTF-32, expected UTF-8; convert it: iconv -f utf-16 -t utf-8 IN > OUT")


def _row_groups(source: Source, options: ReadOptions, size: int, schema: list[object] | None) -> tuple[list[tuple[Extent, int]], str]:
    """Shards of whole row groups."""
    with open_parquet(source) as file:
        columns = row_schema(file.schema_arrow, options)
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    if schema is not None:
        schema.append(columns)
        if not columns.equals(schema[0]):
            schema.pop()
            raise DataError("its columns differ from those of the files before it; tag them apart, or keep fewer with --fields")
    extents: list[tuple[Extent, int]] = []
    start = weight = rows = 0
    first = 1
    for number, group in enumerate(groups, start=1):
        weight += group.total_byte_size
        rows += group.num_rows
        if weight >= size or number == len(groups):
            extents.append((Extent(start, number, first), weight))
            start, first, weight = number, rows + 1, 0
    return extents, sha256_file(source.path)

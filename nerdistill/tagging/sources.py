"""Documents: what every kind of input becomes, and what is kept of its records.

A document is a text with an id and what else its record holds. One that cannot be used becomes a `Reject` with its physical line (in
Parquet its row, in ``.spacy`` its Doc, from 1), and the others go on. Where ``error`` is among the results, a row of Parquet that cannot be
used stays a document besides: without text, with the reason as its result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from nerdistill.errors import ConfigError
from nerdistill.tagging.batch import RESULTS
from nerdistill.tagging.unpacked import PACKINGS, pyarrow_for

KINDS = {".txt": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".spacy": "spacy"}
"""Suffix to the kind of file; any other suffix is text."""

STDIN = "-"
MOST_DOCUMENTS = 1000
"""Documents in a batch: enough that those of like length share a call of the network."""
MOST_CHARACTERS = 250_000
"""Characters in a batch; a longer document is a batch of its own. Words cost some hundred bytes each while they are tagged."""

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1b\x7f-\x84\x86-\x9f]")
"""Control characters, but for white space and what real corpora have inside words."""

_JSON = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object", type(None): "null"}

Records: TypeAlias = Any
"""The records of a batch as their source has them: a list of dictionaries, or an Arrow RecordBatch."""


@dataclass(frozen=True)
class ReadOptions:
    """What is read of a record, and how.

    Attributes:
        text_field: Field of the text.
        id_field: Field of the id; where it is missing or null, ``file:line`` is the id.
        fields: Other fields that are kept; None keeps all.
        encoding: Of text and JSONL; one in which a line end is the byte 0x0A.
        replace: Put U+FFFD in the place of bytes that are not in that encoding and of halves of surrogate pairs; without it, such documents
            are rejected.
        max_length: Characters of the longest document.
        results: Which results are written; a record's own field of such a name is kept with ``input_`` before it. With ``error`` among
            them, rows of Parquet that cannot be used stay.

    Raises:
        ConfigError: The encoding is unknown or has other line ends.
    """

    text_field: str = "text"
    id_field: str = "id"
    fields: tuple[str, ...] | None = None
    encoding: str = "utf-8"
    replace: bool = False
    max_length: int = 5_000_000
    results: tuple[str, ...] = RESULTS[:3]

    def __post_init__(self) -> None:
        """Refuse an encoding whose lines cannot be found."""
        try:
            fits = "\n".encode(self.encoding) == b"\n"
        except LookupError:
            raise ConfigError(f"--encoding {self.encoding}: unknown; expected a name such as utf-8 or cp1252") from None
        if not fits:
            raise ConfigError(f"--encoding {self.encoding}: not read; convert the file: iconv -f {self.encoding} -t utf-8 IN > OUT")
        if named := {self.text_field, self.id_field}.intersection(self.results):
            raise ConfigError(f"the field '{min(named)}' can be neither text nor id: a result has that name; rename it in the input")

    @property
    def longest_line(self) -> int:
        """Bytes of a line beyond which it is not even looked at: a character takes at most 6 in JSON, and other fields need room."""
        return 8 * self.max_length + (1 << 20)

    @property
    def keeps_errors(self) -> bool:
        """Whether a row that cannot be used stays, with the reason as a result."""
        return "error" in self.results

    def keeps(self, name: str) -> bool:
        """Whether a field is kept."""
        return self.fields is None or name in (self.id_field, self.text_field, *self.fields)

    def free_names(self, names: Sequence[str]) -> list[str]:
        """The names under which fields are kept: their own, unless a result has it."""
        free = []
        for name in names:
            new = name
            while new in self.results or (new != name and new in names):
                new = f"input_{new}"
            free.append(new)
        return free


@dataclass(frozen=True)
class Source:
    """An input file.

    Attributes:
        name: As the user wrote it, in ids and messages.
        path: Where it lies.
        kind: A value of `KINDS`.
        stamp: What `stamp_of` said of it when shards were planned.
    """

    name: str
    path: Path
    kind: str
    stamp: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Extent:
    """A part of a source.

    Attributes:
        start: Where it begins: an unpacked byte, a row group, 0 for a ``.spacy`` file.
        stop: Where it ends; None for the end of the file.
        first: Number of its first line, row or Doc.
    """

    start: int = 0
    stop: int | None = None
    first: int = 1


class Reject(NamedTuple):
    """A record that was left out.

    Attributes:
        id: Its own, else ``file:line``.
        reason: Why.
        location: ``file:line``.
    """

    id: Any
    reason: str
    location: str


class Document(NamedTuple):
    """A text with its id, and what is kept of its record (in Parquet the number of its row in the batch).

    Attributes:
        id: Its own, else ``file:line``.
        text: Empty if it cannot be used and stays.
        record: What is kept.
        refused: Why it cannot be used.
    """

    id: Any
    text: str
    record: Any
    refused: Reject | None = None


Found: TypeAlias = tuple[int, Document | Reject | None, int]
"""A place, what is there (None: nothing, such as a blank line between records), and how far the source was read for it."""


class UnusableError(Exception):
    """Why a record cannot be used, and its id if that is known."""

    def __init__(self, reason: str, id: Any = None) -> None:
        super().__init__(reason)
        self.id = id

    def reject(self, where: str) -> Reject:
        """The same with its place."""
        return Reject(where if self.id is None else self.id, str(self), where)


@dataclass
class Documents:
    """A batch.

    Attributes:
        places: Line, row or Doc of each document.
        ids: Their ids.
        texts: Their texts.
        records: What is kept of them, text and id included.
        rejects: With their places; what stood between these documents and could not be used, and what of them could not.
        errors: Index of each document that could not be used and stays, to the reason.
        reached: How far the source was read for this batch, in the units of `Extent`.
        odd: How many of the texts hold control characters.
    """

    places: list[int] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    records: Records = field(default_factory=list)
    rejects: list[tuple[int, Reject]] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    reached: int = 0

    @property
    def odd(self) -> int:
        """How many of the texts hold control characters."""
        return sum(1 for text in self.texts if CONTROL.search(text))

    def refuse(self, refused: Mapping[int, str], source: Source, stay: bool) -> Documents:
        """The batch with rejects for the documents at these indices, which stay without text, or are left out."""
        new = [(self.places[at], Reject(self.ids[at], why, f"{source.name}:{self.places[at]}")) for at, why in refused.items()]
        rejects = [*self.rejects, *new]
        if stay:
            texts = ["" if at in refused else text for at, text in enumerate(self.texts)]
            return replace(self, texts=texts, rejects=rejects, errors={**self.errors, **refused})
        kept = [at for at in range(len(self.places)) if at not in refused]
        if isinstance(self.records, list):
            records = [self.records[at] for at in kept]
        else:
            records = self.records.take(pyarrow_for("reading Parquet").array(kept, "int64"))
        return Documents(
            places=[self.places[at] for at in kept],
            ids=[self.ids[at] for at in kept],
            texts=[self.texts[at] for at in kept],
            records=records,
            rejects=rejects,
            reached=self.reached,
        )


def kind_of(name: str) -> str:
    """What a file is by its name, without the suffix of a packing."""
    path = Path(name)
    if path.suffix.lower() in PACKINGS:
        path = path.with_suffix("")
    return KINDS.get(path.suffix.lower(), "text")


def stamp_of(path: Path) -> tuple[int, int]:
    """Bytes and time of the last change of a file, by which a change between two looks is noticed."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def type_name(value: object) -> str:
    """What a value of JSON is, in words."""
    return _JSON.get(type(value), f"a {type(value).__name__}")


def document_of(record: dict[str, Any], where: str, options: ReadOptions) -> Document:
    """A record of any source, with the fields that are kept and an id.

    Raises:
        UnusableError: It has no text, or too long a one.
    """
    own = record.get(options.id_field)
    if options.text_field not in record:
        raise UnusableError(f"no field '{options.text_field}'", own)
    text = record[options.text_field]
    if not isinstance(text, str):
        raise UnusableError(f"field '{options.text_field}': found {type_name(text)}, expected a string", own)
    check_length(text, options, own)
    if options.fields is not None:
        record = {name: value for name, value in record.items() if options.keeps(name)}
    if any(name in record for name in options.results):
        record = dict(zip(options.free_names(list(record)), record.values(), strict=True))
    if own is None:
        record = {options.id_field: None, **record, options.id_field: where}
    return Document(record[options.id_field], text, record)


def check_length(text: str, options: ReadOptions, own: Any = None) -> None:
    """Refuse a text that would take more memory than a worker should.

    Raises:
        UnusableError: It is too long.
    """
    if len(text) > options.max_length:
        raise UnusableError(f"the text has {len(text)} characters, over {options.max_length}; split it or raise --max-length", own)


def gather(found: Iterable[Found]) -> Iterator[Documents]:
    """Documents and rejects in batches; the last one may be empty."""
    batch, characters = Documents(), 0
    for place, one, reached in found:
        length = len(one.text) if isinstance(one, Document) else 0
        many = max(len(batch.texts), len(batch.rejects)) == MOST_DOCUMENTS
        if many or (batch.texts and characters + length > MOST_CHARACTERS):
            yield batch
            batch, characters = Documents(), 0
        if isinstance(one, Document):
            if one.refused:
                batch.errors[len(batch.texts)] = one.refused.reason
                batch.rejects.append((place, one.refused))
            batch.places.append(place)
            batch.ids.append(one.id)
            batch.texts.append(one.text)
            batch.records.append(one.record)
            characters += length
        elif one:
            batch.rejects.append((place, one))
        batch.reached = reached
    yield batch

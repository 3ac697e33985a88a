"""Documents with their entities to files: JSONL, CoNLL, Parquet, ``.spacy``; and the parts of a corpus joined to one file.

What is written follows from the documents alone: no times, no names of machines, so that the same work gives the same bytes.

- JSONL: the record as it was, then ``entities``, ``n_words``, ``n_windows``. NaN and infinities, which JSON has not, become null.
- Parquet: the same columns. Records of other kinds than Parquet have no types of their own: ``id`` and ``text`` are strings, and what else
  they hold is one column of JSON, ``fields``.
- CoNLL: ``# id = ...``, a line ``# NAME = JSON`` for each other field but the text, then a line for each word: word, offset
  (``start:stop``), score and tag, separated by tabs. Control characters, which readers of CoNLL refuse, are written as U+FFFD.
- ``.spacy``: Docs split by the student's own rule, with ``doc.ents``, scores in ``doc.spans["nerdistill"]`` (and so in ``span._.score``),
  id and other fields in ``user_data``.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

from nerdistill.errors import ConfigError
from nerdistill.tagging.batch import Columns, result_types
from nerdistill.tagging.sources import CONTROL, Documents, ReadOptions, Reject
from nerdistill.tagging.unpacked import PACKINGS, pyarrow_for
from nerdistill.text.splitter import split

SUFFIXES = {"jsonl": ".jsonl", "parquet": ".parquet", "conll": ".conll", "spacy": ".spacy"}
"""What can be written, and how its files end; the first and the third also packed."""

SPANS_KEY = "nerdistill"
_UNKNOWN = "\ufffd"
ROW_GROUP = 4 << 20
"""Characters of text in a row group of a Parquet file."""


class Sink(Protocol):
    """A file that is being written."""

    def write(self, documents: Documents, results: Columns) -> None:
        """Append documents with the columns that `tag_batch` made of their texts."""

    def close(self) -> None:
        """Write what is still to be written."""


def format_of(name: str) -> tuple[str, str] | None:
    """The format and the packing's suffix of a file by its name; None where its suffix says nothing."""
    path = Path(name)
    packing = path.suffix.lower() if path.suffix.lower() in PACKINGS else ""
    suffix = (path.with_suffix("") if packing else path).suffix.lower()
    return next(((format, packing) for format, known in SUFFIXES.items() if known == suffix), None)


def check_format(format: str, packing: str) -> None:
    """Refuse what cannot be written.

    Raises:
        ConfigError: The format is unknown, or packed inside already.
        MissingExtraError: pyarrow is needed and not installed.
    """
    if format not in SUFFIXES:
        raise ConfigError(f"--format {format}: unknown, expected one of {', '.join(SUFFIXES)}")
    if packing and format not in ("jsonl", "conll"):
        raise ConfigError(f"{SUFFIXES[format]}{packing}: {SUFFIXES[format]} files are packed inside; leave out {packing}")
    if format == "parquet":
        pyarrow_for("writing Parquet")
    if packing == ".zst":
        pyarrow_for("writing .zst")


def open_sink(format: str, file: IO[bytes], options: ReadOptions, schema: Any = None) -> Sink:
    """Begin to write.

    Args:
        format: A key of `SUFFIXES`.
        file: Where to; closed by whoever opened it.
        options: How the documents were read.
        schema: For Parquet, the Arrow schema of records that stay Arrow; None for all others.
    """
    if format == "jsonl":
        return _Jsonl(file, options)
    if format == "conll":
        return _Conll(file, options)
    return _Parquet(file, options, schema) if format == "parquet" else _DocBin(file, options)


@contextmanager
def writing(path: Path, packing: str) -> Iterator[IO[bytes]]:
    """A file to write to, packed or not; two such files one after the other are one."""
    with path.open("wb") as file:
        if packing == ".gz":
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                yield cast("IO[bytes]", packed)
        elif packing == ".zst":
            with pyarrow_for("writing .zst").CompressedOutputStream(file, "zstd") as packed:
                yield packed
        else:
            yield file


def join(format: str, parts: Sequence[Path], file: IO[bytes]) -> None:
    """Put parts, at least one, behind each other in one file."""
    if format == "parquet":
        _join_parquet(parts, file)
    elif format == "spacy":
        from spacy.tokens import DocBin

        whole, *others = (DocBin(store_user_data=True).from_disk(part) for part in parts)
        for other in others:
            whole.merge(other)
        file.write(whole.to_bytes())
    else:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)


def _join_parquet(parts: Sequence[Path], file: IO[bytes]) -> None:
    parquet = pyarrow_for("writing Parquet", "pyarrow.parquet")
    with parquet.ParquetWriter(file, parquet.read_schema(parts[0]), compression="zstd") as writer:
        for part in parts:
            with parquet.ParquetFile(part) as source:
                for group in range(source.num_row_groups):
                    writer.write_table(source.read_row_group(group))


def reject_line(reject: Reject) -> bytes:
    """A line of a file of rejects."""
    line = json.dumps(reject._asdict(), ensure_ascii=False, default=_plain)
    return line.encode("utf-8", "backslashreplace") + b"\n"  # half a surrogate pair becomes the escape that it was


def _plain(value: Any) -> Any:
    """What JSON has no type for."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


_strict = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain).encode


def _json(value: Any) -> str:
    try:
        return _strict(value)
    except ValueError:
        return _strict(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def _rows(documents: Documents) -> list[dict[str, Any]]:
    """The records as dictionaries."""
    if isinstance(documents.records, list):
        return documents.records
    pa = pyarrow_for("reading Parquet")
    columns = [  # Python's own times stop at microseconds
        column.cast(pa.string()) if pa.types.is_timestamp(column.type) and column.type.unit == "ns" else column
        for column in documents.records.columns
    ]
    rows: list[dict[str, Any]] = pa.RecordBatch.from_arrays(columns, names=documents.records.schema.names).to_pylist()
    return rows


class _Jsonl:
    def __init__(self, file: IO[bytes], options: ReadOptions) -> None:
        self.file = file
        self.names = options.results

    def write(self, documents: Documents, results: Columns) -> None:
        columns = [results[name] for name in self.names]
        for row, *values in zip(_rows(documents), *columns, strict=True):
            self.file.write(_json({**row, **dict(zip(self.names, values, strict=True))}).encode() + b"\n")

    def close(self) -> None:
        pass


class _Conll:
    def __init__(self, file: IO[bytes], options: ReadOptions) -> None:
        self.file = file
        self.options = options

    def write(self, documents: Documents, results: Columns) -> None:
        comments = [name for name in self.options.results if name != "entities"]
        for at, (row, own, text) in enumerate(zip(_rows(documents), documents.ids, documents.texts, strict=True)):
            lines = [f"# id = {_one_line(own)}"]
            lines += [
                f"# {name} = {_json(value)}" for name, value in row.items() if name not in (self.options.id_field, self.options.text_field)
            ]
            lines += [f"# {name} = {_json(results[name][at])}" for name in comments]
            lines += _tagged(text, results["entities"][at])
            self.file.write("\n".join([*lines, "", ""]).encode())

    def close(self) -> None:
        pass


def _one_line(own: Any) -> str:
    return own if isinstance(own, str) and own.isprintable() else _json(own)


def _tagged(text: str, entities: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each word; the words of an entity are those between its offsets."""
    ahead = iter(entities)
    entity = next(ahead, None)
    for start, stop in split(text):
        while entity and start >= entity["stop"]:
            entity = next(ahead, None)
        if entity and start >= entity["start"]:
            tag, score = f"{'B' if start == entity['start'] else 'I'}-{entity['label']}", f"{entity['score']}"
        else:
            tag, score = "O", "-"
        yield f"{CONTROL.sub(_UNKNOWN, text[start:stop])}\t{start}:{stop}\t{score}\t{tag}"


class _Parquet:
    def __init__(self, file: IO[bytes], options: ReadOptions, schema: Any) -> None:
        pa = pyarrow_for("writing Parquet")
        self.options = options
        types = {name: kind for name, kind in result_types().items() if name in options.results}
        self.own = schema or pa.schema([(name, pa.string()) for name in (options.id_field, options.text_field, "fields")])
        self.schema = pa.schema([*self.own, *(pa.field(name, kind) for name, kind in types.items())])
        self.writer = pyarrow_for("writing Parquet", "pyarrow.parquet").ParquetWriter(file, self.schema, compression="zstd")
        self.held: list[Any] = []
        self.characters = 0

    def write(self, documents: Documents, results: Columns) -> None:
        pa = pyarrow_for("writing Parquet")
        records = documents.records
        columns = self._columns(documents) if isinstance(records, list) else records.columns
        columns = [*columns, *(pa.array(results[name], self.schema.field(name).type) for name in self.options.results)]
        self.held.append(pa.RecordBatch.from_arrays(columns, schema=self.schema))
        self.characters += sum(map(len, documents.texts))
        if self.characters >= ROW_GROUP:
            self._flush()

    def _columns(self, documents: Documents) -> list[Any]:
        pa = pyarrow_for("writing Parquet")
        named = (self.options.id_field, self.options.text_field)
        others = [{name: value for name, value in row.items() if name not in named} for row in documents.records]
        ids = [own if isinstance(own, str) else _json(own) for own in documents.ids]
        return [pa.array(values, pa.string()) for values in (ids, documents.texts, [_json(other) if other else None for other in others])]

    def _flush(self) -> None:
        if self.held:
            self.writer.write_table(pyarrow_for("writing Parquet").Table.from_batches(self.held, self.schema))
        self.held, self.characters = [], 0

    def close(self) -> None:
        self._flush()
        self.writer.close()


class _DocBin:
    def __init__(self, file: IO[bytes], options: ReadOptions) -> None:
        from spacy.tokens import DocBin
        from spacy.vocab import Vocab

        from nerdistill.pipeline.tokenizer import SplitterTokenizer

        self.file = file
        self.options = options
        self.tokenizer = SplitterTokenizer(Vocab())
        self.docs = DocBin(attrs=["ENT_IOB", "ENT_TYPE"], store_user_data=True)

    def write(self, documents: Documents, results: Columns) -> None:
        from spacy.tokens import SpanGroup

        notes = [name for name in self.options.results if name != "entities"]
        for at, (row, own, text) in enumerate(zip(_rows(documents), documents.ids, documents.texts, strict=True)):
            doc = self.tokenizer(text)
            entities = results["entities"][at]
            found = (doc.char_span(entity["start"], entity["stop"], label=entity["label"]) for entity in entities)
            spans = [span for span in found if span is not None]  # all: entities and tokens are of one splitter
            doc.set_ents(spans, default="outside")
            attributes = {"scores": [entity["score"] for entity in entities], "source": "nerdistill"}
            doc.spans[SPANS_KEY] = SpanGroup(doc, name=SPANS_KEY, attrs=attributes, spans=spans)
            kept = {name: value for name, value in row.items() if name != self.options.text_field}
            kept |= {self.options.id_field: own, **{name: results[name][at] for name in notes}}
            doc.user_data.update(json.loads(_json(kept), parse_int=_small))
            self.docs.add(doc)

    def close(self) -> None:
        self.file.write(self.docs.to_bytes())


def _small(digits: str) -> int | str:
    """A whole number that 64 bits hold, else its digits."""
    number = int(digits)
    return number if -(1 << 63) <= number < 1 << 63 else digits

"""Rows of Parquet files to documents. Their records stay Arrow, so that no type is lost between Parquet and Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nerdistill.corpus.readers.lines import CHUNK
from nerdistill.errors import DataError
from nerdistill.tagging.from_lines import decodes
from nerdistill.tagging.sources import (
    MOST_DOCUMENTS,
    Document,
    Documents,
    Extent,
    Found,
    ReadOptions,
    Reject,
    Source,
    UnusableError,
    check_length,
    gather,
)  # fmt: skip
from nerdistill.tagging.unpacked import first_line, pyarrow_for, unpacked_file


@contextmanager
def open_parquet(source: Source) -> Iterator[Any]:
    """A Parquet file; one that is packed again is unpacked to disk first, since it has to be read from its end.

    Raises:
        DataError: It is damaged.
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow = pyarrow_for("reading Parquet")
    parquet = pyarrow_for("reading Parquet", "pyarrow.parquet")
    with unpacked_file(source.path) as stream:
        try:
            file = parquet.ParquetFile(stream, pre_buffer=False, buffer_size=CHUNK)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{source.name}: truncated or corrupt Parquet file ({first_line(error)}); fetch it again") from error
        with file:
            yield file


def parquet_columns(schema: Any, options: ReadOptions) -> list[str]:
    """The columns of a Parquet file that are read.

    Raises:
        DataError: There is no column of texts, or two columns have one name.
    """
    pa = pyarrow_for("reading Parquet")
    if options.text_field not in schema.names:
        raise DataError(f"no column '{options.text_field}'; found {', '.join(schema.names)}; name it with --text-field")
    found = schema.field(options.text_field).type
    inner = found.value_type if pa.types.is_dictionary(found) else found
    if not (pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner)):
        raise DataError(f"column '{options.text_field}': found {found}, expected strings")
    if len(set(schema.names)) < len(schema.names):
        raise DataError("two columns have the same name; rename one")
    return [name for name in schema.names if options.keeps(name)]


def from_parquet(source: Source, options: ReadOptions, extent: Extent) -> Iterator[Documents]:
    """Batches of the row groups of a part of a file; rows that cannot be read are one reject for each row group."""
    pa = pyarrow_for("reading Parquet")
    with open_parquet(source) as file:
        columns = parquet_columns(file.schema_arrow, options)
        place = extent.first
        for group in range(extent.start, file.num_row_groups if extent.stop is None else extent.stop):
            after = place + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(MOST_DOCUMENTS, row_groups=[group], columns=columns, use_threads=False):
                    yield from _from_rows(batch, source, options, place, group)
                    place += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                where = f"{source.name}:{place}"
                reason = f"rows {place} to {after - 1} cannot be read ({first_line(error)}); fetch the file again"
                yield Documents(rejects=[(place, Reject(where, reason, where))], reached=group)
                place = after


def row_schema(schema: Any, options: ReadOptions) -> Any:
    """The Arrow schema of the records of a Parquet file with that schema: the columns that are kept, and an id if there is none."""
    pa = pyarrow_for("reading Parquet")
    names = parquet_columns(schema, options)
    fields = [pa.field(new, schema.field(name).type) for name, new in zip(names, options.free_names(names), strict=True)]
    return pa.schema(fields if options.id_field in names else [pa.field(options.id_field, pa.string()), *fields])


def _from_rows(batch: Any, source: Source, options: ReadOptions, place: int, reached: int) -> Iterator[Documents]:
    """Documents of some rows; their records stay Arrow, so that no type is lost between Parquet and Parquet."""
    texts = values_of(batch.column(options.text_field))
    ids = values_of(batch.column(options.id_field)) if options.id_field in batch.schema.names else [None] * batch.num_rows

    def rows() -> Iterator[Found]:
        for at, (text, own) in enumerate(zip(texts, ids, strict=True)):
            where = f"{source.name}:{place + at}"
            one: Document | Reject
            try:
                if not isinstance(text, str):
                    found = "null" if text is None else "bytes that are not UTF-8"
                    raise UnusableError(f"column '{options.text_field}': found {found}, expected a string", own)
                check_length(text, options, own)
                one = Document(where if own is None else own, text, at)
            except UnusableError as error:
                one = error.reject(where)
                if options.keeps_errors:
                    one = Document(one.id, "", at, refused=one)
            yield place + at, one, reached

    schema = row_schema(batch.schema, options)
    for documents in gather(rows()):
        documents.records = _taken(batch, documents, schema, options)
        yield documents


def _taken(batch: Any, documents: Documents, schema: Any, options: ReadOptions) -> Any:
    """The rows of these documents, with ids where there were none."""
    pa = pyarrow_for("reading Parquet")
    rows = batch.take(pa.array(documents.records, pa.int64()))
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    own = columns.get(options.id_field)
    if own is None:
        columns = {options.id_field: pa.array(documents.ids, pa.string()), **columns}
    elif own.null_count and pa.types.is_string(own.type):
        columns[options.id_field] = pa.array(documents.ids, own.type)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)


def values_of(column: Any) -> list[Any]:
    """The values as Python has them; strings that are not UTF-8, which a broken writer may leave, stay bytes."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        pa = pyarrow_for("reading Parquet")
        plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        raw = [None if value is None else bytes(value) for value in plain.cast(pa.large_binary()).to_pylist()]
        return [value.decode() if value is not None and decodes(value, "utf-8") else value for value in raw]

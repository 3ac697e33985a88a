"""Parquet files, as the Hugging Face hub keeps data sets: the fields of `nerdistill.corpus.readers.jsonl`, one row a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from nerdistill.corpus.readers import READERS, ReadOptions, import_extra
from nerdistill.corpus.readers.jsonl import Records
from nerdistill.errors import DataError
from nerdistill.records import Sentence

_BATCH = 1024


@READERS.register("parquet")
def read_parquet(path: Path, options: ReadOptions) -> Iterator[Sentence]:
    """Yield the sentences of a Parquet file; numeric tags are named by the options or by the data set's own schema.

    Raises:
        DataError: The file is no whole Parquet file, or a row is malformed; rows count from 1.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = import_extra("reading Parquet", "pyarrow")
    parquet = import_extra("reading Parquet", "pyarrow.parquet")
    try:
        with path.open("rb") as handle:
            file = parquet.ParquetFile(handle)
            names = _tag_names(file.schema_arrow.metadata or {}, options.tags_field)
            wanted = (options.tokens_field, options.tags_field, options.text_field, options.spans_field)
            columns = [name for name in file.schema_arrow.names if name in wanted]
            rows = (row for batch in file.iter_batches(_BATCH, columns=columns) for row in batch.to_pylist())
            numbered = ((f"{path}:{number}", row) for number, row in enumerate(rows, start=1))
            yield from Records(path, options, names).sentences(numbered)
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: truncated or corrupt Parquet file ({reason}); fetch it again") from error


def _tag_names(metadata: dict[bytes, bytes], field: str) -> tuple[str, ...] | None:
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][field]
        # Lists of class labels are written as {"feature": {...}, "_type": "List"} or, by old versions, as [{...}].
        inner = feature[0] if isinstance(feature, list) else feature["feature"]
        return tuple(str(name) for name in inner["names"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None

"""Data sets of the Hugging Face hub, through `datasets`: the fields of `nerdistill.corpus.readers.jsonl`, one row a sentence.

No code of a data set is ever run; sets that need a loading script are refused by `datasets` itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from nerdistill.corpus.readers import READERS, ReadOptions, import_extra
from nerdistill.corpus.readers.jsonl import Records
from nerdistill.errors import ConfigError, DataError
from nerdistill.records import Sentence

_ID = re.compile(r"(?P<name>[^:@]+)(?::(?P<config>[^:@]+))?(?:@(?P<split>[^@]+))?")


class _Rows(Protocol):
    features: Mapping[str, object]

    def __iter__(self) -> Iterator[object]: ...


@READERS.register("hub")
def read_hub(path: Path, options: ReadOptions) -> Iterator[Sentence]:
    """Yield the sentences of a data set on the hub, or of its copy in the local cache.

    Args:
        path: ``org/name``, ``org/name:config`` or ``org/name:config@split``; the split is ``train`` where none is given.
        options: Field names, language, and so on.

    Raises:
        ConfigError: The id is malformed.
        DataError: The hub could not be reached, the set cannot be loaded, or a row is malformed; rows count from 1.
        MissingExtraError: datasets is not installed.
    """
    name = path.as_posix()
    found = _ID.fullmatch(name)
    if found is None:
        raise ConfigError(f"'{name}' is no data set id; expected org/name, org/name:config or org/name:config@split")
    rows = _load(name, found["name"], found["config"], found["split"] or "train")
    origins = ((f"{name}:{number}", row) for number, row in enumerate(rows, start=1))
    yield from Records(path, options, _tag_names(rows, options.tags_field)).sentences(origins)


def _load(name: str, repository: str, config: str | None, split: str) -> _Rows:
    datasets = import_extra("reading from the hub", "datasets")
    try:
        rows: _Rows = datasets.load_dataset(repository, config, split=split)
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such data set on the hub, or it is private; check the id, or log in with 'hf auth login'") from error
    except OSError as error:
        raise DataError(
            f"{name}: the hub could not be reached ({type(error).__name__}); connect this machine, or fetch the set's Parquet files on "
            f"one that is connected (hf download {repository} --repo-type dataset) and give their path"
        ) from error
    # What datasets and its HTTP client raise has no common base.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{name}: cannot be loaded: {reason}; sets with a loading script are read from their Parquet files") from error
    return rows


def _tag_names(rows: _Rows, field: str) -> tuple[str, ...] | None:
    feature = rows.features.get(field)
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return None if names is None else tuple(names)

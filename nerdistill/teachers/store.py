"""The signals store: what a teacher said of every word of a text, on disk, written shard by shard.

::

    signals-<fingerprint>/
        reduction.safetensors   how states are reduced: mean ``[L, d]``, directions ``[L, d, D]``, scale ``[L]``
        shard-00000.arrow       one row a sentence: ``logits`` (W x K float16, flat), ``hidden`` (W x L x D float16, flat), ``tags`` (int8)
        done.json               fingerprint and counts; written last

A shard is written beside its place and renamed, so an interrupted annotation continues at the first missing one. Reading maps the files
into memory; nothing is copied until a batch needs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nerdistill.corpus.encoded import Targets
from nerdistill.errors import DataError
from nerdistill.files import DONE, finished, read_json, sync, write_json

SHARD_SENTENCES = 2048


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard is."""
    return folder / f"shard-{number:05}.arrow"


def write_shard(
    folder: Path,
    number: int,
    lengths: Sequence[int],
    logits: npt.NDArray[np.float16],
    hidden: npt.NDArray[np.float16] | None,
    tags: npt.NDArray[np.int8],
) -> None:
    """Write the signals of some sentences.

    Args:
        folder: The store.
        number: Of the shard.
        lengths: Words of each sentence.
        logits: ``[N, K]``, all their words.
        hidden: ``[N, L, D]``, or None.
        tags: ``[N]``, the teacher's hard tags: the most probable valid sequences.
    """
    import pyarrow as pa

    ends = np.cumsum(lengths)

    def rows(values: npt.NDArray[np.generic]) -> pa.Array:
        width = math.prod(values.shape[1:])
        offsets = np.concatenate([[0], ends * width]).astype(np.int64)
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))

    columns = {"logits": rows(logits), "tags": rows(tags)} | ({"hidden": rows(hidden)} if hidden is not None else {})
    table = pa.table(columns)
    path = shard_path(folder, number)
    beside = path.with_suffix(".part")
    with pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    sync(beside)
    beside.replace(path)


def finish_store(folder: Path, identity: str, **counts: int | float | str | list[int]) -> None:
    """Mark a store complete."""
    write_json(folder / DONE, {"identity": identity, **counts})


def store_ready(folder: Path, identity: str) -> bool:
    """Whether a complete store of that fingerprint is there, with all its shards."""
    if not finished(folder, identity=identity):
        return False
    return all(shard_path(folder, number).is_file() for number in range(read_json(folder / DONE)["shards"]))


class ShardedRows:
    """The rows of several mapped files, end to end; only what is asked for is read.

    Args:
        parts: Arrays ``[n, ...]`` that differ in n alone.
    """

    def __init__(self, parts: Sequence[npt.NDArray[Any]]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        self.shape: tuple[int, ...] = (int(self.ends[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: npt.NDArray[np.int64], /) -> npt.NDArray[Any]:
        """The rows of these numbers, in this order."""
        owners = np.searchsorted(self.ends, rows, side="right")
        found = np.empty((len(rows), *self.shape[1:]), dtype=self.parts[0].dtype)
        for owner in np.unique(owners):
            mine = owners == owner
            part = self.parts[owner]
            found[mine] = part[rows[mine] - (self.ends[owner] - len(part))]
        return found


class SignalStore:
    """Reads a complete store.

    Args:
        folder: The store.
        identity: Expected fingerprint.

    Raises:
        DataError: It is incomplete or belongs to another teacher, text or setting.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        if not store_ready(folder, identity):
            raise DataError(f"{folder}: no complete signals of fingerprint {identity}; run 'nerdistill annotate' again")
        self.counts = read_json(folder / DONE)
        self.folder = folder

    def _column(self, name: str, *shape: int) -> list[npt.NDArray[Any]]:
        import pyarrow as pa

        parts: list[npt.NDArray[Any]] = []
        for number in range(self.counts["shards"]):
            table = pa.ipc.open_file(pa.memory_map(str(shard_path(self.folder, number)))).read_all()
            parts += [chunk.values.to_numpy(zero_copy_only=True).reshape(-1, *shape) for chunk in table.column(name).chunks]
        return parts

    def targets(self) -> Targets:
        """Logits and states of all words, in the text's order, left on disk until a batch needs them."""
        layers, width = len(self.counts["layers"]), self.counts["hidden_width"]
        hidden = ShardedRows(self._column("hidden", layers, width)) if width else None
        return Targets(ShardedRows(self._column("logits", self.counts["tags"])), hidden)

    def tags(self) -> npt.NDArray[np.int8]:
        """The teacher's hard tags, ``[N]``."""
        return np.concatenate(self._column("tags"))

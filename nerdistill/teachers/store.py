"""The signals store: what a teacher said of every word of a text, on disk, written shard by shard.

::

    signals-<fingerprint>/
        reduction.safetensors      how states were reduced: mean ``[d]``, directions ``[d, D]``, one scale
        shard-00000.arrow          one row a sentence: ``logits`` (W x K float16, flat), ``hidden`` (W x D float16, flat), ``tags`` (int8)
        done.json                  fingerprint and counts; written last

A shard is written beside its place and renamed, so an interrupted annotation continues at the first missing one. Reading maps the files
into memory; nothing is copied until a batch needs it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nerdistill.corpus.encoded import Targets
from nerdistill.errors import DataError
from nerdistill.files import DONE, finished, read_json, write_json

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
        hidden: ``[N, D]``, or None.
        tags: ``[N]``, the teacher's hard tags: the most probable valid sequences.
    """
    import pyarrow as pa

    ends = np.cumsum(lengths)

    def rows(values: npt.NDArray[np.generic]) -> pa.Array:
        width = values.shape[1] if values.ndim == 2 else 1
        offsets = np.concatenate([[0], ends * width]).astype(np.int64)
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))

    columns = {"logits": rows(logits), "tags": rows(tags)} | ({"hidden": rows(hidden)} if hidden is not None else {})
    table = pa.table(columns)
    path = shard_path(folder, number)
    beside = path.with_suffix(".part")
    with pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    handle = os.open(beside, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    beside.replace(path)


def finish_store(folder: Path, identity: str, **counts: int | float | str) -> None:
    """Mark a store complete."""
    write_json(folder / DONE, {"identity": identity, **counts})


def store_ready(folder: Path, identity: str) -> bool:
    """Whether a complete store of that fingerprint is there."""
    return finished(folder, identity=identity)


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

    def _column(self, name: str, width: int, dtype: type[np.generic]) -> npt.NDArray[np.generic]:
        import pyarrow as pa

        parts = []
        for number in range(self.counts["shards"]):
            table = pa.ipc.open_file(pa.memory_map(str(shard_path(self.folder, number)))).read_all()
            chunks = [chunk.values.to_numpy(zero_copy_only=True) for chunk in table.column(name).chunks]
            parts += [np.asarray(chunk, dtype=dtype).reshape(-1, width) for chunk in chunks]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def targets(self) -> Targets:
        """Logits and states of all words, in the text's order."""
        logits = self._column("logits", self.counts["tags"], np.float16)
        hidden = self._column("hidden", self.counts["hidden_width"], np.float16) if self.counts["hidden_width"] else None
        return Targets(logits, hidden)  # type: ignore[arg-type]

    def tags(self) -> npt.NDArray[np.int8]:
        """The teacher's hard tags, ``[N]``."""
        return self._column("tags", 1, np.int8)[:, 0]  # type: ignore[return-value]

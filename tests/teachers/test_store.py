"""The signals store: what was written comes back, in order, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nerdistill.errors import DataError
from nerdistill.files import DONE
from nerdistill.teachers.store import SignalStore, finish_store, shard_path, store_ready, write_shard

K, D = 5, 3
SHARDS = [[3, 1, 4], [2], [5, 1]]


def signals(n_words: int, first: int = 0) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16], npt.NDArray[np.int8]]:
    """Numbers that say which word and column they are of."""
    words = np.arange(first, first + n_words)
    logits = (words[:, None] * 10 + np.arange(K)).astype(np.float16)
    hidden = -(words[:, None, None] * 10 + np.arange(D) + 5 * np.arange(2)[:, None]).astype(np.float16)
    return logits, hidden, (words % K).astype(np.int8)


def write(folder: Path, hidden: bool = True, shards: list[list[int]] = SHARDS) -> int:
    folder.mkdir()
    at = 0
    for number, lengths in enumerate(shards):
        logits, states, tags = signals(sum(lengths), at)
        write_shard(folder, number, lengths, logits, states if hidden else None, tags)
        at += sum(lengths)
    width = D if hidden else 0
    finish_store(folder, "right", shards=len(shards), sentences=sum(map(len, shards)), words=at, tags=K, hidden_width=width, layers=[1, 6])
    return at


@pytest.mark.parametrize("shards", [SHARDS, SHARDS[:1], [[1]]])
def test_round_trip(shards: list[list[int]], tmp_path: Path) -> None:
    """Rows of another shard, or columns read as rows, are signals of other words."""
    n_words = write(tmp_path / "s", shards=shards)
    store = SignalStore(tmp_path / "s", "right")
    logits, hidden, tags = signals(n_words)
    found = store.targets()
    everything = np.arange(len(logits))
    assert found.logits[everything].dtype == np.float16
    assert np.array_equal(found.logits[everything], logits)
    assert found.hidden is not None
    assert np.array_equal(found.hidden[everything], hidden)
    assert np.array_equal(store.tags(), tags)
    assert store.counts["words"] == n_words


def test_without_states(tmp_path: Path) -> None:
    """A store of logits alone must not pretend to have states."""
    write(tmp_path / "s", hidden=False)
    assert SignalStore(tmp_path / "s", "right").targets().hidden is None


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    """Signals of another teacher, text or setting fit in shape and in nothing else."""
    write(tmp_path / "s")
    assert store_ready(tmp_path / "s", "right")
    assert not store_ready(tmp_path / "s", "wrong")
    with pytest.raises(DataError, match=r"no complete signals of fingerprint wrong.*annotate"):
        SignalStore(tmp_path / "s", "wrong")


def test_an_unfinished_store_is_refused(tmp_path: Path) -> None:
    """All shards but the last: the text would be longer than its signals."""
    write(tmp_path / "s")
    (tmp_path / "s" / DONE).unlink()
    assert not store_ready(tmp_path / "s", "right")
    with pytest.raises(DataError, match="no complete signals"):
        SignalStore(tmp_path / "s", "right")
    with pytest.raises(DataError, match="no complete signals"):
        SignalStore(tmp_path / "nowhere", "right")
    write(tmp_path / "t")
    shard_path(tmp_path / "t", 1).unlink()
    with pytest.raises(DataError, match="no complete signals"):
        SignalStore(tmp_path / "t", "right")


def test_a_shard_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in the middle of a write must not leave a file under the shard's name: the next run would take it for done."""
    import pyarrow as pa

    real = pa.ipc.new_file

    def cut(sink: object, schema: object) -> object:
        real(sink, schema).close()
        raise KeyboardInterrupt

    monkeypatch.setattr(pa.ipc, "new_file", cut)
    logits, hidden, tags = signals(3)
    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path, 0, [3], logits, hidden, tags)
    assert not shard_path(tmp_path, 0).exists()
    monkeypatch.undo()
    write_shard(tmp_path, 0, [3], logits, hidden, tags)
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.arrow"]


def test_one_row_a_sentence(tmp_path: Path) -> None:
    """The files are meant to be read by others too: a row is a sentence, its lists are W times the width."""
    import pyarrow as pa

    write(tmp_path / "s")
    table = pa.ipc.open_file(pa.memory_map(str(shard_path(tmp_path / "s", 0)))).read_all()
    assert [len(row) for row in table.column("logits").to_pylist()] == [length * K for length in SHARDS[0]]
    assert [len(row) for row in table.column("hidden").to_pylist()] == [length * 2 * D for length in SHARDS[0]]
    assert [len(row) for row in table.column("tags").to_pylist()] == SHARDS[0]

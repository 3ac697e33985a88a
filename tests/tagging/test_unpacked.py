"""Lines of files, from any place."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from nerdistill.errors import DataError
from nerdistill.tagging import unpacked
from nerdistill.tagging.unpacked import FromPipe, Unpacked

CONTENT = b"\xef\xbb\xbfone\r\ntwo\n\n\xe2\x80\xa8three\x1c\x85\n" + b"x" * 5000 + b"\nlast"


def zstd(content: bytes) -> bytes:
    """Two frames, as tools that work in parallel write them."""
    half = len(content) // 2
    frames: list[bytes] = [pa.compress(part, codec="zstd", asbytes=True) for part in (content[:half], content[half:])]
    return b"".join(frames)


def gzipped(content: bytes) -> bytes:
    """Two members."""
    half = len(content) // 2
    return gzip.compress(content[:half]) + gzip.compress(content[half:])


PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzipped, ".zst": zstd}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("chunk", [1, 3, 1 << 18])
def test_lines_from_any_place(tmp_path: Path, suffix: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents lines that are lost, doubled or cut where a chunk, a packed frame or a shard ends, or at characters that end no line."""
    monkeypatch.setattr(unpacked, "CHUNK", chunk)
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACKERS[suffix](CONTENT))
    with closing(Unpacked(path)) as file:
        whole = list(file.lines())
        parts = {at: list(file.lines(whole[at].start, whole[at].stop, whole[at].number)) for at in (4, 2, 5, 0, 1)}  # back and forth
    assert [line.content for line in whole] == [line.removesuffix(b"\r") for line in CONTENT.split(b"\n")]
    assert [line.number for line in whole] == [1, 2, 3, 4, 5, 6]
    assert whole[-1].stop == len(CONTENT)
    assert parts == {at: [whole[at]] for at in parts}


def test_long_line_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a line without end from filling the memory, or from hiding the lines after it."""
    monkeypatch.setattr(unpacked, "CHUNK", 100)
    path = tmp_path / "a.txt"
    path.write_bytes(CONTENT)
    with closing(Unpacked(path)) as file:
        lines = list(file.lines(longest=10))
    assert [line.content for line in lines][3:] == ["\u2028three\x1c".encode() + b"\x85", None, b"last"]
    assert lines[4].stop - lines[4].start == 5001


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: b"no packed file at all", lambda raw: raw + b"\x01garbage"])
def test_damage_is_noticed(tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]) -> None:
    """Prevents a file that was cut off from passing for a short one."""
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(damage(PACKERS[suffix](CONTENT * 3)))
    with closing(Unpacked(path)) as file, pytest.raises(DataError, match=r"a\.txt.*truncated or corrupt"):
        list(file.lines())


def test_bomb_is_refused(tmp_path: Path) -> None:
    """Prevents some kilobytes from unpacking to gigabytes."""
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b" " * (66 << 20), 6))
    with closing(Unpacked(path)) as file, pytest.raises(DataError, match="decompression bomb"):
        list(file.lines(longest=1000))


def test_pipe_is_read_on() -> None:
    """Prevents standard input from being asked to go back."""
    pipe = FromPipe(io.BytesIO(b"a\nb"))
    assert [line.content for line in pipe.lines()] == [b"a", b"b"]
    with pytest.raises(ValueError, match="stream"):
        pipe.seek(0)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """Prevents an error that does not say which file."""
    with pytest.raises(DataError, match=r"gone\.txt"):
        Unpacked(tmp_path / "gone.txt")

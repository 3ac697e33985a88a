r"""Files as lines from any place in them, plain or packed, with flat memory.

Lines end at ``\n`` or ``\r\n``, and nowhere else: other characters that Python takes for line ends stand inside real texts.
"""

from __future__ import annotations

import gzip
import importlib
import io
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from nerdistill.corpus.readers.lines import CHUNK, check_expansion
from nerdistill.errors import DataError, MissingExtraError

PACKINGS = {".gz": "gzip", ".zst": "zstd"}
"""Suffix to the name of the packing."""


class Line(NamedTuple):
    """A physical line.

    Attributes:
        number: From 1.
        start: Offset of its first byte in the unpacked file.
        stop: Offset after its line end.
        content: Without the line end; None if it has more bytes than were asked for.
    """

    number: int
    start: int
    stop: int
    content: bytes | None


class Unpacked:
    """An open file as its unpacked bytes, from any offset.

    In a packed file a place ahead is reached by reading on, a place behind by beginning anew; so whoever reads the parts of a file in
    their order unpacks it once.

    Args:
        path: The file; its suffix says whether it is packed.

    Attributes:
        at: Offset of the next byte.

    Raises:
        DataError: It cannot be opened.
        MissingExtraError: It is packed with zstd, and pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packing = PACKINGS.get(path.suffix.lower())
        self.at = 0
        self._raw: BinaryIO
        self._file: Any
        self._read: Callable[[int], bytes]
        self._open()

    def _open(self) -> None:
        self.at = 0
        try:
            self._raw = self.path.open("rb", buffering=0)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        if self.packing == "gzip":
            self._file = gzip.GzipFile(fileobj=self._raw)
            self._read = self._file.read1  # gives what there is before it meets a fault
        elif self.packing == "zstd":
            self._file = pyarrow_for("reading .zst").CompressedInputStream(self._raw, "zstd")
            self._read = self._file.read
        else:
            self._file = self._raw
            self._read = self._raw.read

    def read(self, size: int) -> bytes:
        """Up to that many bytes, none at the end.

        Raises:
            DataError: The file is damaged, cut off, or grows as only a decompression bomb does.
        """
        try:
            content: bytes = self._read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{self.path}: truncated or corrupt gzip file ({error}); fetch it again") from error
        except OSError as error:
            kind = f"truncated or corrupt {self.packing} file" if self.packing else "cannot be read"
            raise DataError(f"{self.path}: {kind} ({error.strerror or error})") from error
        self.at += len(content)
        if self.packing:
            check_expansion(self.path, self.at, self._raw.tell())
        return content

    def seek(self, offset: int) -> None:
        """Go to an offset in the unpacked bytes."""
        if not self.packing:
            self.at = self._raw.seek(offset)
            return
        if offset < self.at:
            self.close()
            self._open()
        while self.at < offset and self.read(min(CHUNK, offset - self.at)):
            pass

    def lines(self, start: int = 0, stop: int | None = None, first: int = 1, longest: int = 1 << 26) -> Iterator[Line]:
        """The lines from one offset to another, both at the beginning of a line.

        Args:
            start: Offset of the first line.
            stop: Offset after the last line; None reads to the end of the file.
            first: Number of the first line.
            longest: Bytes of content above which a line is passed over, and said to be there.
        """
        if start != self.at:
            self.seek(start)
        number, begin, size = first, start, 0
        held: list[bytes] = []
        while content := self.read(CHUNK if stop is None else min(CHUNK, stop - self.at)):
            pieces = content.split(b"\n")
            for piece in pieces[:-1]:
                size += len(piece)
                yield Line(number, begin, begin + size + 1, _joined([*held, piece], size, longest))
                number, begin, size, held = number + 1, begin + size + 1, 0, []
            size += len(pieces[-1])
            held = [*held, pieces[-1]] if size <= longest else []
        if size:
            yield Line(number, begin, begin + size, _joined(held, size, longest))

    def close(self) -> None:
        """Close the file; a fault that is found only now was met before or does not matter."""
        with suppress(OSError):
            self._file.close()
        self._raw.close()


def _joined(held: list[bytes], size: int, longest: int) -> bytes | None:
    return b"".join(held).removesuffix(b"\r") if size <= longest else None


class FromPipe(Unpacked):
    """The same for a stream that can only be read on, such as standard input; it is never packed."""

    def __init__(self, stream: BinaryIO) -> None:
        self.path = Path("-")
        self.packing = None
        self.at = 0
        self._file = self._raw = stream
        self._read = stream.read1 if isinstance(stream, io.BufferedReader) else stream.read

    def seek(self, offset: int) -> None:
        """A stream is only ever read from where it is.

        Raises:
            ValueError: Another place is asked for.
        """
        if offset != self.at:
            raise ValueError(f"asked for offset {offset} of a stream that is at {self.at}")


def unpacked_file(path: Path) -> IO[bytes]:
    """The file, open; if it is packed, a temporary file of its unpacked bytes.

    Raises:
        DataError: It cannot be read.
    """
    packed = Unpacked(path)
    with closing(packed):
        if not packed.packing:
            return path.open("rb")
        copy = tempfile.TemporaryFile()  # noqa: SIM115  (closed by whoever asked for it)
        while content := packed.read(CHUNK):
            copy.write(content)
    copy.seek(0)
    return copy


def first_line(error: Exception) -> str:
    """What an error says, without the lines after the first."""
    return str(error).partition("\n")[0] or type(error).__name__


def pyarrow_for(what: str, module: str = "pyarrow") -> Any:
    """The module, which the base install has not.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, "tag", module) from error

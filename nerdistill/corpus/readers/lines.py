"""Lines of text files, strictly: what a lenient reader would bend is refused with its place.

`str.splitlines` is never used: it also breaks at U+2028, U+0085, form feeds and separators that stand inside words of real corpora.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nerdistill.errors import ConfigError, DataError

CHUNK = 1 << 18
MAX_UNPACKED = 16 << 30
"""Most bytes that a compressed file may unpack to."""
MAX_RATIO = 200
"""Most unpacked bytes for each packed one; text reaches 20, a decompression bomb 1,000."""
FREE_UNPACKED = 64 << 20
"""Bytes that may be unpacked whatever the ratio."""

_BREAK = re.compile("\r\n|\n|\r")
# U+001C to U+001F and U+0085 are let through: Python takes them for line ends, and corpora have them inside words.
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    r"""Yield each line's number, from 1, and its text without the line end (``\n``, ``\r\n`` or a lone ``\r``).

    A file that ends in ``.gz`` is unpacked while it is read.

    Raises:
        ConfigError: There is no such encoding.
        DataError: The file cannot be read, is not in this encoding, is a damaged or suspicious gzip file, or has control characters.
    """
    decoder = _Decoder(path, encoding)
    number = 1
    parts: list[str] = []
    for text in decoder.texts():
        first, *others = _BREAK.split(text)
        parts.append(first)
        for piece in others:
            yield number, _checked(parts, f"{path}:{number}")
            number, parts = number + 1, [piece]
    if any(parts):
        yield number, _checked(parts, f"{path}:{number}")


def check_text(text: str, where: str) -> None:
    """Refuse control characters, NUL and unpaired surrogates.

    Raises:
        DataError: The text has one.
    """
    if found := _REFUSED.search(text):
        what = "unpaired surrogate" if found[0] >= "\ud800" else "control character"
        raise DataError(f"{where}: {what} U+{ord(found[0]):04X} at column {found.start() + 1}; remove it or repair the source")


def check_expansion(path: Path, unpacked: int, packed: int) -> None:
    """Refuse a compressed file that grows beyond what text does.

    Raises:
        DataError: A limit is passed.
    """
    if unpacked > MAX_UNPACKED:
        raise DataError(f"{path}: unpacks to more than {MAX_UNPACKED} bytes; split the file")
    if unpacked > FREE_UNPACKED and unpacked > MAX_RATIO * packed:
        raise DataError(f"{path}: {packed} bytes unpack to more than {unpacked}, over {MAX_RATIO} to 1: refused as a decompression bomb")


def _checked(parts: list[str], where: str) -> str:
    line = "".join(parts)
    check_text(line, where)
    return line


class _Decoder:
    """Bytes of a file to text, with the place of the first byte that does not fit."""

    def __init__(self, path: Path, encoding: str) -> None:
        try:
            "".encode(encoding)
        except LookupError:
            raise ConfigError(f"unknown encoding '{encoding}'; expected a name such as utf-8 or cp1252") from None
        self.path = path
        self.encoding = codecs.lookup(encoding).name
        self.decode = codecs.getincrementaldecoder(encoding)("strict").decode
        self.fed = 0
        self.breaks = 0

    def texts(self) -> Iterator[str]:
        """Yield the text in pieces that never end between the two halves of a line end."""
        held = ""
        start = True
        for chunk in _chunks(self.path):
            if start:
                self._check_unicode(chunk)
            text = held + self._text(chunk, held)
            if start and text:
                text, start = text.removeprefix("\ufeff"), False
            held = "\r" if text.endswith("\r") else ""
            text = text.removesuffix(held)
            self.breaks += _count_breaks(text)
            yield text
        yield held + self._text(b"", held, final=True)

    def _text(self, chunk: bytes, held: str, *, final: bool = False) -> str:
        self.fed += len(chunk)
        try:
            return self.decode(chunk, final)
        except UnicodeDecodeError as error:
            good = error.object[: error.start].decode(self.encoding, "replace")
            line = 1 + self.breaks + _count_breaks(held + good)
            offset = self.fed - len(error.object) + error.start
            raise DataError(
                f"{self.path}:{line}: not {self.encoding}: byte 0x{error.object[error.start]:02X} at byte offset {offset} "
                f"({error.reason}); convert the file to UTF-8, or set encoding to what it is, such as cp1252"
            ) from None

    def _check_unicode(self, head: bytes) -> None:
        if self.encoding.startswith(("utf-16", "utf-32")):
            return
        if name := _wide_encoding(head):
            raise DataError(f'{self.path}:1: the file is {name.upper()}, expected {self.encoding}; convert it, or set encoding = "{name}"')


def _count_breaks(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _wide_encoding(head: bytes) -> str | None:
    """Name UTF-16 and UTF-32 by their mark, or by the zero in every second byte of Latin text."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    sample = head[:1024]
    half = len(sample) // 2
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if half > 1 and max(even, odd) > half // 2 and min(even, odd) <= half // 20:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".gz":
                yield from _unpacked(file, path)
            else:
                while chunk := file.read(CHUNK):
                    yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or corrupt gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _unpacked(file: BinaryIO, path: Path) -> Iterator[bytes]:
    total = 0
    with gzip.GzipFile(fileobj=file) as stream:
        while chunk := stream.read(CHUNK):
            total += len(chunk)
            check_expansion(path, total, file.tell())
            yield chunk

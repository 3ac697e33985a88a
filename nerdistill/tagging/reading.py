"""A part of a source to batches of documents, whatever kind of file it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from nerdistill.tagging.from_docbin import from_docbin
from nerdistill.tagging.from_lines import from_lines
from nerdistill.tagging.from_parquet import from_parquet
from nerdistill.tagging.sources import STDIN, Documents, Extent, ReadOptions, Source, gather
from nerdistill.tagging.unpacked import FromPipe, Unpacked


def opened(source: Source) -> Unpacked:
    """A file of lines, ready to be read from any place; standard input from where it is."""
    return FromPipe(sys.stdin.buffer) if source.name == STDIN and not source.path.is_file() else Unpacked(source.path)


def read(source: Source, options: ReadOptions, extent: Extent | None = None, file: Unpacked | None = None) -> Iterator[Documents]:
    """The documents of a part of a source, in batches that depend on nothing but that part.

    Args:
        source: The file.
        options: What is read of it.
        extent: The part; None reads everything.
        file: The file, if it is one of lines that is open already.

    Raises:
        DataError: The file as a whole cannot be read.
    """
    extent = extent or Extent()
    if source.kind == "parquet":
        yield from from_parquet(source, options, extent)
    elif source.kind == "spacy":
        yield from gather(from_docbin(source, options))
    else:
        lines = file or opened(source)
        try:
            yield from gather(from_lines(source, options, lines.lines(extent.start, extent.stop, extent.first, options.longest_line)))
        finally:
            if file is None:
                lines.close()

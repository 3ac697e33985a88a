"""spaCy's ``.spacy`` files to documents: the text of each Doc, and what its ``user_data`` has under plain names."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nerdistill.corpus.readers.lines import CHUNK
from nerdistill.errors import DataError
from nerdistill.tagging.sources import Document, Found, ReadOptions, Reject, Source, UnusableError, document_of
from nerdistill.tagging.unpacked import unpacked_file

if TYPE_CHECKING:
    from spacy.tokens import Doc

LARGEST_DOCBIN = 512 << 20
"""Unpacked bytes of a ``.spacy`` file, which is one block that can only be read whole."""


def docbin_bytes(source: Source) -> bytes:
    """The content of a ``.spacy`` file, which still is one packed block.

    Raises:
        DataError: It is damaged, or too large to be read whole.
    """
    with unpacked_file(source.path) as file:
        block = file.read()
    stream, size, rest = zlib.decompressobj(), 0, block
    try:
        while content := stream.decompress(rest, CHUNK):
            size += len(content)
            rest = stream.unconsumed_tail
            if size > LARGEST_DOCBIN:
                raise DataError(
                    f"{source.name}: unpacks to over {LARGEST_DOCBIN} bytes, and a .spacy file can only be read whole; write it in parts"
                )
    except zlib.error as error:
        raise DataError(f"{source.name}: truncated or corrupt .spacy file ({error}); write it again with DocBin.to_disk") from error
    if not stream.eof:
        raise DataError(f"{source.name}: truncated .spacy file; write it again with DocBin.to_disk")
    return block


def docbin_docs(source: Source) -> Iterator[Doc]:
    """The Docs of a ``.spacy`` file.

    Raises:
        DataError: It is no DocBin, or a Doc in it is damaged.
    """
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    block = docbin_bytes(source)
    number = 0
    try:
        for number, doc in enumerate(DocBin().from_bytes(block).get_docs(Vocab()), start=1):  # noqa: B007  (said in the error)
            yield doc
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        place = f"cannot be read from Doc {number + 1} on" if number else "corrupt .spacy file"
        raise DataError(f"{source.name}: {place} ({type(error).__name__}); write it again with DocBin.to_disk") from error


def from_docbin(source: Source, options: ReadOptions) -> Iterator[Found]:
    """The text of each Doc; from a damaged one on, the rest is one reject."""
    place = 0
    one: Document | Reject
    try:
        for place, doc in enumerate(docbin_docs(source), start=1):
            where = f"{source.name}:{place}"
            try:
                kept = {name: value for name, value in doc.user_data.items() if isinstance(name, str) and name != options.text_field}
                one = document_of({options.text_field: doc.text, **kept}, where, options)
            except UnusableError as error:
                one = error.reject(where)
            yield place, one, 0
    except DataError as error:
        where = f"{source.name}:{place + 1}"
        yield place + 1, Reject(where, str(error), where), 0

"""spaCy's binary ``.spacy`` files: the entities of each Doc as tags, one sentence for each sentence of the Doc."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from nerdistill.corpus.readers import READERS, ReadOptions
from nerdistill.corpus.readers.lines import CHUNK, check_expansion
from nerdistill.errors import DataError
from nerdistill.labels import tags_of
from nerdistill.records import Sentence, WordSpan

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token


@READERS.register("docbin")
def read_docbin(path: Path, options: ReadOptions) -> Iterator[Sentence]:
    """Yield the sentences of a DocBin file; a Doc without sentence bounds is one sentence.

    White space tokens are left out, and an entity that crosses a sentence bound is cut there. Origins count Docs from 1.

    Raises:
        DataError: The file is no DocBin, or a Doc has tokens without entity annotation.
    """
    for number, doc in enumerate(_docs(path), start=1):
        yield from _sentences(doc, options, f"{path}:{number}")


def _docs(path: Path) -> Iterator[Doc]:
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    data = path.read_bytes()
    try:
        _check_size(data, path)
        yield from DocBin().from_bytes(data).get_docs(Vocab())
    except (zlib.error, EOFError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: truncated or corrupt .spacy file ({type(error).__name__}); write it again with DocBin.to_disk") from error


def _check_size(data: bytes, path: Path) -> None:
    stream = zlib.decompressobj()
    total = 0
    rest = data
    while chunk := stream.decompress(rest, CHUNK):
        total += len(chunk)
        check_expansion(path, total, len(data))
        rest = stream.unconsumed_tail


def _sentences(doc: Doc, options: ReadOptions, origin: str) -> Iterator[Sentence]:
    kept = [token for token in doc if not token.text.isspace()]
    tags = _tags(doc, kept, origin) if options.labelled else None
    starts = [sentence.start for sentence in doc.sents] if doc.has_annotation("SENT_START") else [0]
    begin = 0
    for _, group in groupby(kept, key=lambda token: bisect_right(starts, token.i)):
        words = tuple(token.text for token in group)
        end = begin + len(words)
        yield Sentence(words, tags and tags[begin:end], options.language, origin)
        begin = end


def _tags(doc: Doc, kept: Sequence[Token], origin: str) -> tuple[str, ...]:
    for token in kept:
        if not token.ent_iob_:
            raise DataError(f"{origin}: token {token.i} has no entity annotation; set doc.ents (empty for none), or labelled = false")
    place = {token.i: number for number, token in enumerate(kept)}
    spans = []
    for entity in doc.ents:
        inside = [place[at] for at in range(entity.start, entity.end) if at in place]
        if inside:
            spans.append(WordSpan(inside[0], inside[-1] + 1, entity.label_))
    return tags_of(spans, len(kept))

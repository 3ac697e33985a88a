"""Texts to measure with: those of files, and any number of short documents made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nerdistill.corpus.readers import ReadOptions, read
from nerdistill.errors import DataError

_LENGTH = 10
"""Words of a short document."""


def read_texts(paths: Iterable[Path], limit: int = 0) -> list[str]:
    """Texts of the files in turn, one of each, so that neighbours are of different files.

    Args:
        paths: Files in any format of docs/data.md; labels are not read.
        limit: Texts of each file; 0 takes all.

    Raises:
        DataError: A file cannot be read.
    """
    by_file = []
    for path in paths:
        sentences = [" ".join(sentence.words) for sentence in read(path, options=ReadOptions(labelled=False))]
        by_file.append(sentences[:limit] if limit else sentences)
    longest = max(map(len, by_file), default=0)
    return [texts[at] for at in range(longest) for texts in by_file if at < len(texts)]


def short_documents(texts: Sequence[str], start: int, stop: int) -> Iterator[str]:
    """Documents number `start` to `stop` of an endless stream: ten words of a text each, over and over.

    Every document holds one word that no other has, as new words keep coming in real text too; all others recur.

    Raises:
        DataError: There is no word in the texts.
    """
    split = [text.split() for text in texts]
    pieces = [words[at : at + _LENGTH] for words in split for at in range(0, len(words), _LENGTH)]
    if not pieces:
        raise DataError(f"{len(texts)} texts without a word in them; expected at least one")
    for number in range(start, stop):
        words = [*pieces[number % len(pieces)]]
        words[number % len(words)] += _letters(number)
        yield " ".join(words)


def _letters(number: int) -> str:
    """A number in letters, for words must not look like numbers."""
    written = ""
    while True:
        number, digit = divmod(number, 26)
        written += chr(ord("a") + digit)
        if not number:
            return written

"""CoNLL files: one word a line in 2 to 4 columns, an empty line after each sentence.

Columns are separated by tabs where the first row has one, otherwise by runs of tabs and ASCII spaces; no other white space
separates. A row of another width is refused: padded or shifted columns turn words into tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nerdistill.corpus.readers import READERS, ReadOptions, check_word
from nerdistill.corpus.readers.lines import read_lines
from nerdistill.corpus.schemes import is_tag, parse_tag
from nerdistill.errors import DataError
from nerdistill.records import Sentence

_MAX_COLUMNS = 4
_DOCUMENT = re.compile("-DOCSTART-(?:[\t ]|$)")
_BLANKS = re.compile("[\t ]+")


@READERS.register("conll")
def read_conll(path: Path, options: ReadOptions) -> Iterator[Sentence]:
    """Yield the sentences of a CoNLL file.

    With ``comments``, a line before a sentence's first word that begins with ``#`` is a comment, unless it reads as a row whose tag
    column holds a tag: a tweet may begin with that very word.

    Raises:
        DataError: A row has another number of columns, or its word or tag is not usable.
    """
    table = _Table(path, options)
    words: list[str] = []
    tags: list[str] = []
    begin = 0
    for number, line in read_lines(path, options.encoding):
        if not line.strip("\t ") or _DOCUMENT.match(line):
            if words:
                yield table.sentence(words, tags, begin)
                words, tags = [], []
        elif words or not table.is_comment(line):
            begin = begin if words else number
            word, tag = table.row(line, number)
            words.append(word)
            tags.append(tag)
    if words:
        yield table.sentence(words, tags, begin)


class _Table:
    """The shape of one file, fixed by its first row."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path = path
        self.options = options
        self.width = 0
        self.tabs = False
        self.known: set[str] = set()

    def is_comment(self, line: str) -> bool:
        """Whether a line that could begin a sentence is a comment."""
        if not self.options.comments or not line.startswith("#"):
            return False
        cells = self._cells(line, self.tabs)
        fits = len(cells) == self.width if self.width else 2 <= len(cells) <= _MAX_COLUMNS
        tag_column = self.options.columns[1]
        return not (fits and -len(cells) <= tag_column < len(cells) and is_tag(cells[tag_column]))

    def row(self, line: str, number: int) -> tuple[str, str]:
        """The word and the tag of a row; the tag is empty where none is wanted."""
        where = f"{self.path}:{number}"
        if not self.width:
            self.tabs = "\t" in line
        cells = self._cells(line, self.tabs)
        if not self.width:
            self._measure(len(cells), where)
        if len(cells) != self.width:
            hint = "; if it is a comment, set comments = true" if line.startswith("#") and not self.options.comments else ""
            kind = "tab-separated " if self.tabs else ""
            raise DataError(f"{where}: found {len(cells)} columns, expected {self.width} ({kind}as in the first row){hint}")
        word = cells[self.options.columns[0]]
        check_word(word, where)
        if not self.options.labelled:
            return word, ""
        tag = cells[self.options.columns[1]]
        if tag not in self.known:
            parse_tag(tag, where, self.known)
            self.known.add(tag)
        return word, tag

    def sentence(self, words: list[str], tags: list[str], line: int) -> Sentence:
        """The rows that were gathered, as a sentence that begins at a line."""
        labels = tuple(tags) if self.options.labelled else None
        return Sentence(tuple(words), labels, self.options.language, f"{self.path}:{line}")

    def _cells(self, line: str, tabs: bool) -> list[str]:
        return [cell.strip(" ") for cell in line.split("\t")] if tabs else _BLANKS.split(line.strip("\t "))

    def _measure(self, width: int, where: str) -> None:
        least = 2 if self.options.labelled else 1
        if not least <= width <= _MAX_COLUMNS:
            raise DataError(f"{where}: found {width} columns, expected {least} to {_MAX_COLUMNS}, separated by tabs or spaces")
        wanted = self.options.columns if self.options.labelled else self.options.columns[:1]
        if any(not -width <= column < width for column in wanted) or len({column % width for column in wanted}) < len(wanted):
            raise DataError(f"{where}: found {width} columns, expected word and tag in columns {list(wanted)}, counted from 0; set columns")
        self.width = width

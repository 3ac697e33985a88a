"""Plain text without labels: one sentence or paragraph a line, split into words by the program's own rule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nerdistill.corpus.readers import READERS, ReadOptions
from nerdistill.corpus.readers.lines import read_lines
from nerdistill.errors import ConfigError
from nerdistill.records import Sentence
from nerdistill.text.splitter import split_words


@READERS.register("plain")
def read_plain(path: Path, options: ReadOptions) -> Iterator[Sentence]:
    """Yield a sentence for each line that has a word; lines of white space are passed over.

    Raises:
        ConfigError: The options ask for labels.
        DataError: The file is not readable as text.
    """
    if options.labelled:
        raise ConfigError(f"{path}: plain text has no tags; set labelled = false, or give a file that has labels, such as .conll or .jsonl")
    for number, line in read_lines(path, options.encoding):
        if words := split_words(line):
            yield Sentence(tuple(words), None, options.language, f"{path}:{number}")

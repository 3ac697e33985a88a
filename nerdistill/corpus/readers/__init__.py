"""Readers: files in the usual formats to sentences with IOB2 tags.

A reader is one file of this folder. It yields words and tags as the source has them; `read` then refuses what no format may hold
(empty words, words with spaces, control characters, unknown tags) and turns the tags into IOB2, so that no reader repeats that.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from nerdistill.corpus import schemes
from nerdistill.corpus.readers.lines import check_text
from nerdistill.errors import ConfigError, DataError, MissingExtraError
from nerdistill.labels import OUTSIDE
from nerdistill.records import Sentence
from nerdistill.registry import Registry

log = logging.getLogger(__name__)

SUFFIXES = {
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".tsv": "conll",
    ".jsonl": "jsonl",
    ".txt": "plain",
    ".parquet": "parquet",
    ".spacy": "docbin",
}
"""Which reader ``format="auto"`` takes for which file name."""

_BINARY = ("parquet", "docbin")
# Only for speed: most sentences have nothing in them that needs a look word by word.
_ODD = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class ReadOptions:
    """How a file is to be read; every reader takes what concerns it.

    Attributes:
        language: Language code put on each sentence.
        columns: Columns of word and tag in CoNLL files, counted from 0, negative from the end.
        encoding: Of text files.
        scheme: ``auto``, ``iob1``, ``iob2``, ``bioes`` or ``bilou``.
        tokens_field: Field with the list of words.
        tags_field: Field with one tag (a string or a number) a word.
        text_field: Field with the raw text, for records without words.
        spans_field: Field with entities as a list of ``{"start", "end", "label"}`` in characters of the text.
        tag_names: Names of numeric tags in order; without it they are taken from the file where it has them.
        comments: Whether lines before a sentence that begin with ``#`` are comments, in CoNLL files.
        labelled: Whether tags are read; False reads the words only.

    Raises:
        ConfigError: The scheme is unknown.
    """

    language: str = "xx"
    columns: tuple[int, int] = (0, -1)
    encoding: str = "utf-8"
    scheme: str = "auto"
    tokens_field: str = "tokens"
    tags_field: str = "ner_tags"
    text_field: str = "text"
    spans_field: str = "spans"
    tag_names: tuple[str, ...] | None = None
    comments: bool = False
    labelled: bool = True

    def __post_init__(self) -> None:
        """Refuse a scheme that does not exist before a file is opened."""
        if self.scheme != "auto":
            schemes.scheme_of(self.scheme)


Reader = Callable[[Path, ReadOptions], Iterator[Sentence]]

READERS: Registry[Reader] = Registry("reader", __name__)


def read(path: Path | str, format: str = "auto", options: ReadOptions | None = None) -> list[Sentence]:
    """Read all sentences of a file.

    Args:
        path: The file; for the format ``hub`` an id such as ``org/name:config@split``.
        format: A reader's name, or ``auto`` to choose by the file's suffix.
        options: How to read it.

    Returns:
        Sentences in file order with valid IOB2 tags, or without tags where ``labelled`` is False.

    Raises:
        ConfigError: The format is unknown, or does not fit the options.
        DataError: The file is missing, malformed or has no sentence; the message names file and line.
    """
    path, options = Path(path), options or ReadOptions()
    reader = READERS.get(format_of(path) if format == "auto" else format)
    sentences = []
    try:
        for sentence in reader(path, options):
            check_words(sentence.words, sentence.origin)
            sentences.append(sentence)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not sentences:
        raise DataError(f"{path}: no sentence in the file")
    if not options.labelled:
        return [replace(sentence, tags=None) for sentence in sentences]
    return _converted(path, sentences, options)


def format_of(path: Path) -> str:
    """The reader's name for a file's suffix, with or without ``.gz``.

    Raises:
        ConfigError: The suffix is unknown, or that format is not read from gzip.
    """
    packed = path.suffix.lower() == ".gz"
    suffix = (path.with_suffix("") if packed else path).suffix.lower()
    if suffix not in SUFFIXES:
        known = f"set format to one of {', '.join(READERS)}, or use a suffix of {', '.join(SUFFIXES)}"
        raise ConfigError(f"{path}: unknown suffix '{suffix}'; {known}")
    if packed and SUFFIXES[suffix] in _BINARY:
        raise ConfigError(f"{path}: {suffix} files are compressed inside and not read from gzip; unpack it with gunzip")
    return SUFFIXES[suffix]


def check_words(words: Sequence[str], where: str) -> None:
    """Refuse words that would not come back whole, naming each by its place and not by its text.

    Raises:
        DataError: A word is empty or blank, has a space, tab or line end inside, a control character or half a surrogate pair.
    """
    if all(words) and not _ODD.search("".join(words)):
        return
    for number, word in enumerate(words, start=1):
        check_word(word, f"{where}: word {number}")


def check_word(word: str, where: str) -> None:
    """Refuse one word; see `check_words`.

    Other white space, such as U+00A0 or U+3000, may stand inside a word: real corpora write numbers and names with it.

    Raises:
        DataError: The word is not usable.
    """
    if not word or word.isspace():
        raise DataError(f"{where}: the word is empty or blank; remove it, or give it its text")
    for space in " \t\n\r":
        if space in word:
            raise DataError(f"{where}: white space (U+{ord(space):04X}) inside the word; split it into two words with a tag each")
    check_text(word, where)


def import_extra(what: str, module: str) -> ModuleType:
    """Import a module that only some installations have.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, "train", module) from error


def _converted(path: Path, sentences: Sequence[Sentence], options: ReadOptions) -> list[Sentence]:
    tagged = [(sentence, _known_tags(sentence)) for sentence in sentences]
    _check_tags(tagged)
    where = str(path)
    scheme = schemes.detect_scheme((tags for _, tags in tagged), where) if options.scheme == "auto" else schemes.scheme_of(options.scheme)
    result, repairs = [], 0
    for sentence, tags in tagged:
        fixed, changes = schemes.to_iob2(tags, scheme, sentence.origin)
        repairs += changes
        result.append(replace(sentence, tags=fixed))
    if scheme != "iob2":
        log.info("%s: tags converted from %s to IOB2", path, scheme.upper())
    if repairs:
        log.warning("%s: %d tags continued no entity (%s) and were read as B-", path, repairs, scheme.upper())
    if all(tag == OUTSIDE for _, tags in tagged for tag in tags):
        log.warning("%s: no entity in %d sentences, every tag is O", path, len(tagged))
    return result


def _known_tags(sentence: Sentence) -> tuple[str, ...]:
    if sentence.tags is None:
        raise DataError(f"{sentence.origin}: the sentence has no tags; set labelled = false to read the words only")
    return sentence.tags


def _check_tags(tagged: Iterable[tuple[Sentence, Sequence[str]]]) -> None:
    known: set[str] = set()
    for sentence, tags in tagged:
        for number, tag in enumerate(tags, start=1):
            if tag not in known:
                schemes.parse_tag(tag, f"{sentence.origin}: word {number}", known)
                known.add(tag)

"""JSON lines: a record a line, with words and tags or with a text and the character spans of its entities."""

from __future__ import annotations

import json
import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nerdistill.corpus.readers import READERS, ReadOptions
from nerdistill.corpus.readers.lines import check_text, read_lines
from nerdistill.corpus.schemes import is_tag
from nerdistill.errors import DataError
from nerdistill.labels import tags_of
from nerdistill.records import Sentence, WordSpan
from nerdistill.text.splitter import split

log = logging.getLogger(__name__)


@READERS.register("jsonl")
def read_jsonl(path: Path, options: ReadOptions) -> Iterator[Sentence]:
    """Yield the sentences of a JSON lines file; blank lines and records without a word are passed over.

    Raises:
        DataError: A line is no JSON object, or its fields are missing or contradict each other.
    """
    rows = ((f"{path}:{number}", _parsed(line, f"{path}:{number}")) for number, line in read_lines(path, options.encoding) if line.strip())
    yield from Records(path, options).sentences(rows)


def _parsed(line: str, where: str) -> object:
    try:
        record: object = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON: {error.msg} at column {error.colno}; expected one object a line") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: JSON that cannot be read: {type(error).__name__}; expected one flat object a line") from None
    return record


class Records:
    """Records with the fields that the options name, as sentences. All formats made of records share it.

    Args:
        path: The source, for messages.
        options: Field names, language, whether tags are read.
        tag_names: Names of numeric tags that the source itself gives; those in the options come first.
    """

    def __init__(self, path: Path, options: ReadOptions, tag_names: Sequence[str] | None = None) -> None:
        self.path = path
        self.options = options
        self.tag_names = options.tag_names or tag_names
        self.widened = 0

    def sentences(self, rows: Iterable[tuple[str, object]]) -> Iterator[Sentence]:
        """Yield a sentence for each pair of origin and record that has words.

        Raises:
            DataError: A record is malformed; the message begins with its origin.
        """
        for origin, record in rows:
            if not isinstance(record, dict):
                raise DataError(f"{origin}: found a {type(record).__name__}, expected an object with fields")
            words, tags = self._words_and_tags(record, origin)
            if words:
                yield Sentence(words, tags, self.options.language, origin)
        if self.widened:
            log.warning("%s: %d spans began or ended inside a word and were widened to whole words", self.path, self.widened)

    def _words_and_tags(self, record: Mapping[str, Any], origin: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
        options = self.options
        if options.labelled and options.tokens_field in record and options.tags_field in record:
            words = self._words(record, origin)
            return words, self._tags(record[options.tags_field], len(words), origin)
        if options.labelled and options.text_field in record and options.spans_field in record:
            return self._from_spans(record, origin)
        if options.labelled:
            raise DataError(
                f"{origin}: found the fields {', '.join(sorted(map(str, record))) or 'none'}, expected {options.tokens_field} and "
                f"{options.tags_field}, or {options.text_field} and {options.spans_field}; name the fields, or set labelled = false"
            )
        if options.tokens_field in record:
            return self._words(record, origin), None
        text = self._text(record, origin)
        return tuple(text[start:stop] for start, stop in split(text)), None

    def _words(self, record: Mapping[str, Any], origin: str) -> tuple[str, ...]:
        field = self.options.tokens_field
        words = record[field]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError(f"{origin}: {field} is no list of strings")
        return tuple(words)

    def _text(self, record: Mapping[str, Any], origin: str) -> str:
        field = self.options.text_field
        text = record.get(field)
        if not isinstance(text, str):
            found = f"a {type(text).__name__}" if field in record else "no such field"
            raise DataError(f"{origin}: {field}: found {found}, expected a string")
        check_text(text, f"{origin}: {field}")
        return text

    def _tags(self, tags: object, n_words: int, origin: str) -> tuple[str, ...]:
        field = self.options.tags_field
        if not isinstance(tags, list):
            raise DataError(f"{origin}: {field} is a {type(tags).__name__}, expected a list")
        if len(tags) != n_words:
            raise DataError(f"{origin}: {n_words} words in {self.options.tokens_field} but {len(tags)} tags in {field}")
        if all(isinstance(tag, str) for tag in tags):
            return tuple(tags)
        return tuple(self._name(tag, f"{origin}: word {number}") for number, tag in enumerate(tags, start=1))

    def _name(self, tag: object, where: str) -> str:
        if not isinstance(tag, int) or isinstance(tag, bool):
            raise DataError(f"{where}: {self.options.tags_field} has a {type(tag).__name__}, expected only strings or only whole numbers")
        if self.tag_names is None:
            raise DataError(f'{where}: the tag is the number {tag}, whose name is not known; set tag_names = ["O", "B-PER", ...]')
        if not 0 <= tag < len(self.tag_names):
            raise DataError(f"{where}: the tag {tag} is out of range, expected 0 to {len(self.tag_names) - 1} as there are names")
        return self.tag_names[tag]

    def _from_spans(self, record: Mapping[str, Any], origin: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        text = self._text(record, origin)
        bounds = split(text)
        spans: list[WordSpan] = []
        previous_end = 0
        for start, end, label in self._char_spans(record[self.options.spans_field], len(text), origin):
            where = f"{origin}: the span {start}..{end}"
            if start < previous_end:
                raise DataError(f"{where} overlaps the one before it; keep one of the two")
            first = bisect_right(bounds, start, key=lambda word: word[1])
            stop = bisect_left(bounds, end, key=lambda word: word[0])
            if first >= stop:
                raise DataError(f"{where} covers no word; remove it")
            if spans and first < spans[-1].stop:
                raise DataError(f"{where} ends inside a word that the span before it reaches into; correct the bounds")
            self.widened += bounds[first][0] < start or bounds[stop - 1][1] > end
            spans.append(WordSpan(first, stop, label))
            previous_end = end
        return tuple(text[start:stop] for start, stop in bounds), tags_of(spans, len(bounds))

    def _char_spans(self, spans: object, length: int, origin: str) -> list[tuple[int, int, str]]:
        field = self.options.spans_field
        if not isinstance(spans, list):
            raise DataError(f"{origin}: {field} is a {type(spans).__name__}, expected a list")
        checked = []
        for number, span in enumerate(spans, start=1):
            if not isinstance(span, dict):
                raise DataError(f"{origin}: {field} {number} is a {type(span).__name__}, expected an object with start, end and label")
            start, end, label = span.get("start"), span.get("end"), span.get("label")
            if type(start) is not int or type(end) is not int or not isinstance(label, str) or not is_tag(f"B-{label}"):
                raise DataError(f"{origin}: {field} {number}: expected whole numbers start and end, and a label without spaces")
            if not 0 <= start < end <= length:
                raise DataError(f"{origin}: {field} {number}: {start}..{end} does not fit into a text of {length} characters")
            checked.append((start, end, label))
        return sorted(checked)

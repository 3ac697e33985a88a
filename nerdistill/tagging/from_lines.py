"""Text, a document a line, and JSONL, a record a line, to documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from nerdistill.tagging.sources import Document, Found, ReadOptions, Reject, Source, UnusableError, check_length, document_of, type_name
from nerdistill.tagging.unpacked import Line

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def from_lines(source: Source, options: ReadOptions, lines: Iterable[Line]) -> Iterator[Found]:
    """What is on each line; blank lines between records are nothing, but in text they are documents."""
    make = _from_json if source.kind == "jsonl" else _from_text
    for line in lines:
        where = f"{source.name}:{line.number}"
        one: Document | Reject | None
        try:
            one = make(_decoded(line, options), where, options)
        except UnusableError as error:
            one = error.reject(where)
        yield line.number, one, line.stop


def _decoded(line: Line, options: ReadOptions) -> str:
    if line.content is None:
        size = line.stop - line.start
        raise UnusableError(f"the line has {size} bytes, over {options.longest_line}; split the document or raise --max-length")
    content = line.content.removeprefix(b"\xef\xbb\xbf") if line.number == 1 else line.content
    try:
        return content.decode(options.encoding, "replace" if options.replace else "strict")
    except UnicodeDecodeError as error:
        offset = line.start + len(line.content) - len(content) + error.start
        guess = "cp1252" if decodes(content, "cp1252") else "latin-1"
        raise UnusableError(
            f"not {options.encoding}: byte 0x{content[error.start]:02X} at byte offset {offset}; "
            f"give the file's --encoding (perhaps {guess}), or --replace",
            _id_in(content.decode(options.encoding, "replace"), options),
        ) from None


def _id_in(line: str, options: ReadOptions) -> Any:
    """The id of a record that is damaged elsewhere; None where none can be read."""
    try:
        own = json.loads(line)[options.id_field]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return own if isinstance(own, str | int) and "\ufffd" not in str(own) else None


def decodes(content: bytes, encoding: str) -> bool:
    """Whether bytes are text in an encoding."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _from_text(text: str, where: str, options: ReadOptions) -> Document:
    check_length(text, options)
    return Document(where, text, {options.id_field: where, options.text_field: text})


def _from_json(line: str, where: str, options: ReadOptions) -> Document | None:
    if not line.strip():
        return None
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UnusableError(f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise UnusableError(f"JSON that cannot be read: too deep, or a number too long ({type(error).__name__})") from None
    if not isinstance(record, dict):
        raise UnusableError(f"not a record: found {type_name(record)}, expected an object")
    if _ESCAPED_SURROGATE.search(line):
        record = _encodable(record, options)
    return document_of(record, where, options)


def _encodable(record: dict[str, Any], options: ReadOptions) -> dict[str, Any]:
    """The record without halves of surrogate pairs, which no output could hold; one U+FFFD for each keeps every offset true."""
    plain = json.dumps(record, ensure_ascii=False)
    if not _SURROGATE.search(plain):
        return record
    if not options.replace:
        text = record.get(options.text_field)
        inside = f"'{options.text_field}'" if isinstance(text, str) and _SURROGATE.search(text) else "another field"
        own = record.get(options.id_field)
        raise UnusableError(f"half of a surrogate pair in {inside}; repair the source, or put U+FFFD in its place with --replace", own)
    repaired: dict[str, Any] = json.loads(_SURROGATE.sub("\ufffd", plain))
    return repaired

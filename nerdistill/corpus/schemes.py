"""Tag schemes: recognise IOB1, IOB2 (BIO), BIOES and BILOU, and turn each into IOB2.

A tag is ``O`` or a capital prefix, a hyphen and a type (``B-PER``). Anything else is refused with the closest known form, because a
tag that is quietly taken for another one spoils training and scores without a trace.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Literal, get_args

from nerdistill.errors import ConfigError, DataError
from nerdistill.labels import OUTSIDE

Scheme = Literal["iob1", "iob2", "bioes", "bilou"]

_PREFIXES: dict[Scheme, str] = {"iob1": "BI", "iob2": "BI", "bioes": "BIES", "bilou": "BILU"}
_ALIASES: dict[str, Scheme] = {**{name: name for name in get_args(Scheme)}, "bio": "iob2", "iobes": "bioes", "bioul": "bilou"}
_TAG = re.compile(r"([BIESLU])-(\S+)")
_CONTINUES = "IEL"
_CLOSES = "ESLU"
_PREFIX_FIRST = re.compile(r"([A-Z])\s*[-_:/.|\u2013\u2014]\s*(\S*)", re.IGNORECASE)
_PREFIX_LAST = re.compile(r"(\S+?)\s*[-_:/.|\u2013\u2014]\s*([BIESLU])", re.IGNORECASE)


def scheme_of(name: str) -> Scheme:
    """The scheme of that name; ``bio`` is another name of ``iob2``.

    Raises:
        ConfigError: There is none.
    """
    try:
        return _ALIASES[name.lower()]
    except KeyError:
        raise ConfigError(f"unknown tag scheme '{name}'; known: auto, {', '.join(_ALIASES)}") from None


def is_tag(text: str) -> bool:
    """Whether a text has the form of a tag in one of the schemes."""
    return _parts(text) is not None


def parse_tag(tag: str, where: str, known: Collection[str] = ()) -> tuple[str, str]:
    """Prefix and type of a tag; the type of ``O`` is empty.

    Args:
        tag: The tag as the file has it.
        where: ``file:line`` for the message.
        known: Tags met before, preferred as the suggestion.

    Raises:
        DataError: The tag has none of the known forms.
    """
    parts = _parts(tag)
    if parts is None:
        closest = _closest(tag, known)
        raise DataError(f"{where}: unknown tag {tag!r}, expected O or a form such as B-PER; the closest known form is {closest!r}")
    return parts


def detect_scheme(sentences: Iterable[Sequence[str]], where: str = "tags") -> Scheme:
    """The scheme that a set of tagged sentences is written in.

    ``E`` or ``S`` means BIOES, ``L`` or ``U`` means BILOU. Of the rest, IOB1 is what opens entities with ``I`` and has ``B`` only
    between neighbours of one type; everything else, a set without entities included, is IOB2.

    Args:
        sentences: The tags of each sentence; every sentence counts, so that one odd sentence does not decide.
        where: File name for the message.

    Raises:
        DataError: Prefixes of BIOES and of BILOU occur together, or a tag has no known form.
    """
    prefixes: set[str] = set()
    opens_inside = opens_with_b = False
    for tags in sentences:
        previous = ""
        for tag in tags:
            prefix, kind = parse_tag(tag, where)
            prefixes.add(prefix)
            if kind and kind != previous:
                opens_inside |= prefix == "I"
                opens_with_b |= prefix == "B"
            previous = kind
    if prefixes & set("ES") and prefixes & set("LU"):
        found = ", ".join(f"{prefix}-" for prefix in sorted(prefixes & set("ESLU")))
        raise DataError(f"{where}: BIOES and BILOU are mixed, found the prefixes {found}; convert the file to one scheme")
    if prefixes & set("ES"):
        return "bioes"
    if prefixes & set("LU"):
        return "bilou"
    return "iob1" if opens_inside and not opens_with_b else "iob2"


def to_iob2(tags: Sequence[str], scheme: Scheme, where: str = "tags") -> tuple[tuple[str, ...], int]:
    """Turn the tags of one sentence into valid IOB2, and count the repairs.

    A tag that should continue an entity but follows none of its type opens one (the conlleval rule, as in `nerdistill.labels.repair`).
    In IOB1 that is no repair but the rule.

    Args:
        tags: Tags in the given scheme.
        scheme: What `detect_scheme` or the user says.
        where: ``file:line`` of the sentence, for the message.

    Returns:
        The IOB2 tags and the number of tags that were invalid in their scheme.

    Raises:
        DataError: A tag has no known form or does not belong to the scheme.
    """
    fixed: list[str] = []
    repairs = 0
    opened = ""
    for tag in tags:
        prefix, kind = parse_tag(tag, where)
        if prefix == OUTSIDE:
            fixed.append(OUTSIDE)
            opened = ""
            continue
        if prefix not in _PREFIXES[scheme]:
            raise DataError(f"{where}: the tag {tag!r} does not belong to the scheme {scheme}; set scheme to the file's own or to auto")
        continues = prefix in _CONTINUES and kind == opened
        repairs += prefix in _CONTINUES and not continues and scheme != "iob1"
        fixed.append(f"{'I' if continues else 'B'}-{kind}")
        opened = "" if prefix in _CLOSES else kind
    return tuple(fixed), repairs


@lru_cache(maxsize=4096)
def _parts(tag: str) -> tuple[str, str] | None:
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _TAG.fullmatch(tag)
    return (found[1], found[2]) if found else None


def _closest(tag: str, known: Collection[str]) -> str:
    text = tag.strip()
    if text in ("", "-", "_", "0", "o"):
        return OUTSIDE
    if first := _PREFIX_FIRST.fullmatch(text):
        prefix = first[1].upper()
        guess = f"{prefix if prefix in 'BIESLU' else 'I'}-{first[2] or 'PER'}"
    elif last := _PREFIX_LAST.fullmatch(text):
        guess = f"{last[2].upper()}-{last[1]}"
    else:
        guess = f"B-{text}"
    for candidate in sorted(known):
        if candidate.lower() == guess.lower():
            return candidate
    return guess.upper() if text == text.lower() else guess

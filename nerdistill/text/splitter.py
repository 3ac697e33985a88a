"""Raw text to words: one rule for every language, the same in training and in serving.

A word is a run of letters, marks and digits; every other visible character stands alone (an emoji sequence counts as one). Scripts
written without spaces (Han, kana, Thai, Lao, Khmer, Burmese) are split into characters with their combining marks, so that an entity
can begin and end anywhere.
Apostrophes follow three rules that hold across languages: elided articles keep theirs (``l'|Italie``, ``dell'|arte``); after a
capitalised word a lower-case ending is a suffix (``Ankara|'da``, ``Obama|'s``); elsewhere it is inside the word (``O'Brien``,
``don't``). Hyphens, dots and commas between letters or digits stay inside (``Jean-Luc``, ``U.S.A``, ``3.14``).

No rule looks across white space, so a text is cut there first, and what stands between is split once and remembered: most of it recurs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import regex

NAME = "unicode-1"
"""Written into every bundle; changes when the rule changes."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_CORE = rf"[[\p{{L}}\p{{M}}\p{{N}}_\u200c\u200d]--[{_UNSPACED}]]"
_SPACE = r"[\s\x1c-\x1f]"
_EXTEND = r"[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}]"
_ELIDED = (
    "(?:l|d|j|m|n|s|t|c|qu|jusqu|lorsqu|puisqu|quoiqu|quelqu|presqu|dell|nell|all|dall|sull|coll|un|quest|quell|bell|sant|tutt|anch|com|"
    "dov|gl|degl|nessun|qualcun)['’]"
)
WORD = regex.compile(
    rf"""
      (?<!{_CORE})(?i:{_ELIDED})(?={_CORE})
    | (?<=\p{{L}})['’]\p{{Ll}}++(?!{_CORE})
    | \p{{Lu}}{_CORE}*+(?=['’]\p{{Latin}})(?=['’]\p{{Ll}}+(?!{_CORE}))
    | {_CORE}+(?:[-.,·'’‑:@]{_CORE}+)*
    | [{_UNSPACED}][\p{{M}}]*
    | \p{{Regional_Indicator}}{{2}}{_EXTEND}*+
    | (?!{_SPACE})\X(?<!{_SPACE})
    | [^\s\x1c-\x1f]
    """,
    regex.VERBOSE | regex.VERSION1,
)


_LONGEST_RUN = 64
"""Characters of a run without white space that is remembered; a longer one is a sentence in an unspaced script, or no text at all."""


@lru_cache(maxsize=1 << 16)
def _remembered(run: str) -> tuple[str, ...]:
    return tuple(WORD.findall(run))


def split_words(text: str) -> list[str]:
    """The words of a text as strings, in order; white space belongs to none."""
    words: list[str] = []
    for run in text.split():
        words += _remembered(run) if len(run) <= _LONGEST_RUN else WORD.findall(run)
    return words


def split_spaced(text: str) -> tuple[list[str], list[bool]] | None:
    """The words of a text, and whether a space follows each, where no other white space than single spaces between words is in it.

    Returns:
        Both, as spaCy makes a doc of them, or None: then there is more between the words than this can say.
    """
    words: list[str] = []
    spaces: list[bool] = []
    for run in text.split(" "):
        found = _spaced(run) if len(run) <= _LONGEST_RUN else _spaced.__wrapped__(run)
        if found is None:
            return None
        words += found[0]
        spaces += found[1]
    spaces[-1] = False
    return words, spaces


@lru_cache(maxsize=1 << 16)
def _spaced(run: str) -> tuple[tuple[str, ...], tuple[bool, ...]] | None:
    """The words of a run before a space, which follows the last of them; None if they are not all of it."""
    words = tuple(WORD.findall(run))
    return (words, (*[False] * (len(words) - 1), True)) if words and "".join(words) == run else None


def places(text: str, words: Iterable[str]) -> list[tuple[int, int]]:
    """Where words stand in their text, as (start, stop) character offsets.

    Args:
        text: The text.
        words: What `split_words` gives of it, or the first few of these.
    """
    found: list[tuple[int, int]] = []
    stop = 0
    find = text.index
    for word in words:
        start = find(word, stop)  # only white space stands before it, so it is found where it begins
        stop = start + len(word)
        found.append((start, stop))
    return found


def split(text: str) -> list[tuple[int, int]]:
    """The words of a text as (start, stop) character offsets, in order."""
    return places(text, split_words(text))

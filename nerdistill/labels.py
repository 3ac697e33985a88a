"""Entity types, IOB2 tags and the ways between tags, ids and spans.

Inside nerdistill every tag is IOB2: ``B-X`` opens an entity of type X, ``I-X`` continues it, ``O`` is outside. Other schemes are
converted at the door (`nerdistill.corpus.schemes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nerdistill.records import WordSpan

OUTSIDE = "O"


def tag_type(tag: str) -> str | None:
    """The entity type of an IOB2 tag, None for ``O``."""
    return None if tag == OUTSIDE else tag[2:]


@dataclass(frozen=True)
class LabelScheme:
    """An ordered set of entity types and the tag ids that follow from it.

    The id of ``O`` is 0; type number i has ``B`` at 2i + 1 and ``I`` at 2i + 2.

    Attributes:
        types: Entity types in a fixed order.
    """

    types: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse repeated or empty types."""
        if len(set(self.types)) != len(self.types) or not all(self.types):
            raise ValueError(f"entity types must be distinct and not empty, found {list(self.types)}")

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """All tags in id order, K of them."""
        return (OUTSIDE, *(f"{prefix}-{name}" for name in self.types for prefix in "BI"))

    @cached_property
    def ids(self) -> dict[str, int]:
        """Tag to id."""
        return {tag: number for number, tag in enumerate(self.tags)}

    @cached_property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """``[K + 1, K]``: whether tag k may follow tag j in IOB2; the last row is the start of a sentence."""
        size = len(self.tags)
        table = np.ones((size + 1, size), dtype=bool)
        for number in range(len(self.types)):
            inside = 2 * number + 2
            table[:, inside] = False
            table[[inside - 1, inside], inside] = True
        return table

    def encode(self, tags: Sequence[str]) -> npt.NDArray[np.int64]:
        """Ids of tags; ``KeyError`` names an unknown one."""
        return np.fromiter((self.ids[tag] for tag in tags), dtype=np.int64, count=len(tags))

    def decode(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Tags of ids."""
        return tuple(self.tags[number] for number in ids)


def repair(tags: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Make tags valid IOB2 by the conlleval rule, and count the changes.

    An ``I-X`` that does not continue an entity of type X becomes ``B-X``.
    """
    fixed: list[str] = []
    changes = 0
    previous: str | None = None
    for tag in tags:
        kind = tag_type(tag)
        if tag.startswith("I-") and kind != previous:
            fixed.append(f"B-{kind}")
            changes += 1
        else:
            fixed.append(tag)
        previous = kind
    return tuple(fixed), changes


def spans_of(tags: Sequence[str]) -> list[WordSpan]:
    """The entities of valid IOB2 tags, in order."""
    spans: list[WordSpan] = []
    start: int | None = None
    for at, tag in enumerate([*tags, OUTSIDE]):
        if start is not None and not tag.startswith("I-"):
            spans.append(WordSpan(start, at, tags[start][2:]))
            start = None
        if tag.startswith("B-"):
            start = at
    return spans


def tags_of(spans: Iterable[WordSpan], n_words: int) -> tuple[str, ...]:
    """IOB2 tags of spans that do not overlap."""
    tags = [OUTSIDE] * n_words
    for span in spans:
        tags[span.start] = f"B-{span.label}"
        tags[span.start + 1 : span.stop] = [f"I-{span.label}"] * (span.stop - span.start - 1)
    return tuple(tags)

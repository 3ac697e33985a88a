"""The small frozen records that cross folders: sentences on the way in, entities on the way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WordSpan:
    """An entity over words.

    Attributes:
        start: Index of its first word.
        stop: Index after its last word.
        label: Entity type, such as ``PER``.
        score: Geometric mean, over the entity's words, of the model's probability of the tag it was given; in (0, 1]. It ranks
            entities of one model, and is not calibrated.
    """

    start: int
    stop: int
    label: str
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity over characters of a text.

    Attributes:
        start: Offset of its first character in the text as it was given.
        stop: Offset after its last character.
        text: ``text[start:stop]``.
        label: Entity type, such as ``PER``.
        score: As in `WordSpan`.
    """

    start: int
    stop: int
    text: str
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of words, with tags where it is labelled.

    Attributes:
        words: The words as the source splits them; never empty strings.
        tags: One IOB2 tag a word, or None for unlabelled text.
        language: Language code, as written in the configuration.
        origin: ``file:line`` of its first line, for messages.
        unannotated: Entity types that this source does not mark. Where such a type could be, ``O`` says nothing about it.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    language: str = "xx"
    origin: str = ""
    unannotated: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Refuse a sentence whose tags do not match its words."""
        if self.tags is not None and len(self.tags) != len(self.words):
            raise ValueError(f"{self.origin or 'sentence'}: {len(self.words)} words but {len(self.tags)} tags")


def labelled(sentences: Iterable[Sentence]) -> list[tuple[Sentence, tuple[str, ...]]]:
    """The sentences that have tags, each beside them."""
    return [(sentence, sentence.tags) for sentence in sentences if sentence.tags is not None]

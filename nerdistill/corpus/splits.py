"""Keeping sets apart: deterministic splits, and no sentence of a held-out set in what is learnt from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from nerdistill.records import Sentence


def digest(sentence: Sentence) -> bytes:
    """What makes two sentences the same: their characters, however they were split and spaced."""
    return hashlib.blake2b("".join(sentence.words).casefold().encode("utf-8", "surrogatepass"), digest_size=12).digest()


def digests(sentences: Iterable[Sentence]) -> frozenset[bytes]:
    """The digests of a set."""
    return frozenset(map(digest, sentences))


def without(sentences: Iterable[Sentence], held_out: frozenset[bytes]) -> list[Sentence]:
    """The sentences that are in no held-out set."""
    return [sentence for sentence in sentences if digest(sentence) not in held_out]


def distinct(sentences: Iterable[Sentence]) -> list[Sentence]:
    """Each sentence once, as it was written first, at the place of its last repetition."""
    return list({digest(sentence): sentence for sentence in reversed(list(sentences))}.values())[::-1]


def split_by_content(sentences: Sequence[Sentence], fraction: float, salt: str) -> tuple[list[Sentence], list[Sentence]]:
    """Cut a set in two by the sentences' own content, so that it does not depend on their order or number.

    Args:
        sentences: The set.
        fraction: Expected size of the second part.
        salt: Another one gives another split.

    Returns:
        The larger part and the smaller.
    """
    limit = int(fraction * (1 << 32))
    parts: tuple[list[Sentence], list[Sentence]] = ([], [])
    for sentence in sentences:
        number = int.from_bytes(hashlib.blake2b(digest(sentence) + salt.encode(), digest_size=4).digest(), "big")
        parts[number < limit].append(sentence)
    return parts


def evenly(sentences: Sequence[Sentence], limit: int) -> list[Sentence]:
    """At most `limit` sentences, spread over the whole set in order; 0 keeps all."""
    if not 0 < limit < len(sentences):
        return list(sentences)
    return [sentences[i * len(sentences) // limit] for i in range(limit)]

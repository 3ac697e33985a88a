"""The student's vocabulary: the teacher's pieces that its languages use, cut to a budget.

A multilingual model is mostly its embedding table, so this is where compression starts. A Unigram or WordPiece tokenizer that keeps
only some pieces cuts rare words into smaller ones instead of losing them. Signals are stored per word, so student and teacher need not
share pieces.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from nerdistill.errors import ConfigError
from nerdistill.text.encoder import AT_ONCE

RARE = 1e-6
"""Share of the text's words below which a single character has no claim to a place: in much text most characters that occur are such,
rare ideographs above all, and each would take a place from a piece that is met a hundred times as often."""

TECHNICAL = ("<pad> ", "<unk> ", "<s> ", "</s> ")
PAD_PIECE, UNK_PIECE = TECHNICAL[:2]
"""Names of the technical pieces, begin and end last. No word has a space in it, so nothing that a text says is read as one of them."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer cut to fewer pieces.

    Attributes:
        tokenizer: Piece 0 is padding, piece 1 unknown; it adds no special tokens.
        teacher_ids: For each piece, its id in the teacher's table.
        ends: Begin and end piece of a sentence, pieces 2 and 3, for students over pieces; None for students over words.
    """

    tokenizer: Tokenizer
    teacher_ids: tuple[int, ...]
    ends: tuple[int, int] | None = None


def weigh(words: Mapping[str, Counter[str]], alpha: float) -> dict[str, float]:
    """Frequencies of words in text that has each language in the proportion size^alpha, as training samples them.

    Args:
        words: Language to its words with their frequencies.
        alpha: 1 leaves them as they are, 0 makes languages equal.
    """
    weights: dict[str, float] = {}
    for counts in words.values():
        weight = counts.total() ** (alpha - 1.0)
        for word, count in counts.items():
            weights[word] = weights.get(word, 0.0) + weight * count
    return weights


def count_pieces(tokenizer: Tokenizer, words: Mapping[str, float]) -> dict[int, float]:
    """How often each piece id occurs in text.

    Args:
        tokenizer: The teacher's.
        words: Words with their frequencies.
    """
    counts: dict[int, float] = {}
    keys = list(words)
    for start in range(0, len(keys), AT_ONCE):
        part = keys[start : start + AT_ONCE]
        for word, encoding in zip(part, tokenizer.encode_batch_fast(part, add_special_tokens=False), strict=True):
            for piece in encoding.ids:
                counts[piece] = counts.get(piece, 0) + words[word]
    return counts


def prune(
    tokenizer: Tokenizer, unk_id: int, pad_id: int, words: Mapping[str, float], budget: int, ends: tuple[int, int] | None = None
) -> Vocabulary:
    """Keep the pieces that matter for some text.

    Kept are, in this order until the budget is full: single characters of the text that are not `RARE` there, the pieces it uses by
    frequency, its other characters, then unused pieces that are made of its characters, the teacher's most probable first. The last group
    costs size but no training: its rows come from the teacher, and words that the text happens not to contain are cut as the teacher cuts
    them.

    Args:
        tokenizer: The teacher's; its model must be Unigram or WordPiece.
        unk_id: The teacher's unknown piece.
        pad_id: The teacher's padding piece.
        words: Words of the text with their frequencies.
        budget: Pieces to keep, technical ones included.
        ends: The teacher's begin and end piece, if the student reads sequences of pieces and needs them too.

    Raises:
        ConfigError: The tokenizer is of another kind, or the characters alone exceed the budget.
    """
    spec = json.loads(tokenizer.to_str())
    pieces, scores = _pieces(spec)
    technical = (pad_id, unk_id, *(ends or ()))
    special = {token["id"] for token in spec["added_tokens"]} | {*technical}
    counts = count_pieces(tokenizer, words)
    characters: dict[str, float] = {}
    for word, weight in words.items():
        for character in tokenizer_characters(tokenizer, word):
            characters[character] = characters.get(character, 0.0) + weight
    rare = RARE * sum(words.values())
    singles = [
        i for i, piece in enumerate(pieces) if i not in special and len(_bare(piece)) <= 1 and characters.keys() >= set(_bare(piece))
    ]
    frequent = [i for i in singles if not _bare(pieces[i]) or characters[_bare(pieces[i])] >= rare]
    least = len(technical) + len(frequent)
    if least > budget:
        raise ConfigError(f"student.pieces = {budget}: the text's single characters alone need {least}; allow more pieces")
    used = [piece for piece, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if piece not in special]
    unused = sorted((i for i in range(len(pieces)) if i not in counts and i not in special and characters.keys() >= set(_bare(pieces[i]))),
                    key=lambda i: (-scores[i], i))  # fmt: skip
    kept = sorted(_first([*frequent, *used, *singles, *unused], budget - len(technical)))
    rebuilt = _rebuild(spec, pieces, scores, TECHNICAL[: len(technical)], kept)
    return Vocabulary(rebuilt, (*technical, *kept), None if ends is None else (2, 3))


def tokenizer_characters(tokenizer: Tokenizer, word: str) -> str:
    """The characters of a word as the tokenizer sees them."""
    return tokenizer.normalizer.normalize_str(word) if tokenizer.normalizer is not None else word


def _first(items: Iterable[int], n: int) -> list[int]:
    return list(dict.fromkeys(items))[:n]


def _bare(piece: str) -> str:
    return piece.removeprefix("##").removeprefix("▁")


def _pieces(spec: dict[str, Any]) -> tuple[list[str], list[float]]:
    model = spec["model"]
    if model["type"] == "Unigram":
        return [piece for piece, _ in model["vocab"]], [score for _, score in model["vocab"]]
    if model["type"] == "WordPiece":
        by_id = sorted(model["vocab"].items(), key=lambda item: item[1])
        return [piece for piece, _ in by_id], [-float(number) for _, number in by_id]
    raise ConfigError(f"the teacher's tokenizer is of kind {model['type']}; vocabularies are cut for Unigram and WordPiece only")


def _rebuild(spec: dict[str, Any], pieces: list[str], scores: list[float], technical: Sequence[str], kept: list[int]) -> Tokenizer:
    model = dict(spec["model"])
    if model["type"] == "Unigram":
        floor = min(scores) - 10.0
        model["vocab"] = [*([name, floor] for name in technical), *([pieces[i], scores[i]] for i in kept)]
        model["unk_id"] = 1
    else:
        names = [*technical, *(pieces[i] for i in kept)]
        model["vocab"] = {name: number for number, name in enumerate(names)}
        model["unk_token"] = UNK_PIECE
    cut = {**spec, "model": model, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(cut))

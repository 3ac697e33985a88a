"""Words to pieces. Words encode independently of each other, so each distinct word is encoded once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

AT_ONCE = 8192
"""Words given to the tokenizer at a time; what it says of a word takes some kilobytes until it is read."""

LONGEST_WORD = 256
"""Characters of a word that are read; a longer one is a URL or binary data, and its beginning tells."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class WordTable:
    """A growing table of the pieces of every word met so far.

    Args:
        tokenizer: Any subword tokenizer; special tokens are never added.
        unk_id: Piece of a word that the tokenizer maps to nothing (such as a lone zero-width mark).
        pad_id: Fills the rows of `pieces`.
        max_pieces: Pieces kept of one word, its first ones.
        capacity: Words held; beyond it the table starts anew, so memory stays flat on endless text.

    Attributes:
        pieces: ``[rows, max_pieces]`` int32, padded with `pad_id` on the right.
        lengths: ``[rows]`` int32, number of pieces of each word, at least 1.
    """

    def __init__(self, tokenizer: Tokenizer, unk_id: int, pad_id: int, max_pieces: int = 16, capacity: int = 500_000) -> None:
        self.tokenizer = tokenizer
        self.unk_id = unk_id
        self.pad_id = pad_id
        self.max_pieces = max_pieces
        self.capacity = capacity
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, int] = {}
        self.pieces = np.full((1024, self.max_pieces), self.pad_id, dtype=np.int32)
        self.lengths = np.zeros(1024, dtype=np.int32)

    def __len__(self) -> int:
        """Number of distinct words held."""
        return len(self._rows)

    def make_room(self) -> None:
        """Forget everything if the table is full; rows given out before are void then. Called between batches."""
        if len(self._rows) >= self.capacity:
            self._clear()

    def rows(self, words: Sequence[str]) -> npt.NDArray[np.int64]:
        """The row of each word; words not met before are encoded.

        Returns:
            ``[W]`` int64.
        """
        known = self._rows
        try:
            return np.fromiter(map(known.__getitem__, words), dtype=np.int64, count=len(words))
        except KeyError:
            self._learn({word for word in words if word not in known})
            return np.fromiter(map(known.__getitem__, words), dtype=np.int64, count=len(words))

    def _learn(self, words: Iterable[str]) -> None:
        fresh = sorted(words)
        first = len(self._rows)
        while first + len(fresh) > len(self.lengths):
            self.pieces = np.concatenate([self.pieces, np.full_like(self.pieces, self.pad_id)])
            self.lengths = np.concatenate([self.lengths, np.zeros_like(self.lengths)])
        for start in range(0, len(fresh), AT_ONCE):
            part = fresh[start : start + AT_ONCE]
            readable = [_SURROGATE.sub("\ufffd", word[:LONGEST_WORD]) for word in part]  # half a pair cannot be encoded
            encoded = self.tokenizer.encode_batch_fast(readable, add_special_tokens=False)
            for row, (word, encoding) in enumerate(zip(part, encoded, strict=True), start=first + start):
                ids = encoding.ids[: self.max_pieces] or [self.unk_id]
                self.pieces[row, : len(ids)] = ids
                self.lengths[row] = len(ids)
                self._rows[word] = row

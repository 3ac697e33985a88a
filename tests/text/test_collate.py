"""Tests of `nerdistill.text.collate`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nerdistill.text.collate import Arrays, Rows, collate_pieces, collate_words
from nerdistill.text.encoder import WordTable

WORDS = ["Anna", "Schmidt", "besucht", "東京", "x", "", "abcdefghij", "l'"]
SENTENCES = st.lists(st.lists(st.sampled_from(WORDS), max_size=6), min_size=1, max_size=5)
PAD, BOS, EOS = 1, 0, 2


def encoded(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> tuple[list[Rows], WordTable]:
    """Rows of sentences in a table that also knows another word first, which padding then points at."""
    table = WordTable(tokenizer, unk_id=3, pad_id=PAD)
    table.rows(["zzzzzzzzzzzz"])
    return [table.rows(words) for words in sentences], table


def pieces_of(table: WordTable, row: int) -> list[int]:
    """The pieces of a word."""
    return [int(piece) for piece in table.pieces[row, : table.lengths[row]]]


@given(SENTENCES)
def test_words_can_be_read_back(tokenizer: Tokenizer, sentences: list[list[str]]) -> None:
    """Prevents a word that stands in another's place, pieces that are cut off, and padding that is not padding."""
    rows, table = encoded(tokenizer, sentences)
    arrays = collate_words(rows, table)
    pieces, index, lengths = (arrays[name] for name in ("word_pieces", "word_index", "lengths"))
    assert lengths.tolist() == [len(words) for words in sentences]
    assert index.shape == (len(sentences), max(1, *lengths.tolist(), 1))
    assert len(np.unique(pieces, axis=0)) == len(pieces), "each distinct word once"
    for sentence, at in zip(rows, index, strict=True):
        for row, where in zip(sentence.tolist(), at.tolist(), strict=False):
            found = pieces[where].tolist()
            assert found[: table.lengths[row]] == pieces_of(table, row)
            assert set(found[table.lengths[row] :]) <= {PAD}


@given(SENTENCES)
def test_pieces_can_be_read_back(tokenizer: Tokenizer, sentences: list[list[str]]) -> None:
    """Prevents a sentence in the wrong order or without its ends, a mask that is not its pieces, and first pieces that are others."""
    rows, table = encoded(tokenizer, sentences)
    arrays = collate_pieces(rows, table, BOS, EOS)
    assert arrays["lengths"].tolist() == [len(words) for words in sentences]
    for number, sentence in enumerate(rows):
        by_word = [pieces_of(table, row) for row in sentence.tolist()]
        expected = [BOS, *(piece for word in by_word for piece in word), EOS]
        ids, mask = arrays["input_ids"][number], arrays["attention_mask"][number]
        assert ids[: len(expected)].tolist() == expected
        assert mask.tolist() == [1] * len(expected) + [0] * (len(ids) - len(expected))
        assert set(ids[len(expected) :].tolist()) <= {PAD}
        starts = np.cumsum([1, *map(len, by_word)])[:-1]
        first = arrays["first_piece"][number]
        assert first[: len(sentence)].tolist() == starts.tolist()
        assert not first[len(sentence) :].any()
    assert arrays["input_ids"].shape[1] == arrays["attention_mask"].sum(axis=1).max(), "not wider than the longest"


@pytest.mark.parametrize("form", ["words", "pieces"])
@given(SENTENCES, SENTENCES)
def test_padding_changes_nothing_real(tokenizer: Tokenizer, form: str, some: list[list[str]], others: list[list[str]]) -> None:
    """Prevents what stands beside a sentence in its batch from changing what the network is given of it."""
    rows, table = encoded(tokenizer, some + others)

    def real(arrays: Arrays, number: int) -> list[list[int]]:
        n_words = int(arrays["lengths"][number])
        if form == "words":
            words = arrays["word_pieces"][arrays["word_index"][number, :n_words]]
            return [[piece for piece in word if piece != PAD] for word in words.tolist()]
        size = int(arrays["attention_mask"][number].sum())
        return [arrays["input_ids"][number, :size].tolist(), arrays["first_piece"][number, :n_words].tolist()]

    def collate(batch: list[Rows]) -> Arrays:
        return collate_words(batch, table) if form == "words" else collate_pieces(batch, table, BOS, EOS)

    together = collate(rows)
    for number, sentence in enumerate(rows):
        assert real(together, number) == real(collate([sentence]), 0)
    assert all(array.dtype == np.int64 for array in together.values())

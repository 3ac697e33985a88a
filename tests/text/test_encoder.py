"""Tests of `nerdistill.text.encoder`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nerdistill.students.vocabulary import Vocabulary
from nerdistill.text.encoder import LONGEST_WORD, WordTable

WORDS = st.lists(st.text(st.sampled_from("aAnberli東é\u0301\u200d<>/s "), max_size=6), max_size=30)


def pieces_of(table: WordTable, word: str) -> list[int]:
    """What the table holds for a word."""
    row = table.rows([word])[0]
    return [int(piece) for piece in table.pieces[row, : table.lengths[row]]]


@given(st.lists(WORDS, max_size=4))
def test_the_cache_is_the_tokenizer(tokenizer: Tokenizer, batches: list[list[str]]) -> None:
    """Prevents a word from getting the pieces of another one, now or when the table has grown."""
    table = WordTable(tokenizer, unk_id=3, pad_id=1, max_pieces=4)
    rows = [table.rows(words).tolist() for words in batches]
    for words, given_out in zip(batches, rows, strict=True):
        assert table.rows(words).tolist() == given_out
        for word, row in zip(words, given_out, strict=True):
            expected = tokenizer.encode(word, add_special_tokens=False).ids[:4] or [3]
            assert table.pieces[row].tolist() == expected + [1] * (4 - len(expected))
            assert table.lengths[row] == len(expected)
    assert len(table) == len({word for words in batches for word in words})


def test_growth_keeps_what_was_known(tokenizer: Tokenizer) -> None:
    """Prevents rows from being lost or left without padding when the table outgrows its first arrays, by more than double at once."""
    table = WordTable(tokenizer, unk_id=3, pad_id=1)
    before = table.rows(["Anna", "Berlin"])
    known = table.pieces[before].copy()
    words = [f"w{number}" for number in range(5000)]
    rows = table.rows(words)
    assert (table.pieces[before] == known).all()
    assert len(set(rows.tolist())) == 5000
    assert all((table.pieces[row, table.lengths[row] :] == 1).all() for row in rows)
    assert pieces_of(table, "w4999") == tokenizer.encode("w4999", add_special_tokens=False).ids


@pytest.mark.parametrize("word", ["", "\u200b", "\x00", "\ufe0f"])
def test_words_without_pieces_are_unknown(word: str, tokenizer: Tokenizer) -> None:
    """Prevents a word of no pieces, which no pooling and no first piece can stand for."""
    assert len(pieces_of(WordTable(tokenizer, unk_id=3, pad_id=1), word)) >= 1
    assert pieces_of(WordTable(tokenizer, unk_id=3, pad_id=1), "") == [3]


@pytest.mark.parametrize("word", ["\ud83d", "a\ude00b", "\udc80" * 300])
def test_half_a_surrogate_pair_is_unknown(word: str, vocabulary: Vocabulary) -> None:
    """Prevents a crash of the whole batch over text that a JSON escape or a file name brought in."""
    table = WordTable(vocabulary.tokenizer, unk_id=1, pad_id=0)
    assert 1 in pieces_of(table, word)
    assert pieces_of(table, "Anna") == vocabulary.tokenizer.encode("Anna").ids


def test_very_long_words_are_cut(tokenizer: Tokenizer) -> None:
    """Prevents megabytes of base64 from being tokenised; the beginning is what counts, and other words are not touched."""
    table = WordTable(tokenizer, unk_id=3, pad_id=1)
    start = "ab" * (LONGEST_WORD // 2)
    assert pieces_of(table, start + "x" * 1_000_000) == pieces_of(table, start)
    assert len(pieces_of(table, start)) == table.max_pieces
    rows = table.rows([start + "x", start + "y"])
    assert rows[0] != rows[1]


def test_capacity_starts_the_table_anew(tokenizer: Tokenizer) -> None:
    """Prevents memory without bound on endless text, and rows that void in the middle of a batch."""
    table = WordTable(tokenizer, unk_id=3, pad_id=1, capacity=3)
    words = ["a", "b", "c", "d", "e"]
    rows = table.rows(words)
    assert len(table) == 5
    assert table.rows(words).tolist() == rows.tolist()
    table.make_room()
    assert len(table) == 0
    assert pieces_of(table, "d") == tokenizer.encode("d", add_special_tokens=False).ids
    table.make_room()
    assert len(table) == 1


def test_types_are_those_that_indexing_needs(tokenizer: Tokenizer) -> None:
    """Prevents an empty batch from giving floats, which index nothing."""
    table = WordTable(tokenizer, unk_id=3, pad_id=1)
    assert table.rows([]).dtype == np.int64
    assert table.rows([]).shape == (0,)

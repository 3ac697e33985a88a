"""Tests of `nerdistill.students.vocabulary`."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from nerdistill.errors import ConfigError
from nerdistill.students.vocabulary import PAD_PIECE, UNK_PIECE, Vocabulary, count_pieces, prune, weigh

LETTERS = "abcdeéن東"
TEXTS = st.dictionaries(st.text(LETTERS, min_size=1, max_size=8), st.integers(1, 50), min_size=1, max_size=12)
UNK, PAD = 3, 1


def unigram() -> Tokenizer:
    """Every letter, and longer pieces of several probabilities; ids as in XLM-R."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(letter, -9.0) for letter in LETTERS] + [("▁a", -6.0)]
    pieces += [("▁abc", -5.0), ("abc", -6.0), ("de", -5.5), ("▁東ن", -7.0), ("éé", -7.5), ("<", -9.0), ("zz", -5.0)]
    made = Tokenizer(models.Unigram(pieces, unk_id=UNK))
    made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    made.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return made


def wordpiece() -> Tokenizer:
    """The same in BERT's form."""
    pieces = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", *LETTERS, *("##" + letter for letter in LETTERS)]
    pieces += ["abc", "##abc", "##de", "東ن", "##éé", "zz"]
    made = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["[CLS]", "[PAD]", "[SEP]", "[UNK]"])
    return made


TEACHERS = {"unigram": unigram(), "wordpiece": wordpiece()}
BOTH = pytest.mark.parametrize("teacher", TEACHERS.values(), ids=TEACHERS)


def cut(teacher: Tokenizer, words: Counter[str], budget: int) -> Vocabulary:
    """The cut vocabulary."""
    return prune(teacher, UNK, PAD, words, budget)


def smallest(teacher: Tokenizer, words: Counter[str]) -> int:
    """The least budget that is accepted."""
    for budget in range(3, 60):
        try:
            cut(teacher, words, budget)
        except ConfigError:
            continue
        return budget
    raise AssertionError("nothing is accepted")


@BOTH
@given(TEXTS)
def test_no_new_unknowns(teacher: Tokenizer, text: dict[str, int]) -> None:
    """Prevents words from being lost to the unknown piece that the teacher can read, whatever the budget."""
    words = Counter(text)
    least = smallest(teacher, words)
    for budget in (least, least + 2, 100):
        vocabulary = cut(teacher, words, budget)
        assert 2 <= vocabulary.tokenizer.get_vocab_size() <= budget
        for word in words:
            assert UNK not in teacher.encode(word, add_special_tokens=False).ids
            encoding = vocabulary.tokenizer.encode(word)
            assert not {0, 1} & {*encoding.ids}
            assert "".join(token.removeprefix("##") for token in encoding.tokens).removeprefix("▁") == word


@BOTH
@given(TEXTS, st.integers(20, 60))
def test_each_piece_has_its_own_row_of_the_teacher(teacher: Tokenizer, text: dict[str, int], budget: int) -> None:
    """Prevents embeddings that start from another piece's row; rows 0 and 1 are the technical ones."""
    vocabulary = cut(teacher, Counter(text), budget)
    assert vocabulary.teacher_ids[:2] == (PAD, UNK)
    assert len(vocabulary.teacher_ids) == vocabulary.tokenizer.get_vocab_size() == len(set(vocabulary.teacher_ids))
    assert [vocabulary.tokenizer.id_to_token(number) for number in (0, 1)] == [PAD_PIECE, UNK_PIECE]
    for number, row in enumerate(vocabulary.teacher_ids[2:], start=2):
        assert vocabulary.tokenizer.id_to_token(number) == teacher.id_to_token(row)
        assert row > UNK, "begin and end of a sentence are not pieces of words"


@BOTH
def test_with_room_for_all_nothing_changes(teacher: Tokenizer) -> None:
    """Prevents a cut that changes how words are read though nothing they need was cut, words that the text lacks included."""
    words = Counter({"abcde": 3, "東نéé": 1})
    vocabulary = cut(teacher, words, 100)
    for word in ("abcde", "東نéé", "abcabc", "deabc", "e", "ééé"):
        rows = [vocabulary.teacher_ids[piece] for piece in vocabulary.tokenizer.encode(word).ids]
        assert rows == teacher.encode(word, add_special_tokens=False).ids


@BOTH
def test_pieces_of_other_scripts_go(teacher: Tokenizer) -> None:
    """Prevents size spent on characters that the text does not have."""
    vocabulary = cut(teacher, Counter({"abc": 1}), 100)
    kept = {vocabulary.tokenizer.id_to_token(number) for number in range(vocabulary.tokenizer.get_vocab_size())}
    assert {"a", "b", "c"} <= kept
    assert not kept & {"東", "##東", "zz", "de", "##de", "▁東ن", "東ن"}


@BOTH
def test_frequent_pieces_stay_longest(teacher: Tokenizer) -> None:
    """Prevents a budget from being spent on rare pieces while frequent ones go."""
    words = Counter({"abc": 1000, "東ن": 2, "éé": 1})
    least = smallest(teacher, words)
    vocabulary = cut(teacher, words, least + 1)
    kept = {vocabulary.tokenizer.id_to_token(number) for number in range(vocabulary.tokenizer.get_vocab_size())}
    assert kept & {"▁abc", "abc"}
    assert not kept & {"▁東ن", "東ن", "éé", "##éé"}
    assert len(vocabulary.tokenizer.encode("abc").ids) == 1


@BOTH
def test_a_budget_too_small_says_how_much_it_takes(teacher: Tokenizer) -> None:
    """Prevents characters from being cut without a word; the number in the message is enough, and no more than that."""
    words = Counter({LETTERS: 1})
    least = smallest(teacher, words)
    with pytest.raises(ConfigError, match=rf"student.pieces = {least - 1}: .* need {least}; allow more"):
        cut(teacher, words, least - 1)


@BOTH
@pytest.mark.parametrize("word", ["<pad>", "<unk>", "a<pad>", "<s>", "[PAD]", "[UNK]"])
def test_text_cannot_name_a_technical_piece(teacher: Tokenizer, word: str) -> None:
    """Prevents a word ``<pad>`` in somebody's text from being read as padding."""
    assert 0 not in cut(teacher, Counter({"abcde": 1, word: 1}), 100).tokenizer.encode(word).ids


@BOTH
def test_unseen_characters_are_unknown(teacher: Tokenizer) -> None:
    """Prevents a crash, or padding, on characters that neither knows."""
    ids = cut(teacher, Counter({"abc": 1}), 100).tokenizer.encode("ab☃c").ids
    assert 1 in ids
    assert 0 not in ids


@BOTH
def test_it_survives_a_file(teacher: Tokenizer) -> None:
    """Prevents a bundle whose tokenizer reads otherwise than the one in training."""
    made = cut(teacher, Counter({"abcde": 3, "東نéé": 1}), 40).tokenizer
    again = Tokenizer.from_str(made.to_str())
    for word in ("abcde", "éabc", "☃", "東ن"):
        assert again.encode(word).ids == made.encode(word).ids


@BOTH
def test_it_adds_nothing(teacher: Tokenizer) -> None:
    """Prevents begin and end pieces in the middle of a sentence, where every word is encoded alone."""
    made = cut(teacher, Counter({"abc": 1}), 40).tokenizer
    assert made.encode("abc").ids == made.encode("abc", add_special_tokens=False).ids
    assert made.num_special_tokens_to_add(is_pair=False) == 0


def test_counts_are_weighted() -> None:
    """Prevents a word that occurs a thousand times from counting once."""
    counts = count_pieces(TEACHERS["unigram"], Counter({"de": 1000, "abcde": 5}))
    assert {TEACHERS["unigram"].id_to_token(piece): count for piece, count in counts.items()} == {"▁": 1000, "▁abc": 5, "de": 1005}


def test_other_tokenizers_are_refused() -> None:
    """Prevents a byte-pair vocabulary, whose merges would break, from being cut."""
    with pytest.raises(ConfigError, match="of kind BPE; vocabularies are cut for Unigram and WordPiece only"):
        cut(Tokenizer(models.BPE()), Counter({"abc": 1}), 100)


@BOTH
def test_rare_characters_make_room(teacher: Tokenizer) -> None:
    """Prevents ideographs that a text has once in a million words from taking the places of frequent pieces; with room they stay."""
    words = Counter({"abc": 3_000_000, "de": 2_000_000, "ن": 1})
    least = smallest(teacher, Counter({"abc": 3, "de": 2}))
    kept = {*cut(teacher, words, least + 1).tokenizer.get_vocab()}
    assert kept & {"▁abc", "abc"}
    assert not kept & {"ن", "##ن"}
    assert {*cut(teacher, words, 100).tokenizer.get_vocab()} & {"ن", "##ن"}


def test_languages_weigh_as_they_are_sampled() -> None:
    """Prevents a vocabulary that only serves the languages with most text."""
    words = {"de": Counter({"der": 90, "in": 10}), "id": Counter({"di": 20, "in": 5})}
    assert weigh(words, 1.0) == {"der": 90, "in": 15, "di": 20}
    assert weigh(words, 0.0) == pytest.approx({"der": 0.9, "in": 0.1 + 0.2, "di": 0.8})
    assert weigh(words, 0.5) == pytest.approx({"der": 9.0, "in": 1.0 + 1.0, "di": 4.0})

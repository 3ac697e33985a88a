"""Tests of `nerdistill.text.splitter`."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from nerdistill.text.splitter import WORD, split, split_words

AWKWARD = "aAbBéß'’-.,· \n\t\x1c\x85\u200b1_日本かーกขي@#🇩🇪👩🏽🚀\u200d\u200c\ufe0f\u0301्कŉ\u00a0\u3000\ud83d\x00"
_PREPEND = regex.compile(r"\p{GCB=Prepend}")
ANY_TEXT = st.text() | st.text(st.sampled_from(AWKWARD), max_size=12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("l'Italie dell'arte", "l'|Italie|dell'|arte"),
        ("L’Italia D'Annunzio jusqu'à", "L’|Italia|D'|Annunzio|jusqu'|à"),
        ("Ankara'da Obama's Türkiye’nin", "Ankara|'da|Obama|'s|Türkiye|’nin"),
        ("O'Brien don't rock'n'roll", "O'Brien|don't|rock'n'roll"),
        ("Jean-Luc U.S.A 3.14 1,000", "Jean-Luc|U.S.A|3.14|1,000"),
        ("Anna, (Bo) «Cy» … !?", "Anna|,|(|Bo|)|«|Cy|»|…|!|?"),
        ("東京は日本。", "東|京|は|日|本|。"),
        ("日本のNHKが3年", "日|本|の|NHK|が|3|年"),
        ("กรุงเทพ", "ก|รุ|ง|เ|ท|พ"),
        ("ສະບາຍ ភ្នំ မြန်မာ", "ສ|ະ|ບ|າ|ຍ|ភ្|នំ|မြ|န်|မာ"),
        ("محمد علي، القاهرة؟", "محمد|علي|،|القاهرة|؟"),
        ("می‌خواهم", "می‌خواهم"),
        ("राम दिल्ली में।", "राम|दिल्ली|में|।"),
        ("서울은 ክፍል שלום", "서울은|ክፍል|שלום"),
        ("👩🏽‍🚀❤️🇩🇪🇫🇷1️⃣", "👩🏽‍🚀|❤️|🇩🇪|🇫🇷|1️⃣"),
        ("e\u0301te\u0301 A\u030angstro\u0308m", "e\u0301te\u0301|A\u030angstro\u0308m"),
        ("a@b.de snake_case #tag", "a@b.de|snake_case|#|tag"),
        ("'quoted' ''", "'|quoted|'|'|'"),
        ("\u0600 \u0301a", "\u0600|\u0301a"),
    ],
)
def test_languages(text: str, words: str) -> None:
    """Prevents the rule from changing under trained students: its name stands in their bundles."""
    assert "|".join(split_words(text)) == words


@given(ANY_TEXT)
def test_offsets_and_words_are_the_same(text: str) -> None:
    """Prevents training, which takes words, from seeing others than serving, which takes offsets."""
    assert [text[start:stop] for start, stop in split(text)] == split_words(text)


@given(ANY_TEXT)
def test_words_and_white_space_make_the_text(text: str) -> None:
    """Prevents characters from being lost or read twice, and white space (Python's and spaCy's) from being a word or part of one."""
    end = 0
    for start, stop in [*split(text), (len(text), len(text))]:
        assert end <= start <= stop
        assert not text[end:start].strip()
        assert not any(character.isspace() for character in text[start:stop])
        end = stop


@given(ANY_TEXT | st.text(st.sampled_from("ab'- 東"), max_size=200))
def test_what_is_remembered_is_the_rule(text: str) -> None:
    """Prevents words that depend on what was split before, or on where white space stands, and a caller who changes what is remembered."""
    plain = WORD.findall(_PREPEND.sub("", text))  # a sign such as U+0600 would draw a space after it into its word
    for _ in range(2):
        words = split_words(_PREPEND.sub("", text))
        assert words == plain
        words.append("more")


def test_every_white_space_is_white_space() -> None:
    """Prevents single separators, such as U+001C, from being words for the tagger and nothing for spaCy: all of Unicode."""
    characters = map(chr, range(0x110000))
    assert not [ascii(one) for one in characters if bool(split(one)) == one.isspace()]


@given(ANY_TEXT)
def test_splitting_words_again_changes_nothing(text: str) -> None:
    """Prevents words from a file from being split further when somebody tags them as text; only apostrophes look around."""
    words = split_words(text.replace("'", "").replace("’", ""))
    assert split_words(" ".join(words)) == words


EMOJI = ("👩🏽‍🚀", "🇩🇪", "❤️", "👨‍👩‍👧", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "👍🏿", "🙂")


@given(st.lists(st.sampled_from([*EMOJI, *EMOJI, "a", "東", "!", " ", "'s", "한", "ก"]), max_size=10))
def test_emoji_are_not_torn(parts: list[str]) -> None:
    """Prevents an entity that ends inside what a reader sees as one character, such as a flag or a family, whatever stands beside it."""
    found, start = set(split("".join(parts))), 0
    for part in parts:
        assert part not in EMOJI or (start, start + len(part)) in found
        start += len(part)


@pytest.mark.parametrize("unit", ["a", "A'", "日'", "🇩🇪", "l'", "-", ".", "\u0301", " \u0301", "a\u200d", "👩\u200d", "ก"])
@pytest.mark.parametrize("tail", ["", "'" + "b" * 300_000 + "1"])
def test_hostile_text_takes_linear_time(unit: str, tail: str) -> None:
    """Prevents one strange document from holding a server: quadratic rules need minutes to hours for these."""
    text = unit * 100_000 + tail
    assert sum(stop - start for start, stop in split(text)) == len(text) - text.count(" ")

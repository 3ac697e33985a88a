"""Readers: what they read, and what they refuse with which place."""

from __future__ import annotations

import gzip
import json
import logging
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerdistill.corpus.readers import READERS, SUFFIXES, ReadOptions, format_of, lines, read
from nerdistill.errors import ConfigError, DataError, MissingExtraError
from nerdistill.records import Sentence

CONLL = "Anna\tB-PER\nlebt\tO\n\nin\tO\nUlm\tB-LOC\n\n"
UNLABELLED = ReadOptions(labelled=False)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def store(content: str | bytes, name: str = "a.conll") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        return path

    return store


def words(sentences: list[Sentence]) -> list[tuple[str, ...]]:
    return [sentence.words for sentence in sentences]


def jsonl(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def refused(path: Path, message: str, options: ReadOptions | None = None, format: str = "auto") -> None:
    with pytest.raises(DataError) as error:
        read(path, format, options)
    assert str(error.value).startswith(f"{path}{message}"), str(error.value)


class TestRegistry:
    def test_every_file_is_found_and_every_suffix_has_a_reader(self) -> None:
        """Prevents a reader that exists but cannot be reached."""
        assert list(READERS) == ["conll", "docbin", "hub", "jsonl", "parquet", "plain"]
        assert set(SUFFIXES.values()) == set(READERS) - {"hub"}

    @pytest.mark.parametrize(
        ("name", "format"), [("a.TSV", "conll"), ("a.b.jsonl.gz", "jsonl"), ("a.spacy", "docbin"), ("a.txt.gz", "plain")]
    )
    def test_chooses_by_suffix(self, name: str, format: str) -> None:
        """Prevents ``.gz`` or capitals hiding the format."""
        assert format_of(Path(name)) == format

    @pytest.mark.parametrize(("name", "message"), [("a.csv", "unknown suffix '.csv'"), ("a.parquet.gz", "not read from gzip")])
    def test_refuses_other_suffixes(self, name: str, message: str) -> None:
        """Prevents a guess at the format of a file."""
        with pytest.raises(ConfigError, match=message):
            format_of(Path(name))

    def test_missing_file_folder_and_unknown_format(self, tmp_path: Path) -> None:
        """Prevents a traceback for a mistyped path."""
        refused(tmp_path / "none.conll", ": cannot be read: No such file")
        refused(tmp_path / "none.parquet", ": cannot be read: No such file")
        refused(tmp_path, ": cannot be read: Is a directory", format="docbin")
        with pytest.raises(ConfigError, match="unknown reader 'xml'; known: conll"):
            read(tmp_path, "xml")


class TestLines:
    @pytest.mark.parametrize(
        "content", [CONLL, CONLL.rstrip("\n"), CONLL.replace("\n", "\r\n"), CONLL.replace("\n", "\r"), "\ufeff" + CONLL]
    )
    def test_line_ends_byte_order_mark_and_missing_last_blank_line(self, write: Write, content: str) -> None:
        """Prevents a lost last sentence, a mark inside the first word, and carriage returns inside tags."""
        sentences = read(write(content), options=ReadOptions(language="de"))
        assert words(sentences) == [("Anna", "lebt"), ("in", "Ulm")]
        assert [sentence.tags for sentence in sentences] == [("B-PER", "O"), ("O", "B-LOC")]
        assert sentences[1].origin.endswith("a.conll:4")
        assert sentences[0].language == "de"

    @given(
        pieces=st.lists(st.text(alphabet="ab\u0421\u2028\u0085\U0001f600", max_size=5), max_size=30),
        ends=st.lists(st.sampled_from(["\n", "\r", "\r\n"]), min_size=30, max_size=30),
        chunk=st.integers(1, 7),
    )
    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_chunk_bounds_change_nothing(self, write: Write, pieces: list[str], ends: list[str], chunk: int) -> None:
        """Prevents lines cut or doubled where a chunk ends inside a character or between the halves of a line end."""
        joined, expected, number = "", [], 0
        for piece, end in zip(pieces, ends, strict=False):
            # A lone \r before an empty line that ends in \n is one line end; lone ones alone are read below.
            end = "\n" if end == "\r" else end
            joined, number = joined + piece + end, number + 1
            expected.append((number, piece))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines, "CHUNK", chunk)
            assert list(lines.read_lines(write(joined))) == expected
            assert list(lines.read_lines(write(joined.replace("\r\n", "\n").replace("\n", "\r")))) == expected

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_names_utf16(self, write: Write, encoding: str) -> None:
        """Prevents a message about NUL bytes where the file is simply UTF-16."""
        path = write(CONLL.encode(encoding))
        refused(path, f":1: the file is {encoding.upper()}, expected utf-8")
        assert words(read(path, options=ReadOptions(encoding=encoding))) == [("Anna", "lebt"), ("in", "Ulm")]

    @pytest.mark.parametrize("chunk", [3, 1 << 18])
    @pytest.mark.parametrize(("bad", "offset"), [(b"\xe9t\xe9", 17), (b"ok\xff", 19), (b"\xed\xa0\x80", 17), (b"\xf0\x9f", 17)])
    def test_bad_bytes_have_line_and_offset(
        self, write: Write, monkeypatch: pytest.MonkeyPatch, bad: bytes, offset: int, chunk: int
    ) -> None:
        """Prevents a hunt for one bad byte in a large file, whichever chunk it lies in."""
        monkeypatch.setattr(lines, "CHUNK", chunk)
        path = write(b"Anna\tO\r\nlebt\tO\r\n\n" + bad)
        refused(path, f":4: not utf-8: byte 0x{bad[offset - 17]:02X} at byte offset {offset} ")

    def test_other_encodings_on_request(self, write: Write) -> None:
        """Prevents old files from being unreadable, and a mistyped encoding from giving a traceback."""
        path = write("Zoé\tB-PER\n".encode("cp1252"))
        assert words(read(path, options=ReadOptions(encoding="cp1252"))) == [("Zoé",)]
        with pytest.raises(ConfigError, match="unknown encoding 'utf-9'"):
            read(path, options=ReadOptions(encoding="utf-9"))

    @pytest.mark.parametrize("character", ["\0", "\x07", "\x0c", "\x1b", "\x7f", "\x92"])
    def test_refuses_control_characters(self, write: Write, character: str) -> None:
        """Prevents damaged or wrongly decoded text from entering training."""
        refused(write(f"a\tO\nb{character}c\tO\n"), f":2: control character U+{ord(character):04X} at column 2")

    def test_gzip_is_read(self, write: Write) -> None:
        """Prevents packed corpora from needing a manual step."""
        assert words(read(write(gzip.compress(CONLL.encode()), "a.conll.gz"))) == [("Anna", "lebt"), ("in", "Ulm")]

    @pytest.mark.parametrize(
        "damage", [lambda b: b[:-9], lambda b: b[:30] + b"\xff\xff" + b[32:], lambda b: b + b"xx", lambda _: b"Anna\tO\n"]
    )
    def test_refuses_damaged_gzip(self, write: Write, damage: Callable[[bytes], bytes]) -> None:
        """Prevents training on the first half of an interrupted download."""
        packed = gzip.compress((CONLL * 50).encode())
        refused(write(damage(packed), "a.conll.gz"), ": truncated or corrupt gzip file")

    def test_refuses_decompression_bombs(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents a few kilobytes from filling memory."""
        path = write(gzip.compress(b"\n" * 4_000_000), "a.conll.gz")
        monkeypatch.setattr(lines, "FREE_UNPACKED", 1_000_000)
        refused(path, f": {path.stat().st_size} bytes unpack to more than")
        monkeypatch.setattr(lines, "MAX_UNPACKED", 500_000)
        refused(path, ": unpacks to more than 500000 bytes")


class TestConll:
    @pytest.mark.parametrize("separator", ["\t", " "])
    @pytest.mark.parametrize("character", ["\u00a0", "\u3000", "\u2028", "\u2029", "\u0085", "\x1c", "\x1f"])
    def test_other_white_space_stays_inside_words(self, write: Write, separator: str, character: str) -> None:
        """Prevents words and lines broken at characters that only `str.split` and `str.splitlines` break at."""
        [sentence] = read(write(f"10{character}000{separator}O\nUlm{separator}B-LOC\n"))
        assert sentence.words == (f"10{character}000", "Ulm")
        assert sentence.tags == ("O", "B-LOC")

    @pytest.mark.parametrize(("row", "found"), [("lebt", 1), ("lebt  ", 1), ("\u3000", 1), ("lebt\u00a0VVFIN O", 2), ("lebt VVFIN x O", 4)])
    def test_refuses_ragged_rows(self, write: Write, row: str, found: int) -> None:
        """Prevents padded or shifted columns, which turn words into tags."""
        refused(write(f"Anna NE B-PER\n{row}\n"), f":2: found {found} columns, expected 3 (as in the first row)")

    def test_refuses_ragged_tab_rows(self, write: Write) -> None:
        """Prevents a row with spaces in a file with tabs from being read as something else."""
        refused(write("Anna\tO\nlebt O\n"), ":2: found 1 columns, expected 2 (tab-separated as in the first row)")

    @pytest.mark.parametrize(("row", "found"), [("Anna", 1), ("1 2 3 4 O", 5)])
    def test_refuses_other_widths(self, write: Write, row: str, found: int) -> None:
        """Prevents raw text or CoNLL-U from being taken for a NER file."""
        refused(write(f"\n{row}\n"), f":2: found {found} columns, expected 2 to 4")

    def test_columns(self, write: Write) -> None:
        """Prevents files with the tag in the middle from being unreadable."""
        path = write("1 Anna B-PER x\n2 lebt O y\n")
        assert read(path, options=ReadOptions(columns=(1, 2)))[0].tags == ("B-PER", "O")
        refused(path, ":1: found 4 columns, expected word and tag in columns [1, 4]", ReadOptions(columns=(1, 4)))
        refused(path, ":1: found 4 columns, expected word and tag in columns [3, -1]", ReadOptions(columns=(3, -1)))

    def test_document_marks_end_a_sentence(self, write: Write) -> None:
        """Prevents ``-DOCSTART-`` from becoming a word, or two documents from becoming one sentence."""
        path = write("-DOCSTART- -X- O O\n\nAnna N O I-PER\n-DOCSTART-\nUlm N O I-LOC\n")
        assert words(read(path)) == [("Anna",), ("Ulm",)]

    def test_comments_only_where_asked(self, write: Write) -> None:
        """Prevents words that begin with # from being dropped, and comments from becoming words."""
        path = write("# id 1\tdomain=x\nAnna\tB-PER\n#\tO\n\n# text = Ulm\n#Ulm\tB-LOC\n")
        sentences = read(path, options=ReadOptions(comments=True))
        assert words(sentences) == [("Anna", "#"), ("#Ulm",)]
        assert sentences[1].origin == f"{path}:6"
        refused(write("Anna O\n# id 5\n"), ":2: found 3 columns, expected 2 (as in the first row)", ReadOptions(comments=True))
        refused(
            write("Anna O\n\n# id 5\n"), ":3: found 3 columns, expected 2 (as in the first row); if it is a comment, set comments = true"
        )

    @pytest.mark.parametrize(("row", "message"), [("Anna B_PER", "unknown tag 'B_PER'"), ("Anna PER-B", "unknown tag 'PER-B'")])
    def test_unknown_tags_have_their_own_line(self, write: Write, row: str, message: str) -> None:
        """Prevents a message that names only the file, or the sentence, of a bad tag."""
        refused(write(f"so O\n\nso O\n{row}\n"), f":4: {message}, expected O or a form such as B-PER; the closest known form is 'B-PER'")

    @pytest.mark.parametrize(
        ("content", "name"),
        [("Anna B-person\nBo b-Person\n", "a.conll"), (jsonl({"tokens": ["Anna", "Bo"], "ner_tags": ["B-person", "b-Person"]}), "a.jsonl")],
    )
    def test_suggests_what_the_file_uses(self, write: Write, content: str, name: str) -> None:
        """Prevents a suggestion that would make a second type of the same name."""
        with pytest.raises(DataError, match="the closest known form is 'B-person'"):
            read(write(content, name))

    def test_empty_tag(self, write: Write) -> None:
        """Prevents a missing tag from counting as O."""
        refused(write("Anna\tO\nlebt\t\n"), ":2: unknown tag ''")

    @pytest.mark.parametrize(
        ("row", "message"), [("\tO", "the word is empty"), ("\u00a0\tO", "the word is empty"), ("New York\tO", "white space (U+0020)")]
    )
    def test_unusable_words_have_their_own_line(self, write: Write, row: str, message: str) -> None:
        """Prevents words that disappear, or become two, when text is joined and split again."""
        refused(write(f"Anna\tO\n{row}\n"), f":2: {message}")

    @pytest.mark.parametrize("content", ["", "\n\r\n \t\n", "\ufeff", "-DOCSTART- O\n\n"])
    def test_refuses_a_file_without_a_sentence(self, write: Write, content: str) -> None:
        """Prevents a run that trains on nothing."""
        refused(write(content), ": no sentence in the file")

    def test_converts_schemes_and_says_so(self, write: Write, caplog: pytest.LogCaptureFixture) -> None:
        """Prevents BIOES tags from becoming types of their own, and a conversion nobody hears of."""
        caplog.set_level(logging.INFO)
        [sentence] = read(write("Anna B-PER\nMay E-PER\nin O\nUlm S-LOC\nBonn E-LOC\n"))
        assert sentence.tags == ("B-PER", "I-PER", "O", "B-LOC", "B-LOC")
        assert "converted from BIOES to IOB2" in caplog.text
        assert "1 tags continued no entity (BIOES) and were read as B-" in caplog.text

    def test_refuses_mixed_schemes(self, write: Write) -> None:
        """Prevents a file glued from two schemes from being read by one of them."""
        refused(write("Anna U-PER\n\nUlm S-LOC\n"), ": BIOES and BILOU are mixed")

    def test_the_users_scheme_wins(self, write: Write) -> None:
        """Prevents detection from overruling the user, and an unknown scheme from being ignored."""
        refused(write("Anna S-PER\n"), ":1: the tag 'S-PER' does not belong to the scheme iob2", ReadOptions(scheme="bio"))
        with pytest.raises(ConfigError, match="unknown tag scheme 'bmes'"):
            ReadOptions(scheme="bmes")

    def test_only_outside(self, write: Write, caplog: pytest.LogCaptureFixture) -> None:
        """Prevents a crash, and silence, on a file without entities."""
        assert read(write("so O\n"))[0].tags == ("O",)
        assert "no entity in 1 sentences" in caplog.text

    def test_words_only(self, write: Write) -> None:
        """Prevents unlabelled use of a labelled file from failing on its tags."""
        [sentence] = read(write("Anna B_PER\n"), options=UNLABELLED)
        assert (sentence.words, sentence.tags) == (("Anna",), None)
        assert words(read(write("Anna\n"), options=UNLABELLED)) == [("Anna",)]


class TestJsonl:
    def test_tokens_with_names_or_numbers(self, write: Write) -> None:
        """Prevents either usual form of tags from being refused."""
        path = write(
            jsonl({"tokens": ["Anna", "lebt"], "ner_tags": ["B-PER", "O"]}, {"tokens": ["Ulm"], "ner_tags": [2], "id": 7}), "a.jsonl"
        )
        sentences = read(path, options=ReadOptions(tag_names=("O", "B-PER", "B-LOC")))
        assert [sentence.tags for sentence in sentences] == [("B-PER", "O"), ("B-LOC",)]
        assert sentences[1].origin == f"{path}:2"

    @pytest.mark.parametrize("tag", [3, -1, -100])
    def test_refuses_numbers_out_of_range(self, write: Write, tag: int) -> None:
        """Prevents a CUDA assert hours later, and Python's negative index from choosing the last tag."""
        path = write(jsonl({"tokens": ["a"], "ner_tags": [tag]}), "a.jsonl")
        refused(path, f":1: word 1: the tag {tag} is out of range, expected 0 to 2", ReadOptions(tag_names=("O", "B-X", "I-X")))

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            ({"tokens": ["a", "b"], "ner_tags": ["O"]}, "2 words in tokens but 1 tags in ner_tags"),
            ({"tokens": ["a"], "ner_tags": [1]}, "word 1: the tag is the number 1, whose name is not known; set tag_names"),
            ({"tokens": ["a", "b"], "ner_tags": ["O", 1.0]}, "word 1: ner_tags has a str, expected only"),
            ({"tokens": ["a"], "ner_tags": [True]}, "word 1: ner_tags has a bool"),
            ({"tokens": ["a"], "ner_tags": "O"}, "ner_tags is a str, expected a list"),
            ({"tokens": ["a"], "ner_tags": None}, "ner_tags is a NoneType"),
            ({"tokens": [1], "ner_tags": ["O"]}, "tokens is no list of strings"),
            ({"tokens": "a", "ner_tags": ["O"]}, "tokens is no list of strings"),
            ({"tokens": ["a"], "ner_tags": ["B_X"]}, "word 1: unknown tag 'B_X'"),
            ({"tokens": ["a", ""], "ner_tags": ["O", "O"]}, "word 2: the word is empty"),
            ({"tokens": ["a\tb"], "ner_tags": ["O"]}, "word 1: white space (U+0009) inside the word"),
            ({"tokens": ["a\nb"], "ner_tags": ["O"]}, "word 1: white space (U+000A) inside the word"),
            ({"tokens": ["a\0b"], "ner_tags": ["O"]}, "word 1: control character U+0000 at column 2"),
            ({"tokens": ["a\ud83d"], "ner_tags": ["O"]}, "word 1: unpaired surrogate U+D83D at column 2"),
            ({"words": ["a"]}, "found the fields words, expected tokens and ner_tags, or text and spans"),
            ({"text": 5, "spans": []}, "text: found a int, expected a string"),
            ({"text": "a\ud83d", "spans": []}, "text: unpaired surrogate U+D83D"),
            ([1], "found a list, expected an object"),
            ("a", "found a str, expected an object"),
        ],
    )
    def test_refuses_bad_records(self, write: Write, record: object, message: str) -> None:
        """Prevents any malformed record from being bent into a sentence; the message names its line."""
        good = {"tokens": ["a"], "ner_tags": ["O"]}
        refused(write(jsonl(good) + "\n" + jsonl(record), "a.jsonl"), f":3: {message}")

    @pytest.mark.parametrize("line", ["{", "{'a': 1}", "[" * 100_000, '{"a": 1' + "0" * 5000 + "}", '{"tokens": ["a"]} x'])
    def test_refuses_bad_json(self, write: Write, line: str) -> None:
        """Prevents a traceback from the parser, deep nesting and huge numbers included."""
        path = write(jsonl({"tokens": ["a"], "ner_tags": ["O"]}) + line, "a.jsonl")
        with pytest.raises(DataError, match=r"a.jsonl:2: (not JSON|JSON that cannot be read)"):
            read(path)

    def test_raw_line_separators_stay_in_strings(self, write: Write) -> None:
        """Prevents U+2028, legal inside JSON strings, from cutting a record in two."""
        assert words(read(write('{"tokens": ["a\u2028b"], "ner_tags": ["O"]}\n', "a.jsonl"))) == [("a\u2028b",)]

    def test_field_names_and_words_only(self, write: Write) -> None:
        """Prevents data sets with other field names from needing a rewrite."""
        path = write(jsonl({"words": ["Ulm"], "labels": ["B-LOC"]}), "a.jsonl")
        assert read(path, options=ReadOptions(tokens_field="words", tags_field="labels"))[0].tags == ("B-LOC",)
        assert words(read(path, options=ReadOptions(tokens_field="words", labelled=False))) == [("Ulm",)]
        assert words(read(write(jsonl({"text": "In Ulm."}), "b.jsonl"), options=UNLABELLED)) == [("In", "Ulm", ".")]
        refused(path, ":1: text: found no such field, expected a string", UNLABELLED)

    def test_records_without_words_are_passed_over(self, write: Write) -> None:
        """Prevents an empty record from stopping a run, or from becoming an empty sentence."""
        path = write(jsonl({"tokens": [], "ner_tags": []}, {"text": " \n", "spans": []}, {"text": "Ulm", "spans": []}), "a.jsonl")
        assert words(read(path)) == [("Ulm",)]


def span(start: int, end: int, label: str = "PER") -> dict[str, object]:
    return {"start": start, "end": end, "label": label}


class TestSpans:
    def read(self, write: Write, text: str, *spans: object) -> list[Sentence]:
        return read(write(jsonl({"text": text, "spans": list(spans)}), "a.jsonl"))

    def test_spans_become_tags(self, write: Write) -> None:
        """Prevents shifted entities: unsorted spans, neighbours and characters beyond the BMP."""
        [sentence] = self.read(write, "\U0001f600 Anna May, Ulm", span(12, 15, "LOC"), span(2, 10))
        assert sentence.words == ("\U0001f600", "Anna", "May", ",", "Ulm")
        assert sentence.tags == ("O", "B-PER", "I-PER", "O", "B-LOC")

    @pytest.mark.parametrize(
        ("start", "end", "tags", "widened"),
        [
            (5, 9, "OBO", False),
            (4, 10, "OBO", False),
            (6, 9, "OBO", True),
            (5, 8, "OBO", True),
            (6, 7, "OBO", True),
            (2, 8, "BIO", True),
            (5, 11, "OBI", True),
        ],
    )
    def test_cut_words_are_widened(
        self, write: Write, caplog: pytest.LogCaptureFixture, start: int, end: int, tags: str, widened: bool
    ) -> None:
        """Prevents a half-marked word from losing its entity, and a silent change of the gold."""
        [sentence] = self.read(write, "Frau Anna lebt", span(start, end))
        assert sentence.tags == tuple("O" if tag == "O" else f"{tag}-PER" for tag in tags)
        assert ("1 spans began or ended inside a word" in caplog.text) is widened

    @pytest.mark.parametrize(
        ("spans", "message"),
        [
            ([span(0, 9), span(5, 14)], "the span 5..14 overlaps the one before it"),
            ([span(0, 4), span(0, 4)], "the span 0..4 overlaps"),
            ([span(0, 6), span(7, 9)], "the span 7..9 ends inside a word that the span before it reaches into"),
            ([span(4, 5)], "the span 4..5 covers no word"),
            ([span(3, 3)], "spans 1: 3..3 does not fit into a text of 14 characters"),
            ([span(0, 15)], "spans 1: 0..15 does not fit"),
            ([span(-4, 3)], "spans 1: -4..3 does not fit"),
            ([{"start": 0, "end": 4}], "spans 1: expected whole numbers start and end, and a label"),
            ([{"start": 0.0, "end": 4, "label": "PER"}], "spans 1: expected whole numbers"),
            ([span(0, 4, "")], "spans 1: expected whole numbers"),
            ([span(0, 4, "a b")], "spans 1: expected whole numbers"),
            ([[0, 4, "PER"]], "spans 1 is a list, expected an object"),
        ],
    )
    def test_refuses_spans_without_one_meaning(self, write: Write, spans: list[object], message: str) -> None:
        """Prevents a guess which of two entities a word belongs to."""
        refused(write(jsonl({"text": "Frau Anna lebt", "spans": spans}), "a.jsonl"), f":1: {message}")

    def test_refuses_spans_that_are_no_list(self, write: Write) -> None:
        """Prevents a traceback on another layout."""
        refused(write(jsonl({"text": "a", "spans": {"start": 0}}), "a.jsonl"), ":1: spans is a dict, expected a list")


class TestParquet:
    def table(self, path: Path, metadata: object = None, **columns: Any) -> Path:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        table = pa.table(columns)
        pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(metadata)} if metadata else {}), path)
        return path

    @pytest.mark.parametrize(
        "feature",
        [
            {"feature": {"names": ["O", "B-LOC"], "_type": "ClassLabel"}, "_type": "List"},
            [{"names": ["O", "B-LOC"], "_type": "ClassLabel"}],
        ],
    )
    def test_names_tags_by_the_schema(self, tmp_path: Path, feature: object) -> None:
        """Prevents class labels of hub files from needing names that the file holds itself."""
        metadata = {"info": {"features": {"ner_tags": feature}}}
        path = self.table(tmp_path / "a.parquet", metadata, tokens=[["In", "Ulm"]], ner_tags=[[0, 1]], extra=[1])
        [sentence] = read(path)
        assert (sentence.words, sentence.tags, sentence.origin) == (("In", "Ulm"), ("O", "B-LOC"), f"{path}:1")
        assert read(path, options=ReadOptions(tag_names=("O", "B-X")))[0].tags == ("O", "B-X")

    def test_strings_spans_and_rows(self, tmp_path: Path) -> None:
        """Prevents the other layouts from failing, or a message from naming the wrong row."""
        assert read(self.table(tmp_path / "a.parquet", text=["Ulm"], spans=[[span(0, 3, "LOC")]]))[0].tags == ("B-LOC",)
        path = self.table(tmp_path / "b.parquet", tokens=[["a"]] * 1500, ner_tags=[["O"]] * 1499 + [["O", "O"]])
        refused(path, ":1500: 1 words in tokens but 2 tags")
        refused(self.table(tmp_path / "c.parquet", tokens=[["a"]], ner_tags=[[1]]), ":1: word 1: the tag is the number 1")
        refused(self.table(tmp_path / "d.parquet", x=[1]), ":1: found the fields none, expected tokens and ner_tags")

    @pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b[: len(b) // 2], lambda _: b"", lambda _: b"PAR1xPAR1"])
    def test_refuses_damaged_files(self, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
        """Prevents a traceback from pyarrow for an interrupted download."""
        path = self.table(tmp_path / "a.parquet", tokens=[["a"]], ner_tags=[["O"]])
        path.write_bytes(damage(path.read_bytes()))
        refused(path, ": truncated or corrupt Parquet file")

    def test_missing_pyarrow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents a bare ImportError for users of the light install."""
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingExtraError, match=r"reading Parquet needs the module 'pyarrow'.*nerdistill\[train\]"):
            read(tmp_path / "a.parquet")


class TestDocBin:
    def store(self, path: Path, *docs: object) -> Path:
        tokens = pytest.importorskip("spacy.tokens")
        tokens.DocBin(docs=docs).to_disk(path)
        return path

    def doc(self, words: list[str], ents: list[str] | None, starts: list[bool] | None = None) -> object:
        tokens = pytest.importorskip("spacy.tokens")
        vocab = pytest.importorskip("spacy.vocab")
        return tokens.Doc(vocab.Vocab(), words=words, ents=ents, sent_starts=starts)

    def test_entities_sentences_and_white_space_tokens(self, tmp_path: Path) -> None:
        """Prevents entities lost at sentence bounds or merged across dropped white space tokens."""
        doc = self.doc(
            ["Anna", " ", "May", "\n", "Bo", "lebt", ".", "In", "\u00a0", "Ulm"],
            ["B-PER", "I-PER", "I-PER", "B-PER", "I-PER", "O", "O", "O", "O", "B-LOC"],
            [True, *[False] * 6, True, False, False],
        )
        path = self.store(tmp_path / "a.spacy", doc, self.doc(["so"], ["O"]), self.doc(["\n"], ["O"]))
        sentences = read(path)
        assert words(sentences) == [("Anna", "May", "Bo", "lebt", "."), ("In", "Ulm"), ("so",)]
        assert [sentence.tags for sentence in sentences] == [("B-PER", "I-PER", "B-PER", "O", "O"), ("O", "B-LOC"), ("O",)]
        assert [sentence.origin for sentence in sentences] == [f"{path}:1", f"{path}:1", f"{path}:2"]

    def test_refuses_docs_without_annotation(self, tmp_path: Path) -> None:
        """Prevents raw Docs from being read as sentences without entities."""
        path = self.store(tmp_path / "a.spacy", self.doc(["so"], ["O"]), self.doc(["Ulm"], None))
        refused(path, ":2: token 0 has no entity annotation")
        assert words(read(path, options=UNLABELLED)) == [("so",), ("Ulm",)]

    def test_refuses_words_with_spaces(self, tmp_path: Path) -> None:
        """Prevents merged tokens from becoming two words later."""
        refused(self.store(tmp_path / "a.spacy", self.doc(["New York"], ["B-LOC"])), ":1: word 1: white space (U+0020)")

    @pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda _: b"", lambda _: b"no zlib", lambda _: zlib.compress(b"\x81\xa1a\x01")])
    def test_refuses_damaged_files(self, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
        """Prevents a traceback for a truncated or foreign file."""
        path = self.store(tmp_path / "a.spacy", self.doc(["so"], ["O"]))
        path.write_bytes(damage(path.read_bytes()))
        refused(path, ": truncated or corrupt .spacy file")

    def test_refuses_decompression_bombs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents a small file from filling memory before spaCy looks at it."""
        path = tmp_path / "a.spacy"
        path.write_bytes(zlib.compress(b"\0" * 4_000_000))
        monkeypatch.setattr(lines, "FREE_UNPACKED", 1_000_000)
        refused(path, f": {path.stat().st_size} bytes unpack to more than")


class TestPlain:
    def test_a_sentence_a_line(self, write: Write) -> None:
        """Prevents empty sentences, and line separators inside a sentence from counting as line ends."""
        path = write("Anna lebt\u2028in Ulm.\n\n \u3000\t\u0085\n\u6771\u4eac\r\n", "a.txt")
        sentences = read(path, options=ReadOptions(language="xx", labelled=False))
        assert words(sentences) == [("Anna", "lebt", "in", "Ulm", "."), ("\u6771", "\u4eac")]
        assert [sentence.origin for sentence in sentences] == [f"{path}:1", f"{path}:4"]
        assert sentences[0].tags is None
        refused(write(" \n", "b.txt"), ": no sentence in the file", UNLABELLED)

    def test_refuses_to_be_labelled(self, write: Write) -> None:
        """Prevents raw text from being taken for sentences without entities."""
        with pytest.raises(ConfigError, match="plain text has no tags; set labelled = false"):
            read(write("Anna\n", "a.txt"))


class TestHub:
    def fake(self, monkeypatch: pytest.MonkeyPatch, result: object) -> list[tuple[object, ...]]:
        calls: list[tuple[object, ...]] = []

        def load_dataset(name: str, config: str | None, split: str) -> object:
            calls.append((name, config, split))
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
        return calls

    @pytest.mark.parametrize(
        ("name", "call"),
        [("org/n", ("org/n", None, "train")), ("org/n:de", ("org/n", "de", "train")), ("org/n:de@test[:5%]", ("org/n", "de", "test[:5%]"))],
    )
    def test_loads_and_names_tags(self, monkeypatch: pytest.MonkeyPatch, name: str, call: tuple[object, ...]) -> None:
        """Prevents a wrong split or configuration from being read, and class labels without names."""

        class Rows(list[object]):
            features = {"ner_tags": SimpleNamespace(feature=SimpleNamespace(names=["O", "B-LOC"]))}

        calls = self.fake(monkeypatch, Rows([{"tokens": ["Ulm"], "ner_tags": [1]}]))
        [sentence] = read(name, "hub")
        assert calls == [call]
        assert (sentence.tags, sentence.origin) == (("B-LOC",), f"{name}:1")

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (ConnectionError("x"), r"org/n: the hub could not be reached \(ConnectionError\); .*hf download org/n"),
            (FileNotFoundError("x"), "org/n: no such data set on the hub"),
            (
                RuntimeError("Dataset scripts are no longer supported\nx"),
                "org/n: cannot be loaded: Dataset scripts are no longer supported;",
            ),
        ],
    )
    def test_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
        """Prevents a page of traceback where there is no network."""
        self.fake(monkeypatch, error)
        with pytest.raises(DataError, match=message):
            read("org/n", "hub")

    def test_refuses_malformed_ids(self) -> None:
        """Prevents a typo from reaching the network."""
        with pytest.raises(ConfigError, match="'org/n@a@b' is no data set id"):
            read("org/n@a@b", "hub")

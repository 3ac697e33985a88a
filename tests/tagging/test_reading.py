"""Inputs to documents: nothing good is lost, everything bad is named with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import DocBin

from nerdistill.errors import ConfigError
from nerdistill.tagging import sources, unpacked
from nerdistill.tagging.reading import read
from nerdistill.tagging.shards import plan
from nerdistill.tagging.sources import Documents, ReadOptions, Reject, Source, kind_of


def source_of(path: Path) -> Source:
    """A source as a run names it."""
    return Source(path.name, path, kind_of(path.name))


def taken(path: Path, options: ReadOptions | None = None) -> tuple[list[tuple[Any, str]], list[Reject]]:
    """Ids with texts, and rejects."""
    batches = list(read(source_of(path), options or ReadOptions()))
    documents = [pair for batch in batches for pair in zip(batch.ids, batch.texts, strict=True)]
    return documents, [reject for batch in batches for _, reject in batch.rejects]


def good(number: int, text: str) -> bytes:
    """A line of JSONL."""
    return json.dumps({"id": f"d{number}", "text": text}, ensure_ascii=False).encode()


GOOD = {
    "mark at the beginning": "Anna in Berlin",
    "NUL and control characters": "Anna \x00 in \x07 Berlin \x9b",
    "empty": "",
    "blank": "   ",
    "line ends": "\n\r\n",
    "very long word": "Anna " + "QUJD" * 250_000 + " Berlin",
    "very long": "Anna Schmidt in Berlin . " * 45_000,
    "emoji": "👩‍👩‍👧‍👦 Anna 🇩🇪 👍🏽",
    "right to left": "\u202bمحمد علي\u202c في القاهرة",
    "combining": "Ana\u0301 Mu\u0308nchen ﾊﾝｶｸ",
    "mixed scripts": "東京 Berlin ไทย दिल्ली",
    "odd white space": "a\u2028b\u0085c\x1cd\u00a0e\u3000f",
}
BAD: list[tuple[bytes, str | None, str]] = [
    (b'{"id": "b", "text": "caf\xe9"}', "b", "not utf-8: byte 0xE9 at byte offset"),
    (b'{"id": "b", "text": "\xff\xfe', None, "not utf-8"),
    (b'{"id": "b", "text": "\\ud800 alone"}', "b", "half of a surrogate pair in 'text'"),
    (b'{"id": "b", "text": "fine", "more": ["\\uDC00"]}', "b", "half of a surrogate pair in another field"),
    (b'{"id": "b", "text": ', None, "not JSON: Expecting value at column"),
    (b"{'id': 1}", None, "not JSON"),
    (b"[" * 100_000, None, "JSON that cannot be read"),
    (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", None, "JSON that cannot be read"),
    (b'["text", "a list"]', None, "not a record: found a list"),
    (b"7", None, "not a record: found a number"),
    (b"null", None, "not a record: found null"),
    (b'{"id": "b"}', "b", "no field 'text'"),
    (b'{"id": "b", "text": 5}', "b", "field 'text': found a number"),
    (b'{"id": "b", "text": null}', "b", "field 'text': found null"),
    (b'{"id": "b", "text": ["a"]}', "b", "field 'text': found a list"),
    (good(0, "x" * 2_000_001), "d0", "the text has 2000001 characters, over 2000000"),
    (b'{"id": "b", "text": "' + b"x" * (18 << 20) + b'"}', None, "the line has 18874"),
]


def test_every_kind_of_bad_line_among_good_ones(tmp_path: Path) -> None:
    """Prevents a bad line that takes good ones with it, that is bent into shape, or that nobody can find again."""
    lines: list[bytes] = []
    expected: list[Reject] = []
    texts = list(GOOD.values())
    for at in range(max(len(texts), len(BAD))):
        if at < len(texts):
            lines.append(b"\xef\xbb\xbf" * (at == 0) + good(at, texts[at]) + b"\r" * (at % 2))
        if at < len(BAD):
            line, own, reason = BAD[at]
            lines.append(line)
            where = f"in.jsonl:{len(lines)}"
            expected.append(Reject(own or where, reason, where))
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(lines))
    documents, rejects = taken(path, ReadOptions(max_length=2_000_000))
    assert documents == [(f"d{at}", text) for at, text in enumerate(texts)]
    assert [(one.id, one.location) for one in rejects] == [(one.id, one.location) for one in expected]
    for found, wanted in zip(rejects, expected, strict=True):
        assert found.reason.startswith(wanted.reason)
        assert "caf" not in found.reason  # a reason tells no content


def test_replace_keeps_what_would_be_rejected(tmp_path: Path) -> None:
    """Prevents offsets that no longer fit, since one character stands for each that was not one."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "\\ud800 Paris", "k\\udc00": "\\ud83d\\ude00"}\n{"text": "caf\xe9 Paris"}\n')
    batches = list(read(source_of(path), ReadOptions(replace=True)))
    assert batches[0].texts == ["\ufffd Paris", "caf\ufffd Paris"]
    assert batches[0].records[0]["k\ufffd"] == "😀"


def test_other_encodings(tmp_path: Path) -> None:
    """Prevents old corpora that have to be converted before they can be tagged, and encodings whose lines cannot be found."""
    path = tmp_path / "in.txt"
    path.write_bytes("café\nnaïve".encode("cp1252"))
    assert [text for _, text in taken(path, ReadOptions(encoding="cp1252"))[0]] == ["café", "naïve"]
    for encoding in ("utf-16", "no such"):
        with pytest.raises(ConfigError, match=encoding):
            ReadOptions(encoding=encoding)


def test_what_is_kept_of_a_record(tmp_path: Path) -> None:
    """Prevents fields that are lost: those that were not chosen, and those with the name of a result."""
    path = tmp_path / "in.jsonl"
    path.write_text(
        '{"key": 5, "body": "Anna", "n_words": 9, "input_n_words": 8, "more": [1]}\n{"key": null, "body": "x"}\n\n', encoding="utf-8"
    )

    def records(**chosen: Any) -> list[dict[str, Any]]:
        batches = list(read(source_of(path), ReadOptions(text_field="body", id_field="key", **chosen)))
        return [record for batch in batches for record in batch.records]

    whole = {"key": 5, "body": "Anna", "input_input_n_words": 9, "input_n_words": 8, "more": [1]}
    assert records() == [whole, {"key": "in.jsonl:2", "body": "x"}]
    assert list(records()[0]) == list(whole)
    assert records(fields=("more", "absent")) == [{"key": 5, "body": "Anna", "more": [1]}, {"key": "in.jsonl:2", "body": "x"}]
    assert records(fields=()) == [{"key": 5, "body": "Anna"}, {"key": "in.jsonl:2", "body": "x"}]
    with pytest.raises(ConfigError, match="n_words"):
        ReadOptions(text_field="n_words")


def test_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a batch that grows with its documents or its rejects, and so with the file."""
    monkeypatch.setattr(sources, "MOST_DOCUMENTS", 10)
    monkeypatch.setattr(sources, "MOST_CHARACTERS", 100)
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join([b"{broken"] * 35 + [good(n, "x" * n) for n in range(60)] + [good(99, "y" * 500)]))
    batches = list(read(source_of(path), ReadOptions()))
    assert max(len(batch.rejects) for batch in batches) == 10
    assert max(len(batch.texts) for batch in batches) == 10
    assert all(len(batch.texts) == 1 or sum(map(len, batch.texts)) <= 100 for batch in batches)
    assert sum(len(batch.texts) for batch in batches) == 61


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=30), max_size=30), st.integers(1, 60))
def test_shards_hold_each_line_once(tmp_path_factory: pytest.TempPathFactory, texts: list[str], size: int) -> None:
    """Prevents a document that is lost or doubled where two shards meet, and line numbers that count from a shard's beginning."""
    folder = tmp_path_factory.mktemp("shards")
    path = folder / "in.txt.gz"
    path.write_bytes(gzip.compress("".join(f"{text}\n" for text in texts).encode()))
    source = source_of(path)
    planned = plan([source], ReadOptions(), size, False)
    file = unpacked.Unpacked(path)
    try:
        for order in (planned.shards, tuple(reversed(planned.shards))):
            parts = {shard.number: list(read(source, ReadOptions(), shard.extent, file)) for shard in order}
            batches = [batch for number in sorted(parts) for batch in parts[number]]
            found = [pair for batch in batches for pair in zip(batch.places, batch.texts, strict=True)]
            assert found == list(
                enumerate((text.removesuffix("\r").removeprefix("\ufeff" * (at == 0)) for at, text in enumerate(texts)), 1)
            )
    finally:
        file.close()


def parquet(path: Path, rows: int = 2500) -> pa.Table:
    """A file of several row groups with types that JSON has not."""
    table = pa.table(
        {
            "id": pa.array([None if at == 7 else f"r{at}" for at in range(rows)]),
            "when": pa.array(range(rows), pa.timestamp("ns")),
            "text": pa.array([None if at == 3 else f"Anna {at} in Berlin" for at in range(rows)]).dictionary_encode(),
        }
    )
    pq.write_table(table, path, row_group_size=700)
    return table


@pytest.mark.parametrize("packed", [False, True])
def test_parquet(tmp_path: Path, packed: bool) -> None:
    """Prevents rows that are lost between row groups, numbered wrongly, or stripped of their types."""
    path = tmp_path / ("in.parquet.gz" if packed else "in.parquet")
    table = parquet(path)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    planned = plan([source_of(path)], ReadOptions(), 1, True)
    assert [shard.extent.first for shard in planned.shards] == [1, 701, 1401, 2101]
    batches: list[Documents] = [b for shard in planned.shards for b in read(source_of(path), ReadOptions(), shard.extent)]
    assert [place for batch in batches for place in batch.places] == [at + 1 for at in range(2500) if at != 3]
    rejects = [reject for batch in batches for _, reject in batch.rejects]
    assert rejects == [Reject("r3", "column 'text': found null, expected a string", f"{path.name}:4")]
    kept = pa.Table.from_batches([batch.records for batch in batches])
    assert kept.column("when").to_pylist() == [when for at, when in enumerate(table.column("when").to_pylist()) if at != 3]
    assert kept.column("id").to_pylist()[6] == f"{path.name}:8"


def test_parquet_with_a_damaged_row_group(tmp_path: Path) -> None:
    """Prevents one bad page from losing the rows of a whole file."""
    path = tmp_path / "in.parquet"
    parquet(path)
    group = pq.ParquetFile(path).metadata.row_group(1).column(2)
    raw = bytearray(path.read_bytes())
    at = group.dictionary_page_offset
    raw[at : at + 40] = b"\xff" * 40
    path.write_bytes(bytes(raw))
    documents, rejects = taken(path)
    assert len(documents) == 2500 - 700 - 1
    assert [reject.location for reject in rejects] == ["in.parquet:4", "in.parquet:701"]
    assert "rows 701 to 1400" in rejects[1].reason


def test_docbin(tmp_path: Path) -> None:
    """Prevents Docs that lose their text, their id or their own data."""
    nlp = spacy.blank("xx")
    docs = [nlp("Anna  in Berlin"), nlp(""), nlp("東京")]
    user_data: dict[Any, Any] = {"id": 5, "more": [1], ("._.", "hidden", None, None): 1}
    docs[0].user_data.update(user_data)
    path = tmp_path / "in.spacy"
    DocBin(docs=docs, store_user_data=True).to_disk(path)
    batches = list(read(source_of(path), ReadOptions()))
    assert [text for batch in batches for text in batch.texts] == ["Anna  in Berlin", "", "東京"]
    assert batches[0].records[0] == {"text": "Anna  in Berlin", "id": 5, "more": (1,)}
    assert batches[0].ids == [5, "in.spacy:2", "in.spacy:3"]

"""Documents with entities to files, and the parts of a corpus to one file."""

from __future__ import annotations

import gzip
import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spacy.tokens import DocBin
from spacy.vocab import Vocab

from nerdistill.corpus.readers import ReadOptions as CorpusOptions
from nerdistill.corpus.readers import read as read_corpus
from nerdistill.errors import ConfigError
from nerdistill.labels import spans_of
from nerdistill.tagging.batch import Columns
from nerdistill.tagging.sinks import check_format, format_of, join, open_sink, reject_line, writing
from nerdistill.tagging.sources import Documents, ReadOptions, Reject

TEXT = "Anna Schmidt\x00  besucht\nBerlin, 東京 👩‍👩‍👧."


def entity(start: int, stop: int, label: str) -> dict[str, Any]:
    """An entity of `TEXT`."""
    return {"start": start, "stop": stop, "text": TEXT[start:stop], "label": label, "score": 0.5}


ENTITIES = [entity(0, 12, "PER"), entity(23, 29, "LOC"), entity(31, 32, "LOC"), entity(32, 33, "ORG")]
RECORDS: list[dict[str, Any]] = [{"id": 7, "text": TEXT, "more": {"deep": [1, math.nan], "big": 1 << 70}}, {"id": "b", "text": ""}]
OPTIONS = ReadOptions(results=("entities", "n_words", "n_windows", "note"))


def batch() -> tuple[Documents, Columns]:
    """Two documents, one of them empty, and what was found in them."""
    documents = Documents([1, 2], [7, "b"], [TEXT, ""], [dict(record) for record in RECORDS])
    results: Columns = {
        "entities": [ENTITIES, []],
        "n_words": [9, 0],
        "n_windows": [1, 0],
        "note": [None, "not tagged"],
        "error": [None] * 2,
    }
    return documents, results


def written(path: Path, format: str, packing: str = "", repeat: int = 1, options: ReadOptions = OPTIONS) -> Path:
    """A file of some such batches."""
    with writing(path, packing) as file:
        sink = open_sink(format, file, options)
        for _ in range(repeat):
            sink.write(*batch())
        sink.close()
    return path


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_jsonl(tmp_path: Path, packing: str) -> None:
    """Prevents output that no strict reader of JSON takes, and parts that do not make a whole."""
    part = written(tmp_path / "a", "jsonl", packing)
    whole = io.BytesIO()
    join("jsonl", [part, part], whole)
    raw = whole.getvalue()
    if packing == ".gz":
        raw = gzip.decompress(raw)
    elif packing:
        raw = pa.CompressedInputStream(pa.BufferReader(raw), "zstd").read()
    rows = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in raw.decode().split("\n")[:-1]]
    assert rows[:2] == rows[2:]
    assert rows[0] == {
        **RECORDS[0],
        "more": {"deep": [1, None], "big": 1 << 70},
        "entities": ENTITIES,
        "n_words": 9,
        "n_windows": 1,
        "note": None,
    }
    assert list(rows[1]) == ["id", "text", "entities", "n_words", "n_windows", "note"]


def test_conll_is_read_back(tmp_path: Path) -> None:
    """Prevents columns that the project's own reader refuses, neighbouring entities that melt, and a document without its id."""
    path = written(tmp_path / "a.conll", "conll", options=ReadOptions())
    sentences = read_corpus(path, options=CorpusOptions(comments=True))
    assert len(sentences) == 1
    assert sentences[0].tags is not None
    spans = spans_of(sentences[0].tags)
    assert [("".join(sentences[0].words[span.start : span.stop]), span.label) for span in spans] == [
        ("AnnaSchmidt", "PER"),
        ("Berlin", "LOC"),
        ("東", "LOC"),
        ("京", "ORG"),
    ]
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[0] == "# id = 7"
    assert lines[1].startswith('# more = {"deep"')
    assert "Anna\t0:4\t0.5\tB-PER" in lines
    assert "# id = b" in lines


def test_parquet_of_other_records(tmp_path: Path) -> None:
    """Prevents columns whose types depend on which records came first, and parts that cannot be joined."""
    part = written(tmp_path / "a.parquet", "parquet", repeat=3)
    with (tmp_path / "whole.parquet").open("wb") as file:
        join("parquet", [part, part], file)
    table = pq.read_table(tmp_path / "whole.parquet")
    assert table.schema.names == ["id", "text", "fields", "entities", "n_words", "n_windows", "note"]
    rows = table.to_pylist()
    assert len(rows) == 12
    assert rows[0]["id"] == "7"
    assert json.loads(rows[0]["fields"])["more"]["big"] == 1 << 70
    assert rows[1]["fields"] is None
    assert rows[0]["entities"] == ENTITIES


def test_parquet_to_parquet_and_json() -> None:
    """Prevents types that are lost between Parquet and Parquet, and a timestamp that ends a run to JSONL."""
    schema = pa.schema([("id", pa.int64()), ("when", pa.timestamp("ns")), ("raw", pa.binary()), ("text", pa.string())])
    records = pa.RecordBatch.from_pylist([{"id": 1, "when": 1, "raw": b"\xff", "text": TEXT}, {"id": 2, "text": ""}], schema=schema)
    documents, results = batch()
    documents.records = records
    native, lines = io.BytesIO(), io.BytesIO()
    sinks = open_sink("parquet", native, OPTIONS, schema), open_sink("jsonl", lines, OPTIONS)
    for sink in sinks:
        sink.write(documents, results)
        sink.close()
    table = pq.read_table(io.BytesIO(native.getvalue()))
    assert table.schema.field("when").type == pa.timestamp("ns")
    assert table.column("raw").to_pylist() == [b"\xff", None]
    row = json.loads(lines.getvalue().split(b"\n")[0])
    assert row["raw"] == "/w=="
    assert row["when"].endswith("000000001")


def test_docbin_is_read_back(tmp_path: Path) -> None:
    """Prevents Docs whose text, entities, scores or ids differ from what was found."""
    part = written(tmp_path / "a.spacy", "spacy")
    with (tmp_path / "whole.spacy").open("wb") as file:
        join("spacy", [part, part], file)
    docs = list(DocBin().from_disk(tmp_path / "whole.spacy").get_docs(Vocab()))
    assert [doc.text for doc in docs] == [TEXT, ""] * 2
    assert [(span.start_char, span.end_char, span.label_) for span in docs[0].ents] == [
        (one["start"], one["stop"], one["label"]) for one in ENTITIES
    ]
    assert docs[0].spans["nerdistill"].attrs["scores"] == [0.5] * 4
    assert docs[0].user_data["id"] == 7
    assert docs[0].user_data["more"]["big"] == str(1 << 70)
    assert docs[1].user_data["note"] == "not tagged"


@pytest.mark.parametrize("format", ["jsonl", "conll", "parquet", "spacy"])
def test_same_work_gives_the_same_bytes(tmp_path: Path, format: str) -> None:
    """Prevents times, names or orders of sets in a file, by which a continued run would differ from another."""
    packings = ["", ".gz", ".zst"] if format in ("jsonl", "conll") else [""]
    for packing in packings:
        first, second = (written(tmp_path / name, format, packing).read_bytes() for name in ("a", "b"))
        assert first == second


def test_rejects_are_always_json() -> None:
    """Prevents a file of rejects that cannot be read because of what was wrong with a record."""
    reject = Reject("half \ud800", 'why "not"', "ä.jsonl:3")
    assert json.loads(reject_line(reject)) == reject._asdict()


def test_formats_by_name() -> None:
    """Prevents an output in another format than its name says."""
    assert format_of("a/b.JSONL") == ("jsonl", "")
    assert format_of("b.conll.gz") == ("conll", ".gz")
    assert format_of("b.parquet") == ("parquet", "")
    assert format_of("b.txt") is None
    with pytest.raises(ConfigError, match="packed inside"):
        check_format("spacy", ".gz")
    with pytest.raises(ConfigError, match="csv"):
        check_format("csv", "")

"""The function that tags a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from nerdistill.runtime.bundle import BundleInfo
from nerdistill.runtime.tagger import Tagger
from nerdistill.tagging.batch import RESULTS, tag_batch, tag_record_batch
from nerdistill.text.splitter import split

TEXTS = [
    "Anna Schmidt besucht Berlin .",
    "",
    " \n ",
    "محمد علي زار القاهرة",
    "東京は日本の首都。",
    "Ana\u0301 in Mu\u0308nchen 👩‍👩‍👧 🇩🇪",
    "Siemens AG opens in London " * 300,
]


def test_spans_are_those_of_the_tagger(tagger: Tagger) -> None:
    """Prevents a corpus that is tagged otherwise than its documents would be one by one."""
    results = tag_batch(tagger, TEXTS)
    for text, entities, expected in zip(TEXTS, results["entities"], tagger.pipe(TEXTS), strict=True):
        assert [(one["start"], one["stop"], one["label"], one["text"]) for one in entities] == [
            (one.start, one.stop, one.label, text[one.start : one.stop]) for one in expected
        ]
        assert all(abs(one["score"] - other.score) < 1e-4 for one, other in zip(entities, expected, strict=True))
    assert sum(map(len, results["entities"])) > 20
    assert results["n_words"] == [len(split(text)) for text in TEXTS]
    assert set(results["error"]) == set(results["note"]) == {None}


def test_windows_are_counted(tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a counter that says a long text was read at once, for students over words and over pieces."""
    info = tagger.info.model_copy(update={"window": 64, "overlap": 8})
    monkeypatch.setattr(tagger, "info", info)
    long = "Anna " * 200
    assert tag_batch(tagger, ["Anna Berlin", "", long])["n_windows"] == [1, 0, 4]
    pieces = tag_batch(_over_pieces(tagger, info, monkeypatch), [long, "Anna"])["n_windows"]
    assert pieces[0] >= 4
    assert pieces[1] == 1


def _over_pieces(tagger: Tagger, info: BundleInfo, monkeypatch: pytest.MonkeyPatch) -> Tagger:
    """A tagger that counts pieces; what it finds is of no interest."""
    monkeypatch.setattr(tagger, "info", info.model_copy(update={"inputs": "pieces"}))
    monkeypatch.setattr(tagger, "tag_words", lambda sentences: [[] for _ in sentences])
    return tagger


def test_one_bad_text_costs_no_other(tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a batch that is lost to one text, and an error that nobody hears of."""
    whole = tagger.tag_words

    def fails(sentences: Sequence[Sequence[str]]) -> Any:
        if any("Berlin" in words for words in sentences):
            raise MemoryError("too much")
        return whole(sentences)

    monkeypatch.setattr(tagger, "tag_words", fails)
    results = tag_batch(tagger, ["Anna Schmidt", "Anna in Berlin", None, 7, "Ola Nordmann"])
    assert results["error"] == [
        None,
        "could not be tagged: MemoryError: too much",
        "the text is a NoneType, expected a string",
        "the text is a int, expected a string",
        None,
    ]
    assert results["entities"][0] == tag_batch(tagger, ["Anna Schmidt"])["entities"][0]


def test_threshold_and_judge(tagger: Tagger) -> None:
    """Prevents weak entities that were to be left out, and texts tagged in a language that was not asked for."""
    scores = [one["score"] for one in tag_batch(tagger, TEXTS[:1])["entities"][0]]
    least = sorted(scores)[-1]
    assert [one["score"] for one in tag_batch(tagger, TEXTS[:1], threshold=least)["entities"][0]] == [s for s in scores if s >= least]
    results = tag_batch(tagger, TEXTS[:4], judge=lambda words: "not today" if "Berlin" in words else None)
    assert results["note"] == ["not today", None, None, None]
    assert results["entities"][0] == []
    assert results["n_windows"][0] == 0
    assert results["entities"][3] == tag_batch(tagger, TEXTS[:4])["entities"][3]


def test_arrow_is_the_same(tagger: Tagger) -> None:
    """Prevents engines that hand over Arrow from getting other entities, or losing columns and nulls."""
    batch = pa.RecordBatch.from_pydict({"key": list(range(8)), "body": [*TEXTS, None]})
    tagged = tag_record_batch(tagger, batch, text="body")
    assert tagged.schema.names == ["key", "body", *RESULTS]
    assert tagged.column("key").to_pylist() == list(range(8))
    results = tag_batch(tagger, [*TEXTS, None])
    assert tagged.column("entities").to_pylist() == results["entities"]
    assert tagged.column("error").to_pylist()[-1] == "the text is a NoneType, expected a string"


def test_the_batch_knows_no_files(tagger: Tagger) -> None:
    """Prevents state that is kept between batches: the same batch gives the same columns."""
    assert tag_batch(tagger, TEXTS) == tag_batch(tagger, TEXTS)
    assert dataclasses.is_dataclass(tagger.scheme)
    assert tag_batch(tagger, []) == {name: [] for name in RESULTS}

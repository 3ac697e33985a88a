"""The tagging itself: texts in, columns out. It knows nothing of files, shards or processes, so any engine that maps batches can call it.

`tag_batch` is plain Python lists; `tag_record_batch` is the same for Arrow. `nerdistill.tagging.on_ray` maps it over data sets of Ray Data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nerdistill.records import WordSpan
from nerdistill.runtime.tagger import Tagger
from nerdistill.text.splitter import places, split_words
from nerdistill.text.windows import windows

if TYPE_CHECKING:
    from pyarrow import RecordBatch

Columns: TypeAlias = dict[str, list[Any]]
Judge: TypeAlias = Callable[[Sequence[str]], str | None]
"""Given the words of a text: why it is not to be tagged, or None."""

RESULTS = ("entities", "n_words", "n_windows", "note", "error")
"""The columns that tagging adds."""

_DIGITS = 4
"""Of a score, which ranks and is no more exact than that."""


def tag_batch(tagger: Tagger, texts: Sequence[Any], threshold: float = 0.0, judge: Judge | None = None) -> Columns:
    """Tag some texts; entities are those of `Tagger.pipe` for the same batch, and no text keeps another from being tagged.

    An 8-bit network scales its numbers by what shares a call, so its scores move a little from batch to batch.

    Args:
        tagger: An open student.
        texts: What is no string gets an error.
        threshold: Entities with a score below it are left out.
        judge: Texts that it gives a reason for come out without entities, with that reason as their note.

    Returns:
        A value for each text in each of `RESULTS`: ``entities``, a list of ``{"start", "stop", "text", "label", "score"}`` in order,
        offsets in characters, scores rounded to four digits; ``n_words``; ``n_windows``, how many windows the network read it in (0 where
        it did not); ``note``; ``error``, why this text could not be tagged. The last two are None where there is nothing to say.
    """
    rows: list[tuple[Any, ...]] = []
    try:
        rows = _rows(tagger, texts, threshold, judge)
    except Exception as error:  # whatever it is, it must not cost the other texts their entities
        if len(texts) > 1:
            rows = [row for text in texts for row in zip(*tag_batch(tagger, [text], threshold, judge).values(), strict=True)]
        else:
            rows = [([], 0, 0, None, f"could not be tagged: {type(error).__name__}: {error}")]
    return {name: [row[at] for row in rows] for at, name in enumerate(RESULTS)}


def _rows(tagger: Tagger, texts: Sequence[Any], threshold: float, judge: Judge | None) -> list[tuple[Any, ...]]:
    """The results of each text in the order of `RESULTS`."""
    errors = [None if isinstance(text, str) else f"the text is a {type(text).__name__}, expected a string" for text in texts]
    words = [[] if error else split_words(text) for text, error in zip(texts, errors, strict=True)]
    notes = [judge(inside) if judge and inside else None for inside in words]
    shown = [inside if note is None else [] for inside, note in zip(words, notes, strict=True)]
    found = tagger.tag_words(shown)
    reads = _windows(tagger, shown)
    rows: list[tuple[Any, ...]] = []
    for text, inside, spans, n_windows, note, error in zip(texts, words, found, reads, notes, errors, strict=True):
        rows.append((_entities(text, inside, spans, threshold) if spans else [], len(inside), n_windows, note, error))
    return rows


def _entities(text: str, words: Sequence[str], spans: Sequence[WordSpan], threshold: float) -> list[dict[str, Any]]:
    """Spans over words as entities over characters; the words behind the last one need no place."""
    offsets = places(text, words[: spans[-1].stop])
    entities = []
    for span in spans:
        score = round(span.score, _DIGITS)
        if score >= threshold:
            start, stop = offsets[span.start][0], offsets[span.stop - 1][1]
            entities.append({"start": start, "stop": stop, "text": text[start:stop], "label": span.label, "score": score})
    return entities


def _windows(tagger: Tagger, sentences: Sequence[Sequence[str]]) -> list[int]:
    """In how many windows the network reads each text."""
    budget, overlap = tagger.info.window, tagger.info.overlap
    most = 1 if tagger.info.inputs == "words" else tagger.info.max_pieces
    counts = []
    for words in sentences:
        if len(words) * most <= budget:
            counts.append(1 if words else 0)
            continue
        costs = np.ones(len(words), dtype=np.int64) if most == 1 else _pieces(tagger, words)
        counts.append(sum(1 for _ in windows(costs, budget, overlap)))
    return counts


def _pieces(tagger: Tagger, words: Sequence[str]) -> Any:
    """``[W]`` int64, pieces of each word."""
    rows, table = tagger._open().encode(words)
    return table.lengths[rows].astype(np.int64)


def entity_type() -> Any:
    """The Arrow type of the column ``entities``."""
    import pyarrow as pa

    fields = [("start", pa.int64()), ("stop", pa.int64()), ("text", pa.string()), ("label", pa.string()), ("score", pa.float64())]
    return pa.list_(pa.struct([pa.field(name, kind, nullable=False) for name, kind in fields]))


def result_types() -> dict[str, Any]:
    """The Arrow type of each of `RESULTS`."""
    import pyarrow as pa

    return dict(zip(RESULTS, (entity_type(), pa.int32(), pa.int32(), pa.string(), pa.string()), strict=True))


def tag_record_batch(
    tagger: Tagger, batch: RecordBatch, text: str = "text", threshold: float = 0.0, judge: Judge | None = None
) -> RecordBatch:
    """`tag_batch` for Arrow: the batch with the columns of `RESULTS` behind its own.

    Args:
        tagger: As in `tag_batch`.
        batch: Any columns; none may have the name of a result.
        text: The column that holds the text; null, and bytes that are not UTF-8, get an error.
        threshold: As in `tag_batch`.
        judge: As in `tag_batch`.
    """
    import pyarrow as pa

    from nerdistill.tagging.from_parquet import values_of  # which needs to know the results' names

    results = tag_batch(tagger, values_of(batch.column(text)), threshold, judge)
    types = result_types()
    arrays = [pa.array(results[name], types[name]) for name in RESULTS]
    return pa.RecordBatch.from_arrays([*batch.columns, *arrays], names=[*batch.schema.names, *RESULTS])

"""``nlp.pipe`` measured: memory while it reads any number of documents, two processes against one, and where its time goes.

The documents are short, about ten words, and each brings a word that was not there before (`nerdistill.evaluation.texts`). Then

1. one process reads them all in memory zones of `ZONE` documents, taking the entities out of each doc; another reads a tenth without
   zones; both note their resident memory as they go;
2. one process with one thread, two worker processes with one each, and one process with a thread for every core take turns, each time
   with documents not read before; starting the workers and opening the network in them is in their time;
3. each part of the way is run alone, as in `nerdistill.evaluation.parts`, and docs are packed and unpacked as between processes.

Every measurement has a process of its own.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from itertools import islice
from multiprocessing import get_context, get_start_method, set_start_method
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from nerdistill.errors import ConfigError, NerdistillError
from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.parts import fastest
from nerdistill.evaluation.resident import resident
from nerdistill.evaluation.spread import spread
from nerdistill.evaluation.tables import MISSING, Results, compact, factor, markdown, percent, size_text
from nerdistill.evaluation.texts import short_documents
from nerdistill.runtime.backends import Backend
from nerdistill.runtime.bundle import Bundle, Variant, open_bundle
from nerdistill.runtime.session import cores
from nerdistill.text.splitter import split_words

if TYPE_CHECKING:
    from spacy.language import Language

    from nerdistill.pipeline.component import NerDistill

P = ParamSpec("P")
T = TypeVar("T")

KIND = "spacy pipe"
ZONE = 5_000
"""Documents of a memory zone."""

WITHOUT = 10
"""The share of the documents that is read without zones is one in so many."""

TIMED = 50_000
"""Documents of one timing at most: enough for starting workers to cost little."""

DISSECTED, PACKED = 3_000, 300
"""Documents whose way is timed part by part, and that are packed and unpacked, at most."""

REPEATS = 5
PARTS = ("split", "make docs", "read words", "tag", "set entities", "rest")
_POINTS = 200
"""Moments at which memory is noted."""


def make_pipeline(bundle: Bundle, threads: int | None, backend: Backend = "onnxruntime") -> Language:
    """The pipeline that a package of ours holds."""
    import spacy

    nlp = spacy.blank("xx", config={"nlp": {"tokenizer": {"@tokenizers": "nerdistill.Splitter.v1"}}})
    nlp.add_pipe("nerdistill", config={"threads": threads, "variant": bundle.variant, "backend": backend})
    _component(nlp).bundle = bundle
    return nlp


def _component(nlp: Language) -> NerDistill:
    from nerdistill.pipeline.component import NerDistill

    component = nlp.get_pipe("nerdistill")
    assert isinstance(component, NerDistill)
    return component


def measure_pipe(
    path: Path, texts: Sequence[str], documents: int, command: str, say: Callable[[str], None], variant: Variant | None = None
) -> dict[str, Any]:
    """Measure a bundle in spaCy.

    Args:
        path: The bundle's folder.
        texts: What the documents are made of.
        documents: How many are read while memory is noted.
        command: How this was called, for the results.
        say: Is told what is done.
        variant: As in `nerdistill.runtime.tagger.Tagger.load`.

    Returns:
        A results object; its rows are the ways to share the work (``documents_per_second`` and ``words_per_second``, median and quartiles;
        ``times``, over one process with one thread; microseconds of processor a word in this process and in its workers). Beside the
        usual: ``memory``, two curves (``documents``, ``bytes``) with what was held at the end; ``parts``, microseconds a word; and
        ``transport``, microseconds a document.

    Raises:
        BundleError: There is no sound bundle.
        ConfigError: `documents` is below 1.
        DataError: There is no text.
    """
    if documents < 1:
        raise ConfigError(f"documents = {documents}, expected 1 or more")
    bundle = open_bundle(path, variant)
    next(short_documents(texts, 0, 1))  # no text is found out here, not in another process
    memory = {}
    for name, zones, count in (("memory zones", True, documents), ("no zones", False, -(-documents // WITHOUT))):
        say(f"reading {count:,} documents, {name}")
        memory[name] = _apart(read_stream, bundle, texts, count, zones)
    timed = min(documents, TIMED)
    say(f"reading {timed:,} documents {REPEATS} times in each way")
    rows = _apart(time_ways, bundle, texts, timed, REPEATS)
    say("timing the parts")
    parts, transport = _apart(time_parts, bundle, [*short_documents(texts, 0, min(documents, DISSECTED))])
    data = {
        "documents": documents,
        "texts": len(texts),
        "documents_of_a_timing": timed,
        "repeats": REPEATS,
        "zone": ZONE,
        "start_method": get_start_method(),
    }
    frame = results_frame("nlp.pipe", command, 1, {**data, "variant": bundle.variant}, rows)
    return {**frame, "kind": KIND, "memory": memory, "parts": parts, "transport": transport}


def _apart(job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a fresh process that may start others, by the way that is usual on this system."""
    with ProcessPoolExecutor(1, get_context("spawn"), _start_by, (get_start_method(),)) as pool:
        try:
            return pool.submit(job, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise NerdistillError("the process that is measured was ended from outside, most likely for want of memory") from error


def _start_by(method: str) -> None:
    """Runs first in a process that was spawned, which would spawn in its turn."""
    set_start_method(method, force=True)


def read_stream(bundle: Bundle, texts: Sequence[str], documents: int, zones: bool) -> dict[str, Any]:
    """Read a stream and note the memory of this process.

    Args:
        bundle: The student.
        texts: What the documents are made of.
        documents: How many.
        zones: Whether memory zones are used.

    Returns:
        ``documents`` read and ``bytes`` held at each moment; ``entities``; ``seconds``; ``held`` at the end: ``strings`` of
        spaCy's vocabulary (its count of lexemes does not go down when a zone ends), ``words`` of the tagger.
    """
    nlp = make_pipeline(bundle, threads=1)
    nlp("")
    at, held, entities, read = [0], [resident(os.getpid())], 0, 0
    stream, every = short_documents(texts, 0, documents), max(1, documents // _POINTS)
    began = time.perf_counter()
    while chunk := [*islice(stream, ZONE)]:
        with nlp.memory_zone() if zones else nullcontext():
            for doc in nlp.pipe(chunk):
                entities += len(doc.ents)
        read += len(chunk)
        if read - at[-1] >= every or read == documents:
            at.append(read)
            held.append(resident(os.getpid()))
    network = _component(nlp)._tagging()._open()
    counts = {"strings": len(nlp.vocab.strings), "words": len(network.encode([])[1])}
    return {"documents": at, "bytes": held, "entities": entities, "seconds": round(time.perf_counter() - began, 2), "held": counts}


def time_ways(bundle: Bundle, texts: Sequence[str], documents: int, repeats: int) -> list[dict[str, Any]]:
    """Time one process, two workers, and one process with all threads, in turn.

    Args:
        bundle: The student.
        texts: What the documents are made of.
        documents: Of one timing; each repeat has others.
        repeats: Timings of each way.

    Returns:
        The rows that `measure_pipe` describes.
    """
    ways = {"1 process": (1, 1), "2 processes": (2, 1)} | ({f"1 process, {cores()} threads": (1, cores())} if cores() > 1 else {})
    pipelines = {threads: make_pipeline(bundle, threads) for _, threads in ways.values()}
    for nlp in pipelines.values():
        nlp(next(short_documents(texts, 0, 1)))
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    words: list[int] = []
    for repeat in range(repeats):
        stream = [*short_documents(texts, repeat * documents, (repeat + 1) * documents)]
        words.append(sum(len(split_words(text)) for text in stream))
        for name, (processes, threads) in ways.items():
            taken[name].append(_timed(pipelines[threads], stream, processes))
    workers_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    rows = []
    for name, (processes, threads) in ways.items():
        seconds, here, in_workers = zip(*taken[name], strict=True)
        speeds = [count / spent for count, spent in zip(words, seconds, strict=True)]
        alone = [count / spent for count, (spent, *_) in zip(words, taken["1 process"], strict=True)]
        rows.append(
            {
                "system": name,
                "processes": processes,
                "threads": threads,
                "documents_per_second": spread([documents / spent for spent in seconds]),
                "words_per_second": spread(speeds)["median"],
                "words_per_second_quartiles": spread(speeds)["quartiles"],
                "times": round(float(np.median(np.divide(speeds, alone))), 4),
                "microseconds_here": round(1e6 * sum(here) / sum(words), 4),
                "microseconds_in_workers": round(1e6 * sum(in_workers) / sum(words), 4),
                **({"worker_peak_bytes": workers_peak} if processes > 1 else {}),
            }
        )
    return rows


def _timed(nlp: Language, texts: Sequence[str], processes: int) -> tuple[float, float, float]:
    """Seconds; and those of the processor in this process and in its children, which all have ended by then."""
    before, began = os.times(), time.perf_counter()
    with nlp.memory_zone():
        for doc in nlp.pipe(texts, n_process=processes):
            _ = doc.ents
    seconds, after = time.perf_counter() - began, os.times()
    here = after.user + after.system - before.user - before.system
    workers = max(0.0, after.children_user + after.children_system - before.children_user - before.children_system)
    return seconds, here, workers


def time_parts(bundle: Bundle, texts: Sequence[str]) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Time the parts of ``nlp.pipe``, one thread, words and strings met before, and the way of docs between processes.

    Args:
        bundle: The student.
        texts: What is read.

    Returns:
        ``microseconds`` a word of each of `PARTS`; ``nlp_pipe`` and ``tagger``, the same of the whole and of the tagger alone from text to
        entities. And ``pack`` and ``unpack``, microseconds a document ``[as srsly does it, as it is done here]``.
    """
    from spacy.tokens import Doc

    nlp = make_pipeline(bundle, threads=1)
    component, size = _component(nlp), nlp.batch_size
    tagger = component._tagging()
    docs = [*nlp.pipe(texts)]
    words = [[token.text for token in doc] for doc in docs]
    found = component.predict(docs)

    def make_docs() -> list[Doc]:
        return [nlp.make_doc(text) for text in texts]

    seconds = fastest(
        {
            "split": lambda: [split_words(text) for text in texts],
            "made": make_docs,
            "read words": lambda: [[token.text for token in doc] for doc in docs],
            "tag": lambda: [tagger.tag_words(words[at : at + size]) for at in range(0, len(words), size)],
            "made and set": lambda: component.set_annotations(make_docs(), found),
            "whole": lambda: [None for _ in nlp.pipe(texts)],
            "tagger": lambda: [None for _ in tagger.pipe(texts)],
        }
    )
    each = {
        **{name: seconds[name] for name in ("split", "read words", "tag")},
        "make docs": max(0.0, seconds["made"] - seconds["split"]),
        "set entities": max(0.0, seconds["made and set"] - seconds["made"]),
    }
    each["rest"] = max(0.0, seconds["whole"] - sum(each.values()))
    scale = 1e6 / sum(map(len, words))
    parts = {
        "microseconds": {name: round(scale * each[name], 4) for name in PARTS},
        "nlp_pipe": round(scale * seconds["whole"], 4),
        "tagger": round(scale * seconds["tagger"], 4),
    }
    some = docs[:PACKED]
    packed = [doc.to_bytes() for doc in some]
    transport = {"pack": lambda: [doc.to_bytes() for doc in some], "unpack": lambda: [Doc(nlp.vocab).from_bytes(raw) for raw in packed]}
    with _searching():
        searched = fastest(transport)
    remembered = fastest(transport)
    return parts, {name: [round(1e6 * way[name] / len(some), 2) for way in (searched, remembered)] for name in transport}


@contextmanager
def _searching() -> Iterator[None]:
    """Let srsly search for its codecs, as it does where `nerdistill.pipeline.transport` was not at work."""
    import srsly

    from nerdistill.pipeline.transport import RememberingRegistry, remember_codecs

    for registry in (srsly.msgpack_encoders, srsly.msgpack_decoders):
        registry.__class__ = RememberingRegistry.__base__
    try:
        yield
    finally:
        remember_codecs()


def growth(curve: Results) -> float | None:
    """Bytes that a document left behind in the second half of a curve; None of fewer than four moments."""
    documents, held = curve["documents"], curve["bytes"]
    half = len(documents) // 2
    return (held[-1] - held[half]) / (documents[-1] - documents[half]) if len(documents) > 3 else None


def pipe_tables(results: Results, part: str = "") -> str:
    """The results as Markdown.

    Args:
        results: What `measure_pipe` gave.
        part: ``memory``, ``processes``, ``parts`` or ``transport``; empty for all of them, an empty line between two.
    """
    tables = {
        "memory": _memory_table(results),
        "processes": _processes_table(results),
        "parts": _parts_table(results),
        "transport": _transport_table(results),
    }
    return tables[part] if part else "\n".join(tables.values())


def _memory_table(results: Results) -> str:
    heads = [
        "",
        "documents",
        "at the start",
        "halfway",
        "at the end",
        "a document leaves (bytes)",
        "strings of spaCy",
        "words of the tagger",
    ]
    lines = []
    for name, curve in results["memory"].items():
        held, left = curve["bytes"], growth(curve)
        sizes = [size_text(held[at]) for at in (0, len(held) // 2, -1)]
        counts = [compact(curve["held"][key]) for key in ("strings", "words")]
        lines.append([name, f"{curve['documents'][-1]:,}", *sizes, MISSING if left is None else f"{left:,.0f}", *counts])
    return markdown(heads, lines)


def _processes_table(results: Results) -> str:
    heads = ["", "documents/s", "words/s", "quartiles", "times", "here (µs a word)", "in workers (µs a word)"]
    lines = [
        [
            str(row["system"]),
            compact(row["documents_per_second"]["median"]),
            compact(row["words_per_second"]),
            " to ".join(map(compact, row["words_per_second_quartiles"])),
            factor(row["times"]),
            f"{row['microseconds_here']:.2f}",
            f"{row['microseconds_in_workers']:.2f}",
        ]
        for row in results["rows"]
    ]
    return markdown(heads, lines)


def _parts_table(results: Results) -> str:
    parts = results["parts"]
    line = [f"{parts['microseconds'][name]:.2f}" for name in PARTS]
    heads = ["", *PARTS, "nlp.pipe", "tagger alone", "its share (%)"]
    share = parts["tagger"] / parts["nlp_pipe"]
    return markdown(heads, [["µs a word", *line, f"{parts['nlp_pipe']:.2f}", f"{parts['tagger']:.2f}", percent(share)]])


def _transport_table(results: Results) -> str:
    ways: Iterable[tuple[str, int]] = (("codecs searched for every message", 0), ("remembered", 1))
    transport = results["transport"]
    lines = [[name, *(f"{transport[key][at]:.0f}" for key in ("pack", "unpack"))] for name, at in ways]
    return markdown(["µs a document", "pack, in the worker", "unpack, here"], lines)

"""Models side by side on the same texts in one run: speed, latency, memory, size and F1.

Every contestant has a process of its own (`nerdistill.steps.benchmark_worker`). Within each repeat they are timed in turn, one at a time,
so that a busy moment of the machine meets them all.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerdistill.corpus.labelmap import LabelMap
from nerdistill.errors import ConfigError, DataError
from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.scores import score
from nerdistill.evaluation.speed import mixed
from nerdistill.evaluation.spread import latency, spread
from nerdistill.records import Sentence
from nerdistill.runtime.session import cores
from nerdistill.steps import benchmark_worker as worker
from nerdistill.steps.benchmark_config import AnyContestant, Benchmark, BundleContestant, MbertContestant, TeacherContestant, read_text
from nerdistill.steps.benchmark_worker import Process
from nerdistill.steps.contestants import Words, public_name
from nerdistill.training.processes import only_one
from nerdistill.training.runlog import RunLog

DOCUMENTS = 100
"""Different single documents of each length, at most."""

PACKAGES = ("nerdistill", "numpy", "onnxruntime", "tokenizers", "spacy", "thinc", "torch", "transformers")

Row = dict[str, Any]


@dataclass(frozen=True)
class _Timing:
    """One kind of timing: of a contestant on a text, by texts handed over at a time, or by words of single documents."""

    contestant: str
    text: str
    size: int | None = None
    length: int | None = None


def run_benchmark(benchmark: Benchmark, folder: Path, command: str, log: RunLog) -> dict[str, Any]:
    """Measure every contestant on every text that it reads.

    Args:
        benchmark: What to measure.
        folder: For what is made of teachers; kept for the next time.
        command: How it was called, for the results.
        log: Where to tell.

    Returns:
        A results object. A row is a contestant on a text: ``system``, ``text``, ``kind``, ``takes``, ``description``, ``parameters``,
        ``bytes``, ``peak_memory`` (bytes), ``words_per_second`` (median) with ``words_per_second_quartiles``, ``by_threads`` and
        ``by_batch`` (the same by threads and by texts at a time), ``words_per_second_new_words``, ``latency_ms`` by words a document,
        ``latency_ms_p50`` of the shortest, and F1 but for random weights. ``floor`` holds what `measure_floor` says of every bundle.

    Raises:
        ConfigError: A contestant cannot be opened, finds types that are not mapped, or no thread count fits this machine.
        DataError: A text cannot be read.
        NerdistillError: A contestant's process was ended.
    """
    only_one("a benchmark")
    threads = [count for count in benchmark.threads if count <= cores()]
    if not threads:
        raise ConfigError(f"threads = {list(benchmark.threads)}, but this process may use {cores()} cores; set fewer")
    log.say("reading texts")
    texts = {name: mixed(read_text(benchmark, text), 1) for name, text in benchmark.texts.items()}
    ready = _made_ready(benchmark, texts, folder, log)
    floors = _floors(benchmark, texts, log)
    rows: dict[tuple[str, str], Row] = {}
    for count in threads:
        with _opened(benchmark, ready, texts, count, log) as (processes, facts):
            if count == threads[0]:
                rows = _first_rows(benchmark, facts)
                _measure_all(benchmark, processes, texts, rows, log)
            log.say(f"words per second with {count} thread{'s' * (count > 1)}")
            jobs = [_Timing(contestant, text) for contestant, text in rows]
            for job, values in _rates(benchmark, processes, jobs, log).items():
                rows[job.contestant, job.text].setdefault("by_threads", {})[str(count)] = spread(values)
    for row in rows.values():
        middle = row["by_threads"][str(threads[0])]
        row |= {"words_per_second": middle["median"], "words_per_second_quartiles": middle["quartiles"]}
    data = {
        "types": list(benchmark.types),
        "texts": {
            name: {
                "languages": list(benchmark.texts[name].languages),
                "sentences": len(part),
                "words": sum(len(sentence.words) for sentence in part),
            }
            for name, part in texts.items()
        },
    }
    results = results_frame(benchmark.name, command, threads[0], data, list(rows.values()))
    results |= {"kind": "benchmark", "repeats": benchmark.repeats, "versions": versions(), "floor": floors}
    return results


def versions() -> dict[str, str]:
    """Versions of what the speed depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def documents(sentences: Sequence[Sentence], length: int) -> list[Words]:
    """Documents of exactly so many words, each of the sentences of one language, the languages in turn.

    A language with fewer words repeats them.
    """
    by_language: dict[str, list[str]] = {}
    for sentence in sentences:
        by_language.setdefault(sentence.language, []).extend(sentence.words)
    made = []
    for words in by_language.values():
        enough = words * -(-length // len(words))
        made.append([tuple(enough[at : at + length]) for at in range(0, len(enough) - length + 1, length)])
    turned = [document for at in range(max(map(len, made))) for part in made for document in part[at : at + 1]]
    return turned[:DOCUMENTS]


def _made_ready(benchmark: Benchmark, texts: Mapping[str, Sequence[Sentence]], folder: Path, log: RunLog) -> dict[str, AnyContestant]:
    """The contestants as they will be opened; what needs torch is done in processes that end before anything is measured."""
    every = [sentence for part in texts.values() for sentence in part]
    ready: dict[str, AnyContestant] = dict(benchmark.contestants)
    for name, settings in benchmark.contestants.items():
        if isinstance(settings, TeacherContestant | MbertContestant):
            log.say(f"making {name} ready")
            with Process(name, cores()) as process:
                ready[name] = process(worker.make_ready_here, settings, benchmark.types, every, folder)
    return ready


@contextmanager
def _opened(
    benchmark: Benchmark, ready: Mapping[str, AnyContestant], texts: Mapping[str, Sequence[Sentence]], threads: int, log: RunLog
) -> Iterator[tuple[dict[str, Process], dict[str, dict[str, Any]]]]:
    """A process for each contestant, with the texts that it reads, and what each says of itself; all end with the block."""
    with ExitStack() as stack:
        processes = {name: stack.enter_context(Process(name, threads)) for name in ready}
        facts = {}
        for name, settings in ready.items():
            log.show(f"  opening {name}")
            facts[name] = processes[name](worker.open_here, settings, threads)
            _check_types(name, benchmark, facts[name]["types"])
        words = {name: [sentence.words for sentence in part] for name, part in texts.items()}
        singles = {name: {length: documents(part, length) for length in benchmark.lengths} for name, part in texts.items()}
        for name, process in processes.items():
            reads = [text for text in texts if benchmark.reads(name, text)]
            process(worker.take_texts, {text: words[text] for text in reads}, {text: singles[text] for text in reads})
        yield processes, facts


def _check_types(name: str, benchmark: Benchmark, types: Sequence[str]) -> None:
    """Refuse a contestant that finds types of which the benchmark does not know what they mean, before anything is measured."""
    settings = benchmark.contestants[name]
    everything = Sentence(tuple(types), tuple(f"B-{kind}" for kind in types), origin=f"contestant '{name}'")
    try:
        LabelMap(benchmark.types, settings.label_map).apply(everything)
    except DataError as error:
        raise ConfigError(str(error).replace("of this source", f"[contestants.{name}.label_map]")) from error


def _first_rows(benchmark: Benchmark, facts: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Row]:
    """The rows with what needs no measurement, by contestant and text."""
    rows: dict[tuple[str, str], Row] = {}
    for name, settings in benchmark.contestants.items():
        about = {key: value for key, value in facts[name].items() if key != "types"}
        for text in benchmark.texts:
            if benchmark.reads(name, text):
                rows[name, text] = {"system": name, "text": text, "kind": settings.kind, **about, "description": _describe(settings, about)}
    return rows


def _describe(settings: AnyContestant, about: Mapping[str, Any]) -> str:
    """What a contestant is, in words; what a teacher runs in is known only here, where a network in a bundle is still a teacher."""
    if not isinstance(settings, TeacherContestant | MbertContestant):
        return str(about["description"])
    what = public_name(settings.model) if isinstance(settings, TeacherContestant) else "multilingual BERT's shape, random weights"
    return f"{what}, {settings.engine}{' ' + about['precision'] if settings.engine == 'torch' else ''}"


def _measure_all(
    benchmark: Benchmark,
    processes: Mapping[str, Process],
    texts: Mapping[str, Sequence[Sentence]],
    rows: Mapping[tuple[str, str], Row],
    log: RunLog,
) -> None:
    """Everything that is measured with one number of threads; memory before scoring, which holds more than tagging a stream does."""
    log.say("words per second by texts at a time")
    jobs = [_Timing(name, text, size=size) for size in benchmark.batches for name, text in rows]
    for job, values in _rates(benchmark, processes, jobs, log).items():
        rows[job.contestant, job.text].setdefault("by_batch", {})[str(job.size)] = spread(values)
    log.say("latency of single documents")
    singles = [_Timing(name, text, length=length) for length in benchmark.lengths for name, text in rows]
    for job, repeats in _latencies(benchmark, processes, singles, log).items():
        rows[job.contestant, job.text].setdefault("latency_ms", {})[str(job.length)] = latency(repeats)
    for (name, _), row in rows.items():
        row["latency_ms_p50"] = row["latency_ms"][str(min(benchmark.lengths))]["p50"]
        row["peak_memory"] = processes[name](worker.peak_memory)
    log.say("F1")
    for (name, text), row in rows.items():
        if row["kind"] != "mbert":
            log.show(f"  {name} tags {text}")
            row |= _scores(benchmark, name, texts[text], processes[name](worker.tag, text))
    log.say("words per second where every word is new")
    for (name, text), row in rows.items():
        if row["kind"] in ("bundle", "spacy"):
            part = processes[name](worker.share, text, None, benchmark.seconds)
            row["words_per_second_new_words"] = spread(
                [processes[name](worker.words_per_second_afresh, text, part) for _ in range(benchmark.repeats)]
            )


def _scores(benchmark: Benchmark, name: str, sentences: Sequence[Sentence], found: Sequence[tuple[str, ...]]) -> Row:
    label_map = LabelMap(benchmark.types, benchmark.contestants[name].label_map)
    mapped = [label_map.apply(Sentence(one.words, tags)).tags or () for one, tags in zip(sentences, found, strict=True)]
    return {key: value for key, value in score(sentences, mapped).as_row().items() if key.startswith("f1_")}


def _rates(benchmark: Benchmark, processes: Mapping[str, Process], jobs: Sequence[_Timing], log: RunLog) -> dict[_Timing, list[float]]:
    """Words per second of each job, as often as the benchmark repeats, the jobs in turn."""
    parts = {job: processes[job.contestant](worker.share, job.text, job.size, benchmark.seconds) for job in jobs}
    values: dict[_Timing, list[float]] = {job: [] for job in jobs}
    for number in range(benchmark.repeats):
        for job, part in parts.items():
            log.show(f"  repeat {number + 1} of {benchmark.repeats}: {job.contestant}, {job.text}")
            values[job].append(processes[job.contestant](worker.words_per_second, job.text, job.size, part))
    return values


def _latencies(
    benchmark: Benchmark, processes: Mapping[str, Process], jobs: Sequence[_Timing], log: RunLog
) -> dict[_Timing, list[list[float]]]:
    """Seconds of each single document, by job and repeat, the jobs in turn."""
    lengths = {job: job.length or 0 for job in jobs}
    counts = {job: processes[job.contestant](worker.calls, job.text, lengths[job], benchmark.seconds) for job in jobs}
    values: dict[_Timing, list[list[float]]] = {job: [] for job in jobs}
    for number in range(benchmark.repeats):
        for job, count in counts.items():
            log.show(f"  repeat {number + 1} of {benchmark.repeats}: {job.contestant}, {job.text}, {job.length} words")
            values[job].append(processes[job.contestant](worker.latencies, job.text, lengths[job], count))
    return values


def _floors(benchmark: Benchmark, texts: Mapping[str, Sequence[Sentence]], log: RunLog) -> list[dict[str, Any]]:
    """What each bundle could reach at most, on the first text that it reads, each in a process of its own."""
    found = []
    for name, settings in benchmark.contestants.items():
        if not isinstance(settings, BundleContestant):
            continue
        log.say(f"floor of {name}")
        text = next(text for text in texts if benchmark.reads(name, text))
        words = [sentence.words for sentence in texts[text]]
        with Process(name, threads=1) as process:
            found.append(
                {
                    "system": name,
                    "text": text,
                    **process(worker.measure_floor_here, Path(settings.path), words, settings.variant, settings.backend),
                }
            )
    return found

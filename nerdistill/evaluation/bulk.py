"""Corpus tagging measured: speed against the tagger in memory, memory over time, and whether kills leave a trace.

The corpus is made of given texts, over and over until it has the size asked for; every document gets an id of its own. Then

1. the tagger alone, in one process and in as many as there will be workers, tags texts that are in memory already;
2. ``nerdistill tag`` tags the corpus from file to file, start of processes and joining of parts included, while the resident memory of
   all its processes is read from ``/proc`` (pages that they share count for each of them);
3. ids of input and output are compared, one by one;
4. the same run is killed with SIGKILL at random moments, by turns the whole group of processes, the run alone, and a worker before it;
   each time the same command continues, and the files at the end are compared byte by byte;
5. a sample of the corpus is tagged in every other way that there is, and the entities are compared (`nerdistill.evaluation.agreement`).
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerdistill.errors import DataError
from nerdistill.evaluation.agreement import agreement
from nerdistill.evaluation.machine import results_frame
from nerdistill.evaluation.resident import Memory, family
from nerdistill.evaluation.tables import Results, compact, markdown, number, percent, size_text
from nerdistill.runtime.session import cores
from nerdistill.runtime.tagger import Tagger
from nerdistill.tagging.reading import read
from nerdistill.tagging.shards import find_sources
from nerdistill.tagging.sources import ReadOptions
from nerdistill.text.splitter import split

KILLS = 5
_SAMPLE, _BLOCK = 20_000, 200
"""Documents that are tagged in memory, over and over: from all parts of the corpus, so many neighbours at a time."""
_TURNS = ("group", "run", "worker")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        bundle: Folder of the student.
        folder: For corpus and outputs; room for about six times the corpus.
        workers: Processes.
        seconds: For which each timing in memory goes on, at least.
        shard_size: As `nerdistill tag` takes it; None leaves it to that.
        seed: Of the moments of the kills.
    """

    bundle: Path
    folder: Path
    workers: int
    seconds: float = 20.0
    shard_size: str | None = None
    seed: int = 0

    @property
    def threads(self) -> int:
        """Threads of each process."""
        return max(1, cores() // self.workers)

    @property
    def corpus(self) -> Path:
        """The corpus."""
        return self.folder / "corpus.jsonl"

    @property
    def sample(self) -> Path:
        """Some of it."""
        return self.folder / "sample.jsonl"

    def command(self, out: Path) -> list[str]:
        """The run that is measured."""
        words = [sys.executable, "-m", "nerdistill", "tag", str(self.bundle), str(self.corpus), "-o", str(out), "--json"]
        words += ["--workers", str(self.workers), "--threads", str(self.threads)]
        return words + (["--shard-size", self.shard_size] if self.shard_size else [])


def measure(bench: Bench, texts: Sequence[str], size: int, command: str, say: Say) -> dict[str, Any]:
    """Measure corpus tagging.

    Args:
        bench: What is measured.
        texts: Files or patterns of texts that the corpus is made of.
        size: Bytes that it shall have.
        command: How this was called, for the results.
        say: Is told what is done.

    Returns:
        A results object; beside the usual, ``memory`` (seconds, bytes), ``complete``, ``identical_after_kills`` and ``kills``.

    Raises:
        DataError: There is no text, or the run that is measured failed.
    """
    bench.folder.mkdir(parents=True, exist_ok=True)
    say(f"making a corpus of {size_text(size)}")
    documents = make_corpus(bench.corpus, texts, size)
    take_sample(bench.corpus, documents, bench.sample)
    say("tagging in memory")
    alone, together = (_in_memory(bench, processes) for processes in (1, bench.workers))
    say("tagging from file to file")
    out, memory = bench.folder / "out.jsonl", Memory()
    counts, seconds = _whole_run(bench, out, memory)
    complete = counts["documents"] == documents and _same_ids(bench.corpus, out)
    say(f"killing it {KILLS} times")
    killed = bench.folder / "killed.jsonl"
    kills = _killed_run(bench, killed, seconds)
    identical = _digest(killed) == _digest(out)
    say("tagging a sample in every other way")
    agreed = agreement(bench.bundle, bench.sample, bench.folder)
    corpus_bytes = bench.corpus.stat().st_size
    for path in (bench.corpus, bench.sample, out, killed):
        path.unlink()
    speed = counts["words"] / seconds
    rows: list[dict[str, Any]] = [
        {"system": "in memory, 1 process", "words_per_second": alone},
        {"system": f"in memory, {bench.workers} processes at once", "words_per_second": together},
        {
            "system": f"nerdistill tag, {bench.workers} workers",
            "words_per_second": speed,
            "seconds": seconds,
            "share_of_in_memory": speed / (alone * bench.workers),
            "share_of_in_memory_at_once": speed / together,
            "peak_bytes": max(memory.resident, default=0),
            "core_hours_per_terabyte": seconds * bench.workers * bench.threads / 3600 * 1e12 / corpus_bytes,
        },
    ]
    data = {"corpus_bytes": corpus_bytes, "documents": documents, "words": counts["words"], "entities": counts["entities"]}
    frame = results_frame("corpus tagging", command, bench.threads * bench.workers, data, rows)
    return {
        **frame,
        "workers": bench.workers,
        "memory": memory.thinned(),
        "complete": complete,
        "kills": kills,
        "identical_after_kills": identical,
        "agreement": agreed,
    }


def make_corpus(path: Path, texts: Sequence[str], size: int) -> int:
    """Write documents, each with an id, until there are enough.

    Returns:
        How many.

    Raises:
        DataError: There is no text.
    """
    written = documents = 0
    with path.open("wb") as file:
        for text in _forever(texts):
            line = json.dumps({"id": f"d{documents:09}", "text": text}, ensure_ascii=False).encode() + b"\n"
            file.write(line)
            written, documents = written + len(line), documents + 1
            if written >= size:
                break
    if not documents:
        raise DataError(f"{' '.join(texts)}: no text in it")
    return documents


def take_sample(corpus: Path, documents: int, path: Path) -> None:
    """Write about `_SAMPLE` of a corpus's documents, or all if it has fewer: blocks of neighbours, chosen at random.

    Even distances might always meet the same part of a text that stands in the corpus again and again.
    """
    chance = random.Random(0)
    blocks = [chance.random() * documents < _SAMPLE for _ in range(documents // _BLOCK + 1)]
    with corpus.open("rb") as lines, path.open("wb") as file:
        file.writelines(line for at, line in enumerate(lines) if blocks[at // _BLOCK])


def _forever(names: Sequence[str]) -> Iterator[str]:
    """All texts that are not blank, over and over; nothing if there are none."""
    sources = find_sources(names, None)
    found = True
    while found:
        found = False
        for source in sources:
            for batch in read(source, ReadOptions()):
                for text in batch.texts:
                    if text.strip():
                        found = True
                        yield text


def _in_memory(bench: Bench, processes: int) -> float:
    """Words a second of that many processes in all, each with the tagger and its own texts in memory."""
    context = multiprocessing.get_context("spawn")
    barrier, speeds = context.Barrier(processes), context.SimpleQueue()
    started = [context.Process(target=_tag_in_memory, args=(bench, at, barrier, speeds)) for at in range(processes)]
    for process in started:
        process.start()
    total = sum(speeds.get() for _ in started)
    for process in started:
        process.join()
    return float(total)


def _tag_in_memory(bench: Bench, number: int, barrier: Any, speeds: Any) -> None:
    """Tag for a while and tell how many words a second that were."""
    texts = [json.loads(line)["text"] for line in bench.sample.read_text(encoding="utf-8").splitlines()]
    texts = texts[number * 1000 % len(texts) :] + texts[: number * 1000 % len(texts)]
    words = sum(len(split(text)) for text in texts)
    tagger = Tagger.load(bench.bundle, threads=bench.threads)
    list(tagger.pipe(texts[:1000]))
    barrier.wait()
    rounds, began = 0, time.perf_counter()
    while not rounds or time.perf_counter() - began < bench.seconds:
        for _ in tagger.pipe(texts):
            pass
        rounds += 1
    speeds.put(rounds * words / (time.perf_counter() - began))


def _whole_run(bench: Bench, out: Path, memory: Memory) -> tuple[dict[str, Any], float]:
    """One run without any disturbance: its counts and its seconds."""
    began = time.perf_counter()
    process = subprocess.Popen([*bench.command(out), "--force", "--quiet"], stdout=subprocess.PIPE)
    watcher = threading.Thread(target=memory.watch, args=(process,))
    watcher.start()
    said, _ = process.communicate()
    seconds = time.perf_counter() - began
    watcher.join()
    if process.returncode:
        raise DataError(f"{bench.corpus}: nerdistill tag ended with exit code {process.returncode}; see what it said")
    counts: dict[str, Any] = json.loads(said)
    return counts, seconds


def _killed_run(bench: Bench, out: Path, seconds: float) -> list[dict[str, Any]]:
    """A run that is killed time after time and then left to end: what was killed when."""
    chance = random.Random(bench.seed)
    kills: list[dict[str, Any]] = []
    force = ["--force"]
    for turn in range(KILLS):
        process = subprocess.Popen(
            [*bench.command(out), *force, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        force = []
        after = chance.uniform(0.05, 1.0) * max(seconds / (KILLS + 1), 3.0)
        kind = _TURNS[turn % len(_TURNS)]
        time.sleep(after / 2)
        if kind == "worker":
            _kill(family(process.pid)[1:][-1:])
        time.sleep(after / 2)
        ended = process.poll()
        if kind == "group":
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        kills.append({"what": kind, "after_seconds": round(after, 2), "had_ended": ended is not None})
        if ended is not None:
            if ended:
                raise DataError(f"{bench.corpus}: nerdistill tag ended with exit code {ended} while it was to be killed")
            return kills
    subprocess.run([*bench.command(out), *force, "--quiet"], stdout=subprocess.DEVNULL, check=True)
    return kills


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _same_ids(corpus: Path, out: Path) -> bool:
    """Whether each document of one file is the same place of the other, and none is left."""
    with corpus.open("rb") as before, out.open("rb") as after:
        return all(json.loads(one)["id"] == json.loads(other)["id"] for one, other in zip(before, after, strict=True))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bulk_table(results: Results) -> str:
    """The results as Markdown."""
    lines = [
        [
            str(row["system"]),
            compact(row.get("words_per_second")),
            percent(row.get("share_of_in_memory")),
            percent(row.get("share_of_in_memory_at_once")),
            size_text(row.get("peak_bytes")),
        ]
        for row in results["rows"]
    ]
    heads = ["", "words/s", "of in memory × workers (%)", "of in memory at once (%)", "peak memory"]
    agreed = results.get("agreement") or {}
    checks = {
        "every id once, in its order": results.get("complete"),
        f"the same bytes after {len(results.get('kills') or [])} kills": results.get("identical_after_kills"),
        "the same entities from `nlp.pipe`": agreed.get("nlp.pipe"),
        "the same entities from Ray's actors": agreed.get("ray"),
    }
    verdicts = [[what, {True: "yes", False: "no"}[said]] for what, said in checks.items() if isinstance(said, bool)]
    hours = number(results["rows"][-1].get("core_hours_per_terabyte"))
    if hours is not None:
        verdicts.append(["core hours for a terabyte, at this rate", f"{hours:,.0f}"])
    return markdown(heads, lines) + "\n" + markdown(["checked", ""], verdicts)


def seconds_and_bytes(results: Results) -> list[tuple[float, float]]:
    """The curve of memory in a results object."""
    memory = results.get("memory") or {}
    pairs = zip(memory.get("seconds") or [], memory.get("bytes") or [], strict=True)
    return [(float(at), float(held)) for at, held in pairs if number(at) is not None and number(held) is not None]

"""One contestant in a process of its own: memory and threads are then its own, and no other one's libraries slow it down.

The functions here run in that process, called through `Process`. Times are taken inside, so handing over jobs and results is in none.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from nerdistill.errors import ConfigError, MissingExtraError, NerdistillError

if TYPE_CHECKING:
    from nerdistill.records import Sentence
    from nerdistill.runtime.backends import Backend
    from nerdistill.runtime.bundle import Variant
    from nerdistill.steps.benchmark_config import AnyContestant
    from nerdistill.steps.contestants import Contestant, Tags, Words

P = ParamSpec("P")
T = TypeVar("T")

WARM_UP = 32
"""Texts read before a timing counts, and to tell how long one takes."""

LEAST_CALLS, MOST_CALLS = 4, 200
"""Of single documents in one timing: below the least there is no median, and above the most nothing is learnt."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Share:
    """As much of a text as one timing takes.

    Attributes:
        texts: The first so many.
        passes: Read so often.
    """

    texts: int
    passes: int


@dataclass
class _Open:
    settings: AnyContestant
    threads: int
    contestant: Contestant
    bytes_before: int
    text_bytes: int = 0
    words: dict[str, list[Words]] = field(default_factory=dict)
    texts: dict[str, list[Any]] = field(default_factory=dict)
    documents: dict[str, dict[int, list[Any]]] = field(default_factory=dict)


_HERE: list[_Open] = []
"""What this process has open: one contestant."""


class Process:
    """A process that runs functions of this module, one after the other.

    Args:
        name: Of its contestant, for messages.
        threads: Every library that it loads is held to so many.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _limit_threads, (threads,))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function there and wait for its result.

        Raises:
            NerdistillError: The process ended by itself; or whatever the function raises.
        """
        try:
            return self._pool.submit(job, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise NerdistillError(
                f"contestant '{self.name}': its process was ended from outside, most likely for want of memory; take less text or fewer "
                "contestants (--only)"
            ) from error
        except NerdistillError as error:
            raise type(error)(f"contestant '{self.name}': {error}") from error


def _limit_threads(threads: int) -> None:
    """Runs before anything else is loaded: most libraries look at these only then."""
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))


def make_ready_here(settings: AnyContestant, types: Sequence[str], text: Sequence[Sentence], folder: Path) -> AnyContestant:
    """`nerdistill.steps.teacher_networks.make_ready`, in this process."""
    with _installed():
        from nerdistill.steps.teacher_networks import make_ready

        return make_ready(settings, types, text, folder)


def open_here(settings: AnyContestant, threads: int) -> dict[str, Any]:
    """Open a contestant in this process.

    Args:
        settings: The contestant.
        threads: Of its networks.

    Returns:
        Its facts, with ``takes`` and ``types``.
    """
    with _installed():
        from nerdistill.steps.contestants import open_contestant

        contestant = open_contestant(settings, threads)
    _HERE[:] = [_Open(settings, threads, contestant, _status("VmRSS"))]
    return {**contestant.facts, "takes": contestant.takes, "types": contestant.types}


def measure_floor_here(path: Path, sentences: Sequence[Words], variant: Variant | None, backend: Backend = "onnxruntime") -> dict[str, Any]:
    """`nerdistill.evaluation.floor.measure_floor`, in this process."""
    with _installed():
        from nerdistill.evaluation.floor import measure_floor

        return measure_floor(path, sentences, variant, backend)


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except MissingExtraError as error:
        raise ConfigError(str(error)) from error  # an error with arguments of its own does not survive the way between processes
    except ModuleNotFoundError as error:
        raise ConfigError(f"the module '{error.name}' is not installed: pip install 'nerdistill[train]'") from error


def take_texts(words: Mapping[str, Sequence[Words]], documents: Mapping[str, Mapping[int, Sequence[Words]]]) -> None:
    """Give the contestant what it will read, as words or joined by spaces.

    Args:
        words: Sentences of each text.
        documents: Documents of each text by their length in words.
    """
    here = _HERE[0]
    form: Callable[[Words], Any] = " ".join if here.contestant.takes == "text" else tuple
    here.words = {name: list(part) for name, part in words.items()}
    here.texts = {name: list(map(form, part)) for name, part in words.items()}
    here.documents = {name: {length: list(map(form, part)) for length, part in parts.items()} for name, parts in documents.items()}
    here.text_bytes = max(0, _status("VmRSS") - here.bytes_before)
    gc.freeze()  # or the collector would look through all of this again and again while a contestant reads


def tag(text: str) -> list[Tags]:
    """The tags of all sentences of a text, from its words."""
    here = _HERE[0]
    return here.contestant.tags(here.words[text])


def share(text: str, size: int | None, seconds: float) -> Share:
    """Warm up, and say how much of a text takes about so long when it is read `size` texts at a time."""
    here = _HERE[0]
    probe = here.texts[text][:WARM_UP]
    here.contestant.read(probe, size)
    each = max(_seconds(lambda: here.contestant.read(probe, size)) / len(probe), 1e-9)
    texts = min(max(len(probe), int(seconds / each)), len(here.texts[text]))
    return Share(texts, max(1, round(seconds / (each * texts))))


def words_per_second(text: str, size: int | None, part: Share) -> float:
    """Read a share of a text; words are those of the text, however the contestant splits it."""
    here = _HERE[0]
    chosen = here.texts[text][: part.texts]
    words = sum(map(len, here.words[text][: part.texts])) * part.passes

    def read() -> None:
        for _ in range(part.passes):
            here.contestant.read(chosen, size)

    return words / _seconds(read)


def words_per_second_afresh(text: str, part: Share) -> float:
    """The same through a contestant that is opened anew, to which all words but those of the warm-up are new; opening is not timed."""
    from nerdistill.steps.contestants import open_contestant

    here = _HERE[0]
    fresh = open_contestant(here.settings, here.threads)
    fresh.read(here.texts[text][:WARM_UP], None)
    chosen = here.texts[text][: part.texts]
    return sum(map(len, here.words[text][: part.texts])) / _seconds(lambda: fresh.read(chosen, None))


def calls(text: str, length: int, seconds: float) -> int:
    """Warm up, and say how many documents of so many words can be read one by one in about that time."""
    here = _HERE[0]
    document = here.documents[text][length][0]
    here.contestant.read_one(document)
    each = max(_seconds(lambda: here.contestant.read_one(document)), 1e-9)
    return min(max(LEAST_CALLS, int(seconds / each)), MOST_CALLS)


def latencies(text: str, length: int, count: int) -> list[float]:
    """Seconds of each of so many single documents."""
    here = _HERE[0]
    documents = here.documents[text][length]
    return [_seconds(lambda at=at: here.contestant.read_one(documents[at % len(documents)])) for at in range(count)]  # type: ignore[misc]


def peak_memory() -> int | None:
    """Bytes of memory that this process held at most, less its copy of the texts; None where the system does not say."""
    peak = _status("VmHWM")
    return peak - _HERE[0].text_bytes if peak else None


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def _status(key: str) -> int:
    """A line of Linux's own account of this process, in bytes; 0 elsewhere.

    The count of `getrusage` is not it: a process begins with its parent's.
    """
    path = Path("/proc/self/status")
    lines = path.read_text(encoding="ascii", errors="replace").splitlines() if path.is_file() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)

"""A run in progress: its configuration, folder, log and data, shared by the steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from nerdistill import __version__
from nerdistill.config import RunConfig
from nerdistill.corpus.language_id import as_tsv
from nerdistill.files import exclusive, finished, write_atomic, write_json
from nerdistill.fingerprint import fingerprint, fingerprint_sentences
from nerdistill.steps.prepare import RunData, prepare
from nerdistill.students.vocabulary import weigh
from nerdistill.teachers.huggingface import resolve
from nerdistill.training.processes import is_main, of_main, start
from nerdistill.training.runlog import RunLog

STEP_VERSIONS = {"teach": 1, "annotate": 1, "distill": 3}
"""Part of every fingerprint; counts up when a step comes to do something else with the same input.

So too when a default changes: what is set as by default is left out of fingerprints, so that a setting which is new in the program leaves
finished work valid. A test holds the defaults to these numbers.
"""


class Context:
    """A run, as one of its processes sees it.

    Where a launcher started several, all of them go through the same steps and train together. What is not training the main process does
    alone: it takes the locks, writes the files and tells how it goes, and the others wait and find the work done.

    Args:
        config: What to do.
        folder: Where; made if it is not there.
        quiet: Show no progress.
        command: How it was called, for the results.
        cpu: Stay off any accelerator.
        data: What `prepare` gives for this configuration, if it was read already.

    Raises:
        ConfigError: The processes that were started do not fit together.
    """

    def __init__(
        self, config: RunConfig, folder: Path, quiet: bool = False, command: str = "", cpu: bool = False, data: RunData | None = None
    ) -> None:
        self.config = config
        self.folder = folder
        self.command = command
        self.accelerator = start(cpu)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = RunLog(folder / "metrics.jsonl" if self.main else None, quiet or not self.main)
        self._read = data
        if self.main:
            write_json(folder / "config.json", {"nerdistill": __version__, **config.model_dump(mode="json")})
        if self.processes > 1:
            self.log.say(f"{self.processes} processes learn together")
            # A bundled backbone is unpacked at first use: by one process, and where machines share no cache, by one on each.
            with self.accelerator.main_process_first(), self.accelerator.local_main_process_first():
                for model in (config.teacher.model, config.data.replace.model, config.student.embeddings_from):
                    resolve(model)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def processes(self) -> int:
        """How many learn together."""
        return int(self.accelerator.num_processes)

    def wait(self) -> None:
        """Go on when all processes are here, as after the main one has written what all will read."""
        self.accelerator.wait_for_everyone()

    @cached_property
    def data(self) -> RunData:
        """All text that may be learnt from, read once."""
        if self._read is not None:
            return self._read
        self.log.say("reading data")
        data = prepare(self.config)
        counts = data.counts
        self.log.say(
            f"  {len(self.config.data.languages)} languages: {counts['train_sentences']:,} labelled sentences, "
            f"{counts['dev_sentences']:,} for dev, "
            f"{counts['transfer_sentences']:,} unlabelled ({counts['train_dropped_as_held_out']:,} and "
            f"{counts['transfer_dropped_as_repeated_or_held_out']:,} dropped as repeated or held out)"
        )
        self._list_dropped(data)
        return data

    def _list_dropped(self, data: RunData) -> None:
        if not self.main:
            return
        path = self.folder / "dropped.tsv"
        if all(source.language_id == "off" for source in self.config.data.transfer):
            path.unlink(missing_ok=True)  # of a run with other settings
            return
        write_atomic(path, as_tsv(data.dropped))
        pairs = [(number, expected, found) for expected, row in data.dropped_by_language.items() for found, number in row.items()]
        most = ", ".join(f"{expected} as {found} {number:,}" for number, expected, found in sorted(pairs, reverse=True)[:3])
        self.log.say(
            f"  language identification dropped {len(data.dropped):,} unlabelled sentences{f' (most: {most})' if most else ''} and kept "
            f"{data.counts['transfer_too_short_for_language_id']:,} too short to judge; list in {path}"
        )

    @cached_property
    def train_digest(self) -> str:
        """Fingerprint of the labelled text."""
        return fingerprint_sentences(self.data.train)

    @cached_property
    def dev_digest(self) -> str:
        """Fingerprint of the held-out labelled text, which chooses between weights."""
        return fingerprint_sentences(self.data.dev)

    @property
    def labelled_digest(self) -> str:
        """Fingerprint of train and dev."""
        return fingerprint(self.train_digest, self.dev_digest, self.config.data.types)

    @cached_property
    def transfer_digest(self) -> str:
        """Fingerprint of the transfer text."""
        return fingerprint_sentences(self.data.transfer)

    @cached_property
    def words(self) -> dict[str, float]:
        """Words of train and transfer text with their frequencies, languages as they are sampled; a sentence in both counts once."""
        by_language: dict[str, Counter[str]] = {}
        text = dict.fromkeys((sentence.language, sentence.words) for part in (self.data.transfer, self.data.train) for sentence in part)
        for language, words in text:
            by_language.setdefault(language, Counter()).update(words)
        return weigh(by_language, self.config.data.alpha)

    @cached_property
    def words_digest(self) -> str:
        """Fingerprint of `words`."""
        return fingerprint(sorted(self.words.items()))

    def step_folder(self, step: str, identity: str) -> Path:
        """Where a step's result of that fingerprint is."""
        return self.folder / f"{step}-{identity[:8]}"

    def making(self, folder: Path) -> AbstractContextManager[None]:
        """Keep other runs in the same run folder from making the same thing; they wait, and then find it made."""
        return locked(self.folder / "locks" / folder.name, wait=True)

    def is_made(self, folder: Path, identity: str) -> bool:
        """Whether a step's result of that fingerprint is there, as the main process sees it: either all processes make it or none does."""
        return bool(of_main(self.accelerator, finished(folder, identity=identity)))

    def identity(self, step: str, *inputs: Any) -> str:
        """Fingerprint of a step's result."""
        return fingerprint(step, STEP_VERSIONS.get(step, 1), self.config.seed, *inputs)


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep a second process out of a folder. The system lets go of the lock when its holder ends, however it ends.

    Of several processes that learn together, the main one holds it for all.

    Args:
        folder: Made if it is not there.
        wait: Wait for another process to be done with it.

    Raises:
        ConfigError: Another process holds it, and this one is not to wait.
    """
    if not is_main():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "run.lock", "wait for it, or choose another folder with --out", wait):
        yield

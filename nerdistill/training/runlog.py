"""What a run tells while it goes: one JSON event a line on disk, and a live line on stderr."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


class RunLog:
    """Appends events to ``metrics.jsonl`` and shows progress.

    Args:
        path: The file; None keeps nothing.
        quiet: Show nothing.
        run: Name put on every event, such as ``teacher``.
        identity: Fingerprint put on every event, since one file outlives a change of settings.
        title: Put before every lasting line, where several runs tell at a time; passing lines, which would mix, are then left out.
    """

    def __init__(self, path: Path | None, quiet: bool = False, run: str = "", identity: str = "", title: str = "") -> None:
        self.path = path
        self.quiet = quiet
        self.run = run
        self.identity = identity
        self.title = title
        self._shown = 0.0
        self._live = sys.stderr.isatty() and not quiet
        self._width = 0

    def named(self, run: str, identity: str) -> RunLog:
        """The same log under another run's name and fingerprint."""
        return RunLog(self.path, self.quiet, run, identity, self.title)

    def titled(self, title: str) -> RunLog:
        """The same log for one of several runs."""
        return RunLog(self.path, self.quiet, self.run, self.identity, title)

    def event(self, kind: str, **values: Any) -> None:
        """Append one event."""
        if self.path is None:
            return
        line = json.dumps(
            {"event": kind, "run": self.run, "of": self.identity, "time": round(time.time(), 3), **values}, ensure_ascii=False
        )
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def say(self, text: str) -> None:
        """A lasting line on stderr."""
        if not self.quiet:
            self._clear()
            print(f"  {self.title}: {text.lstrip()}" if self.title else text, file=sys.stderr, flush=True)  # noqa: T201

    def show(self, text: str, force: bool = False) -> None:
        """A passing line: redrawn in place on a terminal, every ten seconds elsewhere."""
        now = time.monotonic()
        if self.quiet or self.title or (not force and now - self._shown < (0.2 if self._live else 10.0)):
            return
        self._shown = now
        if self._live:
            self._clear()
            sys.stderr.write(text)
            self._width = len(text)
            sys.stderr.flush()
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def _clear(self) -> None:
        if self._live and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            self._width = 0


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    total = int(seconds + 0.5)
    hours, rest = divmod(total, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"

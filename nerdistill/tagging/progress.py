"""What a run says on stderr while it goes: a line redrawn in place on a terminal, one every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time


class Progress:
    """Speed and time left.

    Args:
        total: Bytes of all inputs.
        done: Bytes that an earlier run has done.
        quiet: Show nothing.
    """

    def __init__(self, total: int, done: int = 0, quiet: bool = False) -> None:
        self.total = total
        self.before = done
        self.quiet = quiet
        self.began = self._shown = time.monotonic()
        self._live = sys.stderr.isatty() and not quiet
        self._width = 0

    def show(self, done: float, documents: int, words: int) -> None:
        """Tell how far it is, if there is something new to tell.

        Args:
            done: Bytes done in all.
            documents: Done by this run.
            words: Done by this run.
        """
        now = time.monotonic()
        if self.quiet or now - self._shown < (0.2 if self._live else 10.0):
            return
        self._shown = now
        self._put(progress_line(self.total, self.before, done, documents, words, now - self.began))

    def _put(self, text: str) -> None:
        if self._live:
            sys.stderr.write("\r" + text.ljust(self._width))
            self._width = len(text)
            sys.stderr.flush()
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def say(self, text: str) -> None:
        """A lasting line."""
        if not self.quiet:
            if self._live and self._width:
                sys.stderr.write("\r" + " " * self._width + "\r")
                self._width = 0
            print(text, file=sys.stderr, flush=True)  # noqa: T201


def progress_line(total: int, before: int, done: float, documents: int, words: int, seconds: float) -> str:
    """Share done, documents and words a second of this run, and the time left at the speed of this run."""
    spent = max(seconds, 1e-3)
    made = done - before
    left = clock((total - done) * spent / made) if made > 0 else "?"
    share = 100 * done / total if total else 100.0
    return f"{share:5.1f} %   {documents / spent:,.0f} documents/s   {words / spent:,.0f} words/s   {left} left"


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

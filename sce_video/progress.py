"""Progress on standard error: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import NoReturn

from tqdm import tqdm

from sce_video.terminal import note as tell
from sce_video.terminal import unread
from sce_video.text import printable

_LINES_EVERY = 15.0  # seconds between plain lines


class Progress:
    """Context that shows how much of ``total`` is done; silent where not ``shown``."""

    def __init__(
        self, total: int, unit: str, *, title: str = "", start: int = 0, shown: bool = True
    ) -> None:
        """``title``: of what; ``start``: done before."""
        self._total, self._unit, self._shown = total, unit, shown
        self._title = f"{title}: " if title else ""
        self._first, self._began = start, time.monotonic()
        self._last, self._told = self._began, -1
        self._bar: tqdm[NoReturn] | None = None
        if shown and sys.stderr is not None and sys.stderr.isatty():
            with unread():  # of a terminal that has gone: nobody is there to read
                desc = printable(title) or None
                self._bar = tqdm(total=total, initial=start, unit=unit, desc=desc)
                # Its own clock is the wall's, which may be set back: then it would stand still.
                self._bar._time = time.monotonic  # type: ignore[attr-defined]
                self._bar.start_t = self._bar.last_print_t = self._began

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            with unread():
                self._bar.close()

    def skip(self, done: int) -> None:
        """``done`` units were finished before: the rate counts from here."""
        self._first, self._began = done, time.monotonic()
        if self._bar is not None:
            self._bar.initial = self._bar.n = done
            self._bar.start_t = self._bar.last_print_t = self._began
            with unread():
                self._bar.refresh()

    def update(self, done: int, note: str = "") -> None:
        """``done`` units are finished; ``note`` says how it goes."""
        if self._bar is not None:
            self._bar.set_postfix_str(printable(note), refresh=False)
            with unread():
                self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        # The last line closes a list of lines; what is over in seconds needs none.
        due = now - self._last >= _LINES_EVERY or (done == self._total and self._told >= 0)
        if self._shown and due and done != self._told:
            self._last, self._told = now, done
            rate = max(done - self._first, 1) / max(now - self._began, 1e-9)
            left = timedelta(seconds=round((self._total - done) / rate))
            pace = f"{rate:,.1f}" if rate >= 10 else f"{rate:.2f}"
            words = [
                f"{self._title}{self._unit} {done:,}/{self._total:,}",
                f"{pace} {self._unit}/s",
                note,
            ]
            tell("  ".join(filter(None, [*words, f"{left} left"])))

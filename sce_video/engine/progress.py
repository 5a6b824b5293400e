"""Progress: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

_LINES_EVERY = 10.0  # seconds between plain lines


class Progress:
    """Shows steps, loss and the time left on standard error; silent where not ``shown``."""

    def __init__(self, start: int, total: int, shown: bool) -> None:
        self._total, self._shown = total, shown
        self._first, self._began, self._last = start, time.monotonic(), 0.0
        terminal = shown and sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=start, unit="step") if terminal else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, step: int, loss: float) -> None:
        """``step`` steps are finished."""
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self._bar.update(step - self._bar.n)
            return
        now = time.monotonic()
        if self._shown and (now - self._last >= _LINES_EVERY or step == self._total):
            self._last = now
            pace = (now - self._began) / max(step - self._first, 1)
            left = pace * (self._total - step)
            print(
                f"step {step}/{self._total}  loss {loss:.3f}  {pace:.2f} s/step  {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

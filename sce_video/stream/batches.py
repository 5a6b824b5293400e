"""Waiting for the batches of worker processes, and the end of these, whatever became of them."""

from __future__ import annotations

import atexit
import multiprocessing.connection
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from sce_video.errors import Interrupted, SceVideoError
from sce_video.stream.watch import LAST, Desk, Place
from sce_video.stream.worker_errors import UNSENT, death_of_worker, error_of_worker, hung_worker

if TYPE_CHECKING:
    from sce_video.stream.loader import ClipBatch

LOOK = 1.0
"""Seconds between looks at the workers, and at whether to go on waiting."""
_GRACE = 5.0  # seconds that workers have to end by themselves


class HangWatch:
    """Kills a worker that is not back from one sample while a batch is waited for.

    A thread looks: who takes a batch reads from the worker that made it, and hangs with it. Looks
    are counted, no clock is read: clocks run on while all of us are stopped, and a worker that goes
    on with us has done no wrong.
    """

    def __init__(self, desk: Desk, workers: Sequence[BaseProcess]) -> None:
        """``desk``: where the ``workers`` say what they do."""
        self.waiting = False  # whether a batch is waited for
        self.hung: Place | None = None  # where a worker was that was killed
        self.done = threading.Event()
        self._desk, self._workers = desk, workers
        # Of each worker: what it did at the last look, and for how many seconds of looks.
        self._seen: list[tuple[Place | None, float]] = [(None, 0.0)] * len(workers)

    def run(self) -> None:
        """Look every now and then, until a worker was killed or all is done."""
        while not self.hung and not self.done.wait(LOOK):
            if self.waiting:
                self.look()

    def look(self) -> None:
        """Look once."""
        for number, worker in enumerate(self._workers):
            place = self._desk.place(number)
            before, seconds = self._seen[number]
            seconds = seconds + LOOK if place == before else 0.0
            self._seen[number] = place, seconds
            if seconds >= LAST and place.text and not place.text.startswith(UNSENT):
                self.hung = place
                worker.kill()  # a stopped one hears this, too
                return


class Batches(Iterator["ClipBatch"]):
    """Batches as they come; at its end, at :meth:`close` or with us the workers are gone."""

    def __init__(self, made: Iterator[ClipBatch], desk: Desk, stopped: Callable[[], bool]) -> None:
        """``made``: DataLoader's iterator, whose workers have started."""
        self._made, self._desk, self._stopped = made, desk, stopped
        self._workers: list[BaseProcess] = getattr(made, "_workers", [])
        self._watch = HangWatch(desk, self._workers)
        self.close = weakref.finalize(self, _end_workers, made, self._workers, self._watch)
        """Ends the workers, those that hang too; nothing of them stays."""
        if self._workers:
            _open.add(self.close)
            threading.Thread(target=self._watch.run, daemon=True).start()

    def __next__(self) -> ClipBatch:
        """The next batch.

        Raises:
            SceVideoError: a worker met an error, was killed, crashed or hung: one line says which.
            Interrupted: the waiting was to end; it may be asked again.
        """
        self._watch.waiting = True
        try:
            return self._next()
        finally:
            self._watch.waiting = False

    def _next(self) -> ClipBatch:
        while True:
            try:
                return next(self._made)
            except StopIteration:
                self.close()
                raise
            except Exception as error:
                if place := self._watch.hung:
                    raise hung_worker(place) from error
                if not str(error).startswith("DataLoader timed out"):
                    self._tell(error)
                    raise
            if self._stopped():
                raise Interrupted("stopped while clips were waited for")
            thread = getattr(self._made, "_pin_memory_thread", None)
            if thread and not thread.is_alive():
                raise SceVideoError(
                    "the thread that pins memory has ended; go on from a checkpoint"
                )

    def _tell(self, error: Exception) -> None:
        """Raise what an error means that came of a worker; of this process it stays as it is."""
        if told := error_of_worker(error):
            raise told from error
        if not self._workers or isinstance(error, SceVideoError):
            return
        multiprocessing.connection.wait([w.sentinel for w in self._workers], LOOK)
        for number, worker in enumerate(self._workers):
            if worker.exitcode:
                raise death_of_worker(worker.exitcode, self._desk.place(number)) from error


def _end_workers(made: Any, workers: Sequence[BaseProcess], watch: HangWatch) -> None:
    """End DataLoader's workers before it does: SIGTERM is all that it has, and they ignore it."""
    watch.done.set()
    _open.difference_update([end for end in _open if not end.alive])
    if not workers:
        return
    if not made._shutdown:
        made._workers_done_event.set()
        for queue in made._index_queues:
            queue.put(None)
        until = time.monotonic() + _GRACE
        for worker in workers:
            worker.join(max(0, until - time.monotonic()))
    for worker in workers:
        worker.kill()
        worker.join(_GRACE)
    made._shutdown_workers()


_open: set[weakref.finalize[..., Any]] = set()


@atexit.register
def _close_all() -> None:
    """Before Python's own exit, which waits for workers that it ends by SIGTERM."""
    for end in list(_open):
        end()

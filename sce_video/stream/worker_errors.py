"""What ended a worker, in one line: an error that it met, a signal, or the time."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress

from sce_video.errors import SceVideoError
from sce_video.stream.watch import LAST, Place

UNSENT = "cannot send a batch: "
"""How a worker's last words begin that could not send what it made."""
_CAUGHT = re.compile(r"Caught (\w+) (.*?)\.\nOriginal ", re.DOTALL)
_FRAME = re.compile(r'^  File "(.*)", line (\d+)', re.MULTILINE)
_LESS = "lower data.workers or train.batch_size"
_SHARED = "/dev/shm"  # noqa: S108
_SHOWN = 300  # characters of another library's words


def error_of_worker(error: Exception) -> SceVideoError | None:
    """An error that a worker met, which DataLoader raises with its traceback as its text.

    Returns:
        One of ours as it was, any other with its type and place; None = this came of no worker.
    """
    text = str(error.args[0]) if error.args else ""  # as it came, in its lines
    if (caught := _CAUGHT.match(text)) is None:
        return None
    kind = caught[1]
    lines = re.findall(rf"^(?:[\w.]+\.)?{kind}(?:: (.*))?$", text, re.MULTILINE)
    said = lines[-1] if lines else ""
    if isinstance(error, SceVideoError):
        return type(error)(said)
    if kind == "MemoryError":
        return SceVideoError(f"a process that makes clips has no memory left: {_LESS}")
    frames = _FRAME.findall(text)
    path, line = frames[-1] if frames else ("?", "?")
    where = "/".join(path.split("/")[-2:])
    return SceVideoError(
        f"a process that makes clips met {kind}: {said[:_SHOWN]} ({where}:{line}); -v shows all"
    )


def death_of_worker(code: int, place: Place) -> SceVideoError:
    """Why a worker has gone.

    Args:
        code: its exit code, negative for a signal.
        place: what it did.
    """
    who, at = "a process that makes clips", f" at {place.text}" if place.text else ""
    if place.text.startswith(UNSENT):
        said = place.text.removeprefix(UNSENT)
        full = "No space left" in said or "Cannot allocate" in said
        return SceVideoError(f"{who} could not send them: {_shared() if full else said}")
    if code > 0:
        return SceVideoError(f"{who} ended by itself with code {code}{at}: see what it says above")
    name = signal.Signals(-code).name
    if -code == signal.SIGBUS:
        return SceVideoError(f"{who} ended by {name}{at}: {_shared()}")
    if -code in (signal.SIGKILL, signal.SIGTERM):
        return SceVideoError(f"{who} was killed ({name}), by the system if memory ran out: {_LESS}")
    return SceVideoError(
        f"{who} crashed ({name}){at}: a fault of a decoder; take the sample out of the set, or try "
        "data.decode=pyav"
    )


def hung_worker(place: Place) -> SceVideoError:
    """That a worker did not come back from a sample: ``place``, where it is."""
    return SceVideoError(
        f"{place.text}: took longer than {LAST:g} s, and its decoder could not be interrupted; "
        "take it out of the set"
    )


def _shared() -> str:
    """That the memory which processes share is full, and how large it is."""
    size = ""
    with suppress(OSError):
        found = os.statvfs(_SHARED)
        size = f" ({found.f_blocks * found.f_frsize / 2**20:,.0f} MiB)"
    return f"{_SHARED}{size} is full; mount it larger (docker run --shm-size), or {_LESS}"

"""Other processes of this machine, by what Linux tells of them in ``/proc``."""

from __future__ import annotations

from pathlib import Path

PARENT, STARTED = 4, 22
"""Columns of :func:`stat`: process id of the parent; start in clock ticks since boot."""


def stat(process: int, column: int) -> int | None:
    """A number of ``/proc/PID/stat``, counted from 1 as in proc(5); None where it has gone."""
    words = _stat_words(process)
    return int(words[column - 3]) if words else None


def lives(process: int, started: int) -> bool:
    """Whether a process that started then is still there; one that only waits to be reaped is not.

    Args:
        process: its id, which another may have by now.
        started: in clock ticks since boot.
    """
    words = _stat_words(process)
    return bool(words) and words[0] not in "ZX" and int(words[STARTED - 3]) == started


def command(process: int | None) -> list[str]:
    """The words of a process's command line; ``[""]`` where it has gone."""
    return read(f"{process}/cmdline").split("\0")


def read(name: str) -> str:
    """The text of a file below ``/proc``; empty where there is none."""
    try:
        return Path("/proc", name).read_text()
    except OSError:  # its process has gone, or this is no Linux
        return ""


def _stat_words(process: int) -> list[str]:
    """The words of ``/proc/PID/stat`` from the third on; the second, a name, may hold anything."""
    return read(f"{process}/stat").rpartition(")")[2].split()

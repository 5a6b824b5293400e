"""What may lie where a file should: a pipe, a link, a folder, nothing, a file that is huge."""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.mutators.dice import Dice

_HOLE = 5 << 28  # bytes behind the file that no disk holds: more than a reader may take


def replace(path: Path, d: Dice) -> None:
    """Put something else in the place of a file, or make it huge."""
    kind = d.randrange(7)
    if kind == 0 and path.suffix != ".gz":  # gzip takes zeros behind one by one: minutes
        os.truncate(path, path.stat().st_size + _HOLE)
        return
    path.unlink()
    if kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(path.name)
    elif kind == 3:
        path.symlink_to(d.choice(("/dev/zero", "/dev/stdin", "/proc/self/mem", "/", "nowhere")))
    elif kind == 4:
        path.mkdir()
    elif kind == 5:
        path.touch()

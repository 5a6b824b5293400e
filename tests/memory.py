"""What a process and its children hold."""

from __future__ import annotations

import os
from pathlib import Path


def resident_mib() -> float:
    """MiB of this process and its children (Linux)."""
    pids = [os.getpid()]
    for task in Path("/proc/self/task").iterdir():
        pids += [int(pid) for pid in (task / "children").read_text().split()]
    pages = 0
    for pid in pids:
        pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

"""Files that appear whole or not at all: the only writer of files that count."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".tmp"
"""Suffix of a file that is being written."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Context: a temporary name beside ``path`` to write to, which becomes ``path`` at the end.

    The file is then flushed to the disk, as readable as any other new one (some libraries write
    for the owner alone, whatever the umask), and renamed. After an error nothing of it is left,
    and what was at ``path`` is as it was.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())
        flush(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` by :func:`whole_file`."""
    with whole_file(path) as partial:
        partial.write_bytes(data)


def flush(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _umask() -> int:
    """The process's; os.umask would have to change it, under the feet of other threads."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("Umask:"))[6:], 8)

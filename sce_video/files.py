"""Files that appear whole or not at all: the only writer of files that count."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota of the disk is used up",
    errno.EFBIG: "no file may be so large (file system, or ulimit -f)",
}
"""Errors of the system that room on the disk heals -> what they are."""
PARTIAL = ".tmp"
"""Suffix of a file that is being written."""


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Context in which the system's errors that name no file, such as a full disk, name ``path``.

    Raises:
        OSError: as it came, with ``filename`` set.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))  # as safetensors has them
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error


@contextmanager
def whole_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Context: a temporary name beside ``path`` to write to, which becomes ``path`` at the end.

    The file is then flushed to the disk, as readable as any other new one (some libraries write
    for the owner alone, whatever the umask), and renamed. After an error nothing of it is left,
    and what was at ``path`` is as it was.

    Args:
        path: of the file.
        shared: other processes may write the same file meanwhile: each writes its own whole, and
            the last one stays. Else the temporary name is one and the same, so that a rerun
            replaces what a killed process left.
    """
    own = f".{uuid.uuid4().hex}" if shared else ""
    partial = path.with_name(path.name + own + PARTIAL)
    partial.unlink(missing_ok=True)  # a link that lies there is not followed
    try:
        partial.touch()
        mode = partial.stat().st_mode  # by umask or the folder's default ACL
        partial.unlink()
        with named(path):
            yield partial
            if partial.stat().st_mode != mode:
                partial.chmod(stat.S_IMODE(mode))
            flush(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes, *, shared: bool = False) -> None:
    """Write ``data`` by :func:`whole_file`."""
    with whole_file(path, shared=shared) as partial:
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

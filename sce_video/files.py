"""Files: read within bounds, whatever lies at their name; written whole or not at all.

The only writer of files that count, and the only reader of files that somebody else may have made.
"""

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
LARGEST = 1 << 28
"""Bytes that a file has at most which is read as a whole, if nothing else is said."""
_BLOCK = 1 << 20  # bytes
LONGEST_NAME = 255
"""Bytes of a file's name, in every file system."""


def is_plain_name(name: str, suffix: str = "") -> bool:
    """Whether a name out of a file is that of a file beside it: no path, nothing hidden or odd.

    Args:
        name: as somebody wrote it.
        suffix: what it has to end with.
    """
    short = 0 < len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME
    return (
        short
        and name.isprintable()
        and not name.startswith(".")
        and "/" not in name
        and name.endswith(suffix)
        and name != suffix
    )


def open_plain(path: str | Path, *, follow: bool = False) -> int:
    """A descriptor to read a regular file by: nothing else is opened, and nothing waited for.

    Args:
        path: of the file.
        follow: it may be a link, as the user named it; not where a name comes out of a file.

    Raises:
        OSError: there is none, it may not be read, or it is a link, a folder, a pipe, a device.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno != errno.ELOOP or follow:
            raise
        raise OSError(errno.ELOOP, "is a link; put the file itself there", str(path)) from error
    except ValueError as error:  # a NUL in it
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return descriptor


def read_plain(path: str | Path, *, limit: int = LARGEST, follow: bool = False) -> bytes:
    """All bytes of a regular file; see :func:`open_plain`.

    Args:
        path: of the file.
        limit: bytes that it may have; checked before anything is read.
        follow: as there.

    Raises:
        OSError: as there, or it is larger.
    """
    with named(Path(path)), os.fdopen(open_plain(path, follow=follow), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        # As much room as it says; what says nothing of itself (/proc), or grows, comes in blocks.
        data = stream.read(size + 1) if size <= limit else b""
        while size < len(data) <= limit and (more := stream.read(_BLOCK)):
            data += more
    if size > limit or len(data) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit:,} bytes", str(path))
    return data


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Context in which the system's errors that name no file, such as a full disk, name ``path``.

    Raises:
        OSError: as it came, with ``filename`` set.
    """
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))  # as safetensors has them
        code = int(number[1]) if number else getattr(error, "errno", None)
        ours = type(error).__module__.startswith("sce_video.")
        if ours or not isinstance(code, int) or getattr(error, "filename", None) is not None:
            raise
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


def sha256_file(path: Path, *, follow: bool = True) -> str:
    """sha256 of a regular file's bytes, hexadecimal.

    Raises:
        OSError: as :func:`open_plain`, which says what ``follow`` is.
    """
    with named(path), os.fdopen(open_plain(path, follow=follow), "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

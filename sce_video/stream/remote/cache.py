"""Remote files as a whole on the local disk: verified, bounded, fetched by one process for all.

A cache holds no open files: it may be sent to a worker.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from sce_video.errors import SceVideoError, UsageError
from sce_video.files import open_plain
from sce_video.stream.remote.files import RemoteFile, WrongBytes, bare_url, persist, reading

_OURS = re.compile(r"[0-9a-f]{64}(\.part)?")
"""Names in the cache's folder that are the cache's: nothing else there is ever deleted."""
_MOST_GIB = 1e9  # more than any disk has
_REASONS = {
    errno.EEXIST: "is no folder",
    errno.ELOOP: "is a link",
    errno.ENOLCK: "its file system has no locks",
    errno.EOPNOTSUPP: "its file system has no locks",
    errno.ENOSYS: "its file system has no locks",
}
"""Errors of the system -> what they mean for a cache."""


@dataclass(frozen=True)
class Cache:
    """Whole remote files in a folder; the least recently opened leave first.

    A file has its name once it is complete, verified and on the disk. ``.part`` files grow; each is
    its own lock, so that one process fetches and the others wait for it. A file that left while it
    is read stays on the disk until its last reader closes it.
    """

    folder: Path
    limit: int  # bytes of all files, those being fetched included

    @classmethod
    def at(cls, folder: str | None = None, gib: float = 100.0) -> Cache:
        """The cache in ``folder``, else in ``$SCE_VIDEO_CACHE``, else in the user's own cache.

        Raises:
            UsageError: the folder is in a home that nobody knows.
        """
        chosen = folder or os.environ.get("SCE_VIDEO_CACHE") or "~/.cache/sce_video"
        try:
            return cls(Path(chosen).expanduser(), int(min(gib, _MOST_GIB) * 2**30))
        except RuntimeError as error:
            raise UsageError(
                f"{chosen}: there is no such home folder; put the cache elsewhere (data.cache or "
                "$SCE_VIDEO_CACHE)"
            ) from error

    def open(self, file: RemoteFile) -> int:
        """A descriptor of the file, which stays readable whatever leaves the cache meanwhile.

        Raises:
            SceVideoError: it cannot be fetched, is not what it should be, or finds no room.
        """
        if file.size > self.limit:
            raise SceVideoError(
                f"{bare_url(file.url)}: {_gib(file.size)}, more than the whole cache "
                f"{self.folder} may hold ({_gib(self.limit)}); raise data.cache_gib"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while True:
                descriptor = self._kept(file)
                if descriptor is None:
                    descriptor = self._fetched(file)
                if descriptor is not None:
                    now = time.time_ns()  # finer than the clock of the file system
                    os.utime(descriptor, ns=(now, now))
                    return descriptor
        except OSError as error:
            raise self._failed(file, error) from error

    def _failed(self, file: RemoteFile, error: OSError) -> SceVideoError:
        """The error, in one line, for what this machine refused."""
        hint = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some, lower data.cache_gib, or "
        elif error.errno in (errno.EINVAL, errno.ELOOP):
            hint = "remove it, or "
        reason = _REASONS.get(error.errno or 0, error.strerror)
        return SceVideoError(
            f"{error.filename or self.folder}: {reason} for {bare_url(file.url)} "
            f"({_gib(file.size)}); {hint}put the cache elsewhere (data.cache or $SCE_VIDEO_CACHE)"
        )

    def _kept(self, file: RemoteFile) -> int | None:
        path = self.folder / file.key
        try:
            descriptor = open_plain(path)
        except FileNotFoundError:
            return None
        if os.fstat(descriptor).st_size != file.size:  # somebody cut it
            os.close(descriptor)
            path.unlink(missing_ok=True)
            return None
        return descriptor

    def _fetched(self, file: RemoteFile) -> int | None:
        """Fetch a file; None = another process just did."""
        path, part = self.folder / file.key, self.folder / f"{file.key}.part"
        descriptor = _lock(part)
        with ExitStack() as undo:
            undo.callback(os.close, descriptor)
            undo.callback(
                part.unlink, missing_ok=True
            )  # before the lock goes: the name is still ours
            if path.exists():
                return None
            persist(file.url, lambda: self._download(file, descriptor, part))
            os.fsync(descriptor)
            part.rename(path)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            undo.pop_all()
            return descriptor

    def _reserved(self, descriptor: int, part: Path, size: int) -> bool:
        """Make room and take it, so that nobody else counts on it."""
        guard = _lock(self.folder / ".lock")
        try:
            files: dict[Path, os.stat_result] = {}
            for path in self.folder.iterdir():
                if _OURS.fullmatch(path.name) and path != part:
                    with suppress(FileNotFoundError):
                        files[path] = path.lstat()
            total = size + sum(found.st_size for found in files.values())
            for path in sorted(files, key=lambda p: files[p].st_mtime_ns):
                if total > self.limit and _removed(path):
                    total -= files[path].st_size
            if total <= self.limit and size:
                os.posix_fallocate(descriptor, 0, size)
            return total <= self.limit
        finally:
            os.close(guard)

    def _download(self, file: RemoteFile, descriptor: int, part: Path) -> None:
        """One attempt to fill ``part``, the file behind ``descriptor``."""
        digest, came = hashlib.sha256(), 0
        with reading(file.url) as source:
            if source.size not in (None, file.size):  # before anything leaves the cache for it
                raise _cut(source.size, file.size)
            try:
                while not self._reserved(descriptor, part, file.size):
                    time.sleep(0.1)  # all room is taken by files that others fetch: they get done
            except OSError as error:
                raise self._failed(file, error) from error
            while came <= file.size and (chunk := source.read()):
                digest.update(chunk)
                try:
                    _write(descriptor, chunk[: file.size - came], came)
                except OSError as error:
                    raise self._failed(file, error) from error
                came += len(chunk)
        if came != file.size:
            raise _cut(came, file.size)
        if file.sha256 and digest.hexdigest() != file.sha256:
            raise WrongBytes


def _cut(came: int, size: int) -> OSError:
    """Another number of bytes than there should be."""
    return OSError(f"{'more than' if came > size else f'{came} of'} {size} bytes came")


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def _write(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def _lock(path: Path) -> int:
    """Create a file and wait for its lock; the descriptor is that of the file of this name."""
    while (descriptor := _try_lock(path, fcntl.LOCK_EX)) is None:
        pass  # renamed or removed by who held the lock before
    return descriptor


def _try_lock(path: Path, operation: int) -> int | None:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)  # a link here would lead to what is written over
    with ExitStack() as undo, suppress(FileNotFoundError, BlockingIOError):
        undo.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        fcntl.flock(descriptor, operation)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            undo.pop_all()
            return descriptor
    return None


def _removed(path: Path) -> bool:
    """Remove a file of the cache, but no ``.part`` that a living process fills."""
    if not path.suffix:
        path.unlink(missing_ok=True)
        return True
    descriptor = _try_lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if descriptor is None:
        return False
    path.unlink()
    os.close(descriptor)
    return True

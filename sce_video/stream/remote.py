"""Files from elsewhere (http, https, s3, gs) on the local disk: fetched whole, verified, bounded.

Everything here may be sent to a worker: file systems are made by the process that uses them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sce_video.errors import SceVideoError, UsageError

T = TypeVar("T")

SCHEMES = ("http", "https", "s3", "gs")
DEFAULT_CACHE = "~/.cache/sce_video"
CACHE_GIB = 100.0

_ATTEMPTS = 5
_BACKOFF = 0.5  # seconds before the second attempt; doubled before each further one
_SILENCE = 60  # seconds without a byte after which a connection counts as dropped
_CHUNK = 1 << 24
_OURS = re.compile(r"[0-9a-f]{64}(\.part)?")
"""Names in the cache's folder that are the cache's: nothing else there is ever deleted."""


class _WrongBytes(Exception):  # noqa: N818  (becomes an error when it comes twice)
    """A whole file that is not the one its sha256 names."""


def is_remote(location: str) -> bool:
    """Whether ``location`` is a URL.

    Raises:
        UsageError: a pipe, or a scheme that is not offered.
    """
    if location.startswith("pipe:"):
        raise UsageError(f"{location}: pipes run a shell and are not read; give files or URLs")
    scheme, mark, _ = location.partition("://")
    if mark and scheme not in SCHEMES:
        offered = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(f"{location}: not a local path and none of {offered}")
    return bool(mark)


def bare_url(url: str) -> str:
    """A URL without user, password and signature: for messages, and to know a file again."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return url
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def file_system(url: str) -> Any:
    """The fsspec file system of a URL; made once a process by fsspec itself.

    Raises:
        UsageError: the extra is not installed.
    """
    try:
        import fsspec

        scheme = url.partition("://")[0]
        if scheme not in ("http", "https"):
            return fsspec.filesystem(scheme)
        import aiohttp

        # Its own limit is five minutes a file, whatever the file's size.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
        client = {"timeout": timeout, "headers": {"Accept-Encoding": "identity"}}
        return fsspec.filesystem("http", client_kwargs=client)
    except ImportError as error:
        raise UsageError(f"{bare_url(url)}: needs pip install 'sce-video[remote]'") from error


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere and what must come of it."""

    url: str
    key: str  # 64 hexadecimal digits: its name in the cache
    size: int  # bytes
    sha256: str = ""  # "" = not known

    @classmethod
    def of_set(cls, url: str, digest: str, name: str, size: int, sha256: str) -> RemoteFile:
        """A file of the shard set at ``url`` whose manifest has the sha256 ``digest``."""
        key = hashlib.sha256(f"{digest}/{name}".encode()).hexdigest()
        return cls(f"{url.rstrip('/')}/{name}", key, size, sha256)

    @classmethod
    def ask(cls, url: str) -> RemoteFile:
        """A file as its server describes it now: known by URL, size, and ETag or time.

        Raises:
            SceVideoError: it is not there, or its size is not told.
        """
        info = persist(url, lambda: file_system(url).info(url))
        if info.get("size") is None:
            raise SceVideoError(
                f"{bare_url(url)}: its server tells no size, so that a cut could not be noticed"
            )
        version = next((str(info[k]) for k in _VERSIONS if info.get(k)), "")
        text = f"{bare_url(url)} {info['size']} {version}"
        return cls(url, hashlib.sha256(text.encode()).hexdigest(), int(info["size"]))


_VERSIONS = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "updated")


def persist(url: str, attempt: Callable[[], T]) -> T:
    """Try until it works, a few times with growing pauses; what cannot get better fails at once.

    Raises:
        SceVideoError: one line that names the URL and the last problem.
    """
    name, problem, wrong = bare_url(url), "", 0
    cause: BaseException | None = None
    for number in range(_ATTEMPTS):
        if number:
            time.sleep(_BACKOFF * 2 ** (number - 1))
        try:
            return attempt()
        except SceVideoError:
            raise
        except _WrongBytes as error:
            wrong += 1
            if wrong == 2:
                raise SceVideoError(
                    f"{name}: twice not the bytes its manifest names (sha256); "
                    "copy that shard set there again"
                ) from error
        except Exception as error:
            cause = error
            if isinstance(error, FileNotFoundError) and url.startswith("http"):
                cause = error.__cause__ or error  # fsspec calls any trouble in asking so
            status = getattr(cause, "status", 0)
            if isinstance(cause, FileNotFoundError) or status == 404:
                raise SceVideoError(f"{name}: not there") from error
            if isinstance(cause, PermissionError) or status in (401, 403):
                raise SceVideoError(f"{name}: no permission to read it") from error
            text = f"HTTP {status}" if status else str(cause).replace(url, name)
            problem = " ".join(text.split()) or type(cause).__name__
    raise SceVideoError(f"{name}: {problem} ({_ATTEMPTS} attempts)") from cause


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
    def at(cls, folder: str | None = None, gib: float = CACHE_GIB) -> Cache:
        """The cache in ``folder``, else in ``$SCE_VIDEO_CACHE``, else in the default folder."""
        chosen = folder or os.environ.get("SCE_VIDEO_CACHE") or DEFAULT_CACHE
        return cls(Path(chosen).expanduser(), int(gib * 2**30))

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
                    return descriptor
        except OSError as error:
            raise self._failed(file, error) from error

    def _failed(self, file: RemoteFile, error: OSError) -> SceVideoError:
        """What went wrong on this machine."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some, lower data.cache_gib, or " if full else ""
        return SceVideoError(
            f"{self.folder}: {error.strerror} for {bare_url(file.url)} ({_gib(file.size)}); "
            f"{hint}put the cache elsewhere (data.cache or $SCE_VIDEO_CACHE)"
        )

    def _kept(self, file: RemoteFile) -> int | None:
        path = self.folder / file.key
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if os.fstat(descriptor).st_size != file.size:  # somebody cut it
            os.close(descriptor)
            path.unlink(missing_ok=True)
            return None
        os.utime(descriptor)  # most recently opened
        return descriptor

    def _fetched(self, file: RemoteFile) -> int | None:
        """Fetch a file; None = another process just did."""
        path, part = self.folder / file.key, self.folder / f"{file.key}.part"
        descriptor = _lock(part)
        complete = False
        try:
            if path.exists():
                return None
            while not self._reserved(descriptor, part, file.size):
                time.sleep(0.1)  # all room is taken by files that others fetch: they get done
            persist(file.url, lambda: self._download(file, descriptor))
            os.fsync(descriptor)
            part.rename(path)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            complete = True
            return descriptor
        finally:
            if not complete:
                part.unlink(missing_ok=True)  # before the lock goes: the name is still ours
                os.close(descriptor)

    def _reserved(self, descriptor: int, part: Path, size: int) -> bool:
        """Make room and take it, so that nobody else counts on it."""
        guard = _lock(self.folder / ".lock")
        try:
            files: dict[Path, os.stat_result] = {}
            for path in self.folder.iterdir():
                if _OURS.fullmatch(path.name) and path != part:
                    with suppress(FileNotFoundError):
                        files[path] = path.stat()
            total = size + sum(stat.st_size for stat in files.values())
            for path in sorted(files, key=lambda p: files[p].st_mtime_ns):
                if total > self.limit and _removed(path):
                    total -= files[path].st_size
            if total <= self.limit and size:
                os.posix_fallocate(descriptor, 0, size)
            return total <= self.limit
        finally:
            os.close(guard)

    def _download(self, file: RemoteFile, descriptor: int) -> None:
        """One attempt to fill the file behind ``descriptor``."""
        digest, came = hashlib.sha256(), 0
        with _reading(file.url) as source:
            while came <= file.size and (chunk := source.read(_CHUNK)):
                digest.update(chunk)
                try:
                    _write(descriptor, chunk[: file.size - came], came)
                except OSError as error:
                    raise self._failed(file, error) from error
                came += len(chunk)
        if came != file.size:
            many = "more than" if came > file.size else f"{came} of"
            raise OSError(f"{many} {file.size} bytes came")
        if file.sha256 and digest.hexdigest() != file.sha256:
            raise _WrongBytes


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
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, operation)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (FileNotFoundError, BlockingIOError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
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


@contextmanager
def _reading(url: str) -> Iterator[Any]:
    """A remote file opened to be read once, from its start to its end."""
    system = file_system(url)
    if url.startswith("http"):
        # No size is asked for and no range: one request gives all, from any server.
        with system.open(url, block_size=0, size=1) as source:
            yield source
    else:
        with system.open(url, block_size=_CHUNK, cache_type="none") as source:
            yield source


def fetch_small(url: str, sha256: str = "") -> bytes:
    """A small file as a whole, without the cache; ``sha256`` as its manifest names it.

    Raises:
        SceVideoError: it cannot be fetched, or is another one.
    """

    def attempt() -> bytes:
        data: bytes = file_system(url).cat_file(url)
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise _WrongBytes
        return data

    return persist(url, attempt)

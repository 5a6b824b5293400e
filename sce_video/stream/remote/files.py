"""Files elsewhere (http, https, s3, gs): asked about, and fetched in spite of bad connections.

File systems are made by the process that uses them: nothing here is bound to one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sce_video.errors import SceVideoError, UsageError

T = TypeVar("T")

SCHEMES = ("http", "https", "s3", "gs")

_ATTEMPTS = 5
_BACKOFF = 0.5  # seconds before the second attempt; doubled before each further one
_SILENCE = 60  # seconds without a byte after which a connection counts as dropped
_VERSIONS = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "updated")
CHUNK = 1 << 24


class WrongBytes(Exception):  # noqa: N818  (becomes an error when it comes twice)
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
    """A URL without user, password and signature: for messages and names of samples."""
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
        return cls(f"{url}/{name}", key, size, sha256)

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
        text = f"{url} {info['size']} {version}"
        return cls(url, hashlib.sha256(text.encode()).hexdigest(), int(info["size"]))


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
        except WrongBytes as error:
            wrong, problem = wrong + 1, "not the bytes its manifest names (sha256)"
            if wrong == 2:
                raise SceVideoError(
                    f"{name}: twice {problem}; copy that shard set there again"
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


def reading(url: str) -> Any:
    """A remote file opened to be read once, from its start to its end; a context."""
    if url.startswith("http"):
        # No size is asked for and no range: one request gives all, from any server.
        return file_system(url).open(url, block_size=0, size=1)
    return file_system(url).open(url, block_size=CHUNK, cache_type="none")


def fetch_small(url: str, sha256: str = "") -> bytes:
    """A small file as a whole, without the cache; ``sha256`` as its manifest names it.

    Raises:
        SceVideoError: it cannot be fetched, or is another one.
    """

    def attempt() -> bytes:
        data: bytes = file_system(url).cat_file(url)
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise WrongBytes
        return data

    return persist(url, attempt)

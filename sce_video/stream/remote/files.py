"""Files elsewhere (http, https, s3, gs): asked about, and fetched in spite of bad connections.

File systems are made by the process that uses them: nothing here is bound to one. A request goes
only to an address that the user named: what a file names is passed through :func:`on_this_machine`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

from sce_video.errors import SceVideoError, UsageError
from sce_video.files import LARGEST
from sce_video.shardset.manifest import LARGEST_INDEX
from sce_video.stream.remote import bucket, web

T = TypeVar("T")

SCHEMES = ("http", "https", "s3", "gs")

_ATTEMPTS = 5
_BACKOFF = 0.5  # seconds before the second attempt; doubled before each further one
_LONGEST_WAIT = 60.0  # seconds that a server may ask for before the next
_SMALL_TIME = 600.0  # seconds for each LARGEST bytes of a file that is read as a whole
_VERSIONS = ("ETag", "etag", "last-modified", "LastModified", "mtime", "updated")


class WrongBytes(Exception):  # noqa: N818  (becomes an error when it comes twice)
    """A whole file that is not the one its sha256 names."""


class Source(Protocol):
    """A file's bytes from its start to its end; a context."""

    size: int | None  # None = not told

    def read(self) -> bytes:
        """The next bytes, some at least; nothing at the end."""

    def __enter__(self) -> Source: ...
    def __exit__(self, *_: object) -> None: ...


def is_remote(location: str) -> bool:
    """Whether ``location`` is a URL.

    Raises:
        UsageError: a pipe, a scheme that is not offered, or no address.
    """
    if location.startswith("pipe:"):
        raise UsageError(f"{location}: pipes run a shell and are not read; give files or URLs")
    scheme, mark, _ = location.partition("://")
    if mark and scheme not in SCHEMES:
        offered = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(f"{location}: not a local path and none of {offered}")
    if mark and not (location.isprintable() and _host(location)):
        raise UsageError(f"{bare_url(location)}: no address; give {scheme}://HOST/PATH")
    return bool(mark)


def _host(url: str) -> str:
    """Its host or bucket; "" where it has none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if " " not in parts.netloc else ""
    except ValueError:  # a bracket that is not closed, and the like
        return ""


def on_this_machine(location: str, whose: object, hint: str) -> str:
    """A location that a file names, which is not asked for over the network.

    Args:
        location: as the file has it.
        whose: what the file belongs to, for the message.
        hint: what the user can do.

    Raises:
        UsageError: it is a URL.
    """
    if is_remote(location):
        raise UsageError(
            f"{whose}: names the set {bare_url(location)}; what a file names is not asked: {hint}"
        )
    return location


def bare_url(url: str) -> str:
    """A URL without user, password and signature: for messages and names of samples."""
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in ("http", "https"):
        return url
    place, slash, path = rest.partition("/")
    bare = f"{place.rpartition('@')[2]}{slash}{path}"
    return f"{scheme}://{bare.partition('?')[0].partition('#')[0]}"


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

        # Its own limit is five minutes a file, whatever the file's size; ours are those of `web`.
        client = {
            "timeout": aiohttp.ClientTimeout(total=None),
            "headers": {"Accept-Encoding": "identity"},
            "auto_decompress": False,  # a few bytes may stand for many
        }
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
        end = quote(name) if url.startswith("http") else name
        return cls(f"{url}/{end}", key, size, sha256)

    @classmethod
    def ask(cls, url: str) -> RemoteFile:
        """A file as its server describes it now: known by URL, size, and ETag or time.

        Raises:
            SceVideoError: it is not there, or its size is not told.
        """
        info = persist(url, lambda: _describe(url))
        if info.get("size") is None:
            raise SceVideoError(
                f"{bare_url(url)}: its server tells no size, so that a cut could not be noticed"
            )
        version = next((str(info[k]) for k in _VERSIONS if info.get(k)), "")
        text = f"{url} {info['size']} {version}"
        return cls(url, hashlib.sha256(text.encode()).hexdigest(), int(info["size"]))


def _describe(url: str) -> Mapping[str, Any]:
    """The size of a file and what tells its versions apart."""
    if not url.startswith("http"):
        return bucket.describe(file_system(url), url)
    head = web.describe(file_system(url), url, bare_url(url))
    return {**head, "size": head.get("content-length")}


def persist(url: str, attempt: Callable[[], T]) -> T:
    """Try until it works, a few times with growing pauses; what cannot get better fails at once.

    Raises:
        SceVideoError: one line that names the URL and the last problem.
    """
    name, problem, wrong = bare_url(url), "", 0
    cause: BaseException | None = None
    for number in range(_ATTEMPTS):
        if number:
            wait = min(getattr(cause, "wait", 0.0), _LONGEST_WAIT)
            time.sleep(max(wait, _BACKOFF * 2 ** (number - 1)))
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
            cause, status = error, getattr(error, "status", 0)
            if isinstance(error, FileNotFoundError) or status in (404, 410):
                raise SceVideoError(f"{name}: not there") from error
            if isinstance(error, PermissionError) or status in (401, 403):
                raise SceVideoError(f"{name}: no permission to read it") from error
            text = str(error).replace(url, name)
            problem = " ".join(text.split()) or type(error).__name__
    raise SceVideoError(f"{name}: {problem} ({_ATTEMPTS} attempts)") from cause


def reading(url: str) -> Source:
    """A remote file opened to be read once, from its start to its end; a context.

    Of a web server one request gives all: no size is asked for, and no range.
    """
    if url.startswith("http"):
        return web.WebFile(file_system(url), url, bare_url(url))
    return bucket.BucketFile(file_system(url), url)


def fetch_small(url: str, sha256: str = "") -> bytes:
    """A small file as a whole, without the cache; ``sha256`` as its manifest names it.

    Raises:
        SceVideoError: it cannot be fetched, is too large, takes too long, or is another one.
    """
    name, limit = bare_url(url), LARGEST_INDEX if sha256 else LARGEST

    def attempt() -> bytes:
        data, began = bytearray(), time.monotonic()
        with reading(url) as source:
            size = source.size or 0
            while size <= limit and (chunk := source.read()):
                data += chunk
                size = max(size, len(data))
                given = _SMALL_TIME * (1 + len(data) // LARGEST)
                if time.monotonic() > began + given:
                    raise SceVideoError(
                        f"{name}: {len(data):,} bytes came in {given:g} s; too slow"
                    )
        if size > limit:
            raise SceVideoError(f"{name}: larger than {limit:,} bytes; is it a shard set's file?")
        if source.size not in (None, len(data)):
            raise OSError(f"{len(data)} of {source.size} bytes came")
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise WrongBytes
        return bytes(data)

    return persist(url, attempt)

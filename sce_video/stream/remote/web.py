"""Files on web servers: one request a file, which stays on its host and has to keep a pace.

What a server says is believed only as far as it can be checked; whatever it does, it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

from sce_video.errors import SceVideoError, UsageError

PATIENCE = 60.0  # seconds for an answer's head, and for each stretch of its body
LEAST = 1024  # bytes a second that have to come, over a stretch of that time
CHUNK = 1 << 24
_HOPS = 5  # redirects of a request
_REDIRECTS = (301, 302, 303, 307, 308)


class SlowError(Exception):
    """Too little came in too long a time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"fewer than {LEAST:,} bytes a second came for {seconds:g} s")


class StatusError(Exception):
    """An answer that is not the file."""

    def __init__(self, status: int, retry_after: str) -> None:
        self.status, self.wait = status, _seconds(retry_after)
        told = f", to be asked again in {self.wait:,.0f} s" if self.wait else ""
        super().__init__(f"HTTP {status}{told}")


def _seconds(retry_after: str) -> float:
    """What ``Retry-After`` asks for, as a number or a date; 0 = nothing that can be read."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    return 0.0


class WebFile:
    """A file's bytes from its start to its end; a context."""

    def __init__(self, files: Any, url: str, name: str) -> None:
        """Ask for it.

        Args:
            files: the HTTP file system, of which the connections are taken.
            url: of the file.
            name: the same for messages.

        Raises:
            SceVideoError: what is there is no file, or lies on another host.
            StatusError: an error, for now.
            SlowError: no answer.
        """
        from fsspec.asyn import sync

        self._sync, self._loop = sync, files.loop
        self._answer = sync(files.loop, _ask, files, "GET", url, name)
        self.size: int | None = self._answer.content_length  # as its server says; None = it is not
        self._left, self._came = PATIENCE, 0  # of this stretch: seconds of waiting, bytes

    def read(self) -> bytes:
        """The next bytes, some at least; nothing at the end.

        Raises:
            SlowError: they come too slowly.
        """
        data: bytes = self._sync(self._loop, self._read)
        return data

    async def _read(self) -> bytes:
        if self._came >= LEAST * PATIENCE:
            self._left, self._came = PATIENCE, 0
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self._left)):
                data: bytes = await self._answer.content.read(CHUNK)
        except TimeoutError as error:
            raise SlowError(PATIENCE) from error
        self._left -= time.monotonic() - began
        self._came += len(data)
        return data

    def __enter__(self) -> WebFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._answer.close)


def describe(files: Any, url: str, name: str) -> Mapping[str, str]:
    """The head of a server's answer about a file, with names in lower case; see WebFile."""
    from fsspec.asyn import sync

    async def ask() -> Mapping[str, str]:
        with suppress(StatusError):  # some know GET alone
            answer = await _ask(files, "HEAD", url, name)
            answer.close()
            if answer.content_length is not None:
                return _by_name(answer)
        answer = await _ask(files, "GET", url, name)
        answer.close()
        return _by_name(answer)

    found: Mapping[str, str] = sync(files.loop, ask)
    return found


def _by_name(answer: Any) -> Mapping[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


async def _ask(files: Any, method: str, url: str, name: str) -> Any:
    """An answer of which the head has come, and that is the file, as it is."""
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await _follow(await files.set_session(), method, url, name)
    except TimeoutError as error:
        raise SlowError(PATIENCE) from error
    if answer.status == 200 and answer.content_type != "text/html":
        packed = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if packed in ("identity", "", "aws-chunked"):  # stores leave the last on plain bytes
            return answer
        answer.close()
        raise SceVideoError(f"{name}: comes packed ({packed[:20]}); serve it as it is")
    answer.close()
    if answer.status == 200:
        raise SceVideoError(
            f"{name}: a web page came, not the file; is this the address, does it ask for a login?"
        )
    raise StatusError(answer.status, answer.headers.get("Retry-After", ""))


async def _follow(session: Any, method: str, url: str, name: str) -> Any:
    """The answer at the end of redirects."""
    from yarl import URL

    try:
        at = URL(url)
    except ValueError as error:
        raise UsageError(f"{name}: no address ({error})") from error
    for _ in range(_HOPS + 1):
        answer = await session.request(method, at, allow_redirects=False)
        to = answer.headers.get("Location")
        if answer.status not in _REDIRECTS or not to:
            return answer
        answer.close()
        try:
            there = at.join(URL(to))
        except ValueError as error:
            raise SceVideoError(f"{name}: sends on to what is no address") from error
        if not _stays(at, there):
            where = f"{there.scheme}://{there.host or ''}{f':{there.port}' * bool(there.port)}"
            raise SceVideoError(
                f"{name}: sends on to {where}, which is not asked: another host than the one that "
                "you named; if you trust it, give the address there"
            )
        at = there.with_user(at.user).with_password(at.password)
    raise SceVideoError(f"{name}: sends on more than {_HOPS} times")


def _stays(at: Any, to: Any) -> bool:
    """Whether an address is on the same host and port, or the same host's by https."""
    if (at.scheme, at.host, at.port) == (to.scheme, to.host, to.port):
        return True
    secure = (at.scheme, at.port, to.scheme, to.port) == ("http", 80, "https", 443)
    return bool(secure and at.host == to.host)

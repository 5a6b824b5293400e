"""Files in buckets (s3, gs), by their asynchronous file systems: each call has its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sce_video.stream.remote.web import CHUNK, PATIENCE, SlowError

_RANGE_TIME = 600.0  # seconds for a range of CHUNK bytes: 28 kB a second


class BucketFile:
    """A file's bytes from its start to its end, a range at a time; a context."""

    def __init__(self, files: Any, url: str) -> None:
        """``files``: the file system of ``url``.

        Raises:
            FileNotFoundError, PermissionError: as it says.
            SlowError: no answer.
        """
        self._files, self._url, self._at = files, url, 0
        self._end = int(describe(files, url)["size"])
        self.size: int | None = self._end

    def read(self) -> bytes:
        """The next bytes, some at least; nothing at the end.

        Raises:
            SlowError: they come too slowly.
        """
        until = min(self._at + CHUNK, self._end)
        if until == self._at:
            return b""
        data: bytes = _within(
            _RANGE_TIME, self._files, "_cat_file", self._url, start=self._at, end=until
        )
        self._at += len(data)
        return data

    def __enter__(self) -> BucketFile:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open between two ranges."""


def describe(files: Any, url: str) -> Mapping[str, Any]:
    """What a bucket says of a file; for the arguments and errors see BucketFile."""
    found: Mapping[str, Any] = _within(PATIENCE, files, "_info", url)
    return found


def _within(seconds: float, files: Any, name: str, *args: Any, **named: Any) -> Any:
    """What a coroutine of an asynchronous file system gives within a time."""
    from fsspec.asyn import sync

    call: Callable[..., Any] = getattr(files, name)
    try:
        return sync(files.loop, call, *args, timeout=seconds, **named)
    except TimeoutError as error:
        raise SlowError(seconds) from error

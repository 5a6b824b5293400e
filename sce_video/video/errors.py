"""What is raised where a media file does not give its frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sce_video.errors import SceVideoError, UsageError, first_line


class DecodeError(SceVideoError):
    """Bytes that are no video or image, or do not give the frames that they should."""


class BackendError(UsageError):
    """A backend that is not installed."""


@contextmanager
def decode_errors(what: str = "") -> Iterator[None]:
    """Context in which whatever a library raises of odd bytes is a :class:`DecodeError`.

    Which exceptions these are no library tells: PyAV alone raises those of FFmpeg and six of
    Python's.

    Args:
        what: the message; "" = that it does not decode, and the library's own words.

    Raises:
        DecodeError: the message is the same for the same bytes.
    """
    try:
        yield
    except SceVideoError:
        raise
    except Exception as error:
        raise DecodeError(what or f"does not decode: {_words(error)}") from error


def _words(error: Exception) -> str:
    """What an exception says, without what FFmpeg logged before it and where Python found it."""
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    return str(getattr(error, "strerror", None) or first_line(error))

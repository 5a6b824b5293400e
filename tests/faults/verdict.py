"""What became of an input: it was read, refused as it should be, or something failed."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

from sce_video.errors import SceVideoError

_ACTING = {"Cc", "Cs", "Zl", "Zp"}  # categories of what a terminal acts upon
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_LONGEST = 4_000  # characters of a message

Refusals = tuple[type[Exception], ...]


@dataclass(frozen=True)
class Verdict:
    """Of one input."""

    outcome: Literal["read", "refused", "failed"]
    kind: str = ""  # type of the exception, or what else happened
    why: str = ""


def failed(kind: str, why: str = "") -> Verdict:
    """A verdict of what must not happen."""
    return Verdict("failed", kind, why[:_LONGEST])


def judge(error: BaseException, refusals: Refusals = ()) -> Verdict:
    """The verdict on what a reader raised.

    Args:
        error: what was raised.
        refusals: what its contract names beside the package's own tree and the system's errors.
    """
    kind = type(error).__name__
    if _out_of_memory(error):
        return failed("out of memory", f"{kind}: {error}")
    if isinstance(error, (SceVideoError, *refusals)):
        return _message(kind, str(error))
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return _message(kind, error.strerror or "")
    return failed(kind, repr(error))


def _message(kind: str, text: str) -> Verdict:
    if not text.strip():
        return failed("empty message", kind)
    if acting := acts(text):
        return failed("message that acts on a terminal", f"{kind}: {acting}: {text!r}")
    if len(text) > _LONGEST:
        return failed("endless message", f"{kind}, {len(text):,} characters: {text!r}")
    return Verdict("refused", kind, text)


def acts(text: str, allowed: str = "") -> str:
    """The first character that a terminal acts upon, as it is written; "" = there is none."""
    for character in text:
        if character in allowed:
            continue
        if character in _TURNING or unicodedata.category(character) in _ACTING:
            return ascii(character)
    return ""


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether an error comes of one, however it was wrapped."""
    seen = 0
    while error is not None and seen < 20:
        # FFmpeg says so, too, of what a header asks for beyond its own limit, which is not made.
        asked = type(error).__module__ == "av.error"
        if not asked and (isinstance(error, MemoryError) or "allocate memory" in str(error)):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False

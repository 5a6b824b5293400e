"""What is said of a file whose bytes are not those that were written."""

from __future__ import annotations

from sce_video.video.facts import Rejected

_TAIL = bytes(64)


def cut_off() -> Rejected:
    """The container promises more than came."""
    return Rejected("cut off")


def damaged(data: bytes) -> Rejected:
    """Zeros stand where there can be none: behind the last byte that came of a download whose room
    was set aside before, or in a hole."""
    return Rejected("cut off") if data.endswith(_TAIL) else Rejected("damaged packets")

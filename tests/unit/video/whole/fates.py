"""What a check of a file says of it."""

from __future__ import annotations

from collections.abc import Callable

from sce_video.video.facts import Rejected


def fate(walk: Callable[[bytes], None], data: bytes) -> str:
    """The reason for which ``walk`` refuses bytes; "" = it does not."""
    try:
        walk(data)
    except Rejected as rejected:
        return str(rejected)
    return ""

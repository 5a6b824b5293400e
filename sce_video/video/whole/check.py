"""The container of a file, walked from its first byte to its last.

FFmpeg reads a file up to wherever it ends, looks for the next thing that it knows where it finds
zeros, and reports neither. So what a broken download left would pass as a shorter video.
"""

from __future__ import annotations

from sce_video.video.whole import avi, matroska, mp4, mpeg

_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"wide", b"free", b"skip", b"pnot", b"uuid")
"""Boxes that an MP4 or MOV begins with."""


def check_container(data: bytes) -> None:
    """Compare what a container promises with the bytes that are there.

    Args:
        data: the whole file; what is no container known here promises nothing.

    Raises:
        Rejected: ``cut off`` or ``damaged packets``.
    """
    if data[4:8] in _BOXES:
        mp4.walk(data)
    elif data.startswith(matroska.MAGIC):
        matroska.walk(data)
    elif data.startswith(avi.MAGIC):
        avi.walk(data)
    elif data.startswith(mpeg.MAGIC):
        mpeg.walk(data)

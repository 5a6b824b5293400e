"""Kinds of video that other libraries get wrong without a word: found by comparing, and refused."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from sce_video.video.container import open_video, video_streams
from sce_video.video.errors import DecodeError, decode_errors
from sce_video.video.packets import PacketIndex

_FORMATS = ("yuv420p", "yuvj420p")


def refuse_defects(
    data: bytes, index: PacketIndex | None, library: str, codecs: Container[str]
) -> PacketIndex:
    """Let pass what ``library`` decodes as a plain full decode does; returns the packet index.

    Both decord and torchcodec seek to packets that the container flags as key frames although
    decoding cannot start there (intra refresh; for some codecs, open GOPs), count frames of AVI
    files without times, find frames by times that several have, choose another one of several
    streams, know of turns but not of mirrors, and convert interlaced, 10-bit or 4:4:4 frames in
    their own way.

    Raises:
        DecodeError: a video of such a kind, or without a packet index to tell.
    """
    if index is None:
        raise DecodeError(f"no packet index to check {library} by; use data.decode=planned")
    with decode_errors():
        reasons = _defects(data, index, codecs)
    if kind := next((reason for reason, so in reasons.items() if so), ""):
        raise DecodeError(f"{library} may give wrong frames for {kind}; use data.decode=planned")
    return index


def _defects(data: bytes, index: PacketIndex, codecs: Container[str]) -> dict[str, bool]:
    """What is wrong for others -> whether this video is so."""
    with open_video(data) as (container, stream):
        frame, packets = None, []
        for packet in container.demux(stream):  # no seeking: times may not tell where
            frame = frame or next(iter(packet.decode()), None)
            if packet.size:
                packets.append(packet)
        if frame is None:
            raise DecodeError("no frame")
        flagged = [packet.pos or 0 for packet in packets if packet.is_keyframe]
        # Where Matroska's block begins, its packet's bytes follow soon.
        keys = np.searchsorted(index.offset, flagged)
        return {
            f"{index.codec} video": index.codec not in codecs,
            "several video streams": len(video_streams(container)) > 1,
            "mirrored videos": index.orientation.mirrored,
            "frames at one time": len({packet.pts for packet in packets}) < len(packets),
            "AVI files": container.format.name == "avi",
            f"{frame.format.name} frames": frame.format.name not in _FORMATS,
            "interlaced frames": frame.interlaced_frame,
            "key frames that do not start afresh": not np.isin(keys, index.keys).all(),
        }

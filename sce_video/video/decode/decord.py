"""Frames by display number with decord: kept for comparison; it is no longer maintained.

Refused besides :mod:`refusals`: turned and mirrored videos, raw H.264 streams, and those where it
counts other frames than the packet index (edit lists, changes of size). It hides damage: only the
check at sharding and the checksums stand against that.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from sce_video.video.decode.refusals import refuse_defects
from sce_video.video.errors import BackendError, DecodeError, decode_errors
from sce_video.video.orientation import UPRIGHT
from sce_video.video.packets import PacketIndex

_ANNEX_B = b"\0\0"


def decode(
    data: bytes, numbers: NDArray[np.int64], index: PacketIndex | None
) -> list[NDArray[np.uint8]]:
    """Decode frames by display number; see :func:`~sce_video.video.decode.decode_frames`."""
    try:
        import decord
    except ImportError as error:  # no wheel for this platform
        raise BackendError("data.decode=decord: pip install decord") from error
    index = refuse_defects(data, index, "decord", ("h264", "vp9", "mjpeg"))
    turned = index.orientation != UPRIGHT
    if turned or index.extradata.startswith(_ANNEX_B):
        kind = "turned or mirrored videos" if turned else "raw H.264 streams"
        raise DecodeError(f"decord may give wrong frames for {kind}; use data.decode=planned")
    # Its own words hold the time of day.
    with decode_errors("does not decode by decord"):
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        if len(reader) != index.frames:
            raise DecodeError(f"decord sees {len(reader)} frames where {index.frames} are shown")
        return list(reader.get_batch(numbers.tolist()).asnumpy())

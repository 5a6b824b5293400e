"""Layered videos, and the frames of any by nothing but PyAV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sce_video.video.container import open_video, upright_rgb
from sce_video.video.encode import Encoding, LayeredEncoder
from sce_video.video.examine import examine_video
from sce_video.video.facts import Facts
from sce_video.video.orientation import orientation_of

Frames = NDArray[np.uint8]


def decode_all(data: bytes) -> Frames:
    """Every frame, by nothing but PyAV."""
    with open_video(data) as (container, stream):
        return np.stack([upright_rgb(f, orientation_of(f)) for f in container.decode(stream)])


def layered(data: bytes, encoding: Encoding | None = None) -> tuple[bytes, Facts]:
    encoder = LayeredEncoder(encoding or Encoding())
    return encoder.finish(data, examine_video(data, sink=encoder.add))

"""What packets say of themselves: which ones others need, and which may be left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sce_video.video.decode import DecodeError, decode_frames
from sce_video.video.packets import LAYER_SHIFT, PacketIndex
from tests.unit.video.layered import decode_all


def test_the_layers_tell_the_truth(grouped: tuple[bytes, PacketIndex]) -> None:
    """Where a packet is said to be dispensable and is not, frames do come out wrong."""
    data, index = grouped
    truth = decode_all(data)
    for layer in (0, 1):
        lying = index.kind.copy()
        lying[(index.kind >> LAYER_SHIFT == layer) & (index.kind & 1 == 0)] = 2 << LAYER_SHIFT
        wrong = 0
        for number in range(100):
            try:
                got = decode_frames(data, [number], replace(index, kind=lying))
                wrong += not np.array_equal(got[0], truth[number])
            except DecodeError:
                wrong += 1
        assert wrong > 20

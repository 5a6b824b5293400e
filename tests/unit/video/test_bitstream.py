"""What packets say of themselves: which ones others need, and which may be left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sce_video.video.bitstream import NEEDED, reader
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


def test_the_empty_twin_of_a_packed_picture_is_no_place_to_start() -> None:
    read = reader("mpeg4", b"")
    assert read is not None
    picture = b"\0\0\1\xb6\x10\x60" + bytes(range(1, 40))
    assert read(picture).key
    assert not read(picture[:6]).key
    assert read(picture[:6]).layer == NEEDED
    assert not read(picture[:6] + picture).key

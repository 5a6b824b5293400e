"""The packet index as bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sce_video.video.examine import examine_video
from sce_video.video.packets import IdxError, PacketIndex
from tests.odd_videos import KINDS, VFR


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PacketIndex:
    packets = examine_video(KINDS["vfr"](tmp_path_factory.mktemp("idx")).read_bytes()).packets
    assert packets is not None
    return packets


def test_there_and_back(index: PacketIndex) -> None:
    back = PacketIndex.from_bytes(index.to_bytes())
    for name, value in vars(index).items():
        assert np.array_equal(getattr(back, name), value), name
    assert (back.codec, back.codec_tag, back.width, back.height) == ("h264", "avc1", 64, 48)


def test_real_times_are_kept(index: PacketIndex) -> None:
    milliseconds = index.pts[np.argsort(index.number)] * float(index.time_base) * 1000
    assert milliseconds == pytest.approx(VFR)


def test_any_changed_byte_is_noticed(index: PacketIndex) -> None:
    data = index.to_bytes()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(IdxError):
            PacketIndex.from_bytes(bytes(damaged))
    for size in (0, 3, 60, len(data) - 1):
        with pytest.raises(IdxError):
            PacketIndex.from_bytes(data[:size])


def test_other_decoders_are_not_opened(index: PacketIndex) -> None:
    with pytest.raises(IdxError, match="makes no sense"):
        PacketIndex.from_bytes(replace(index, codec="rawvideo").to_bytes())

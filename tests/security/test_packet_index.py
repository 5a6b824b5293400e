"""A packet index that lies, with a right checksum: an error or frames, never more than that."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sce_video.video.decode import DecodeError, decode_frames
from sce_video.video.examine import examine_video
from sce_video.video.orientation import UPRIGHT
from sce_video.video.packets import IdxError, PacketIndex
from tests.odd_videos import KINDS


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize("tries", [300, pytest.param(20_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", ["b-frames", "mpeg-4 b", "vp9"])
def test_lies(kind: str, tries: int, tmp_path: Path) -> None:
    data = KINDS[kind](tmp_path).read_bytes()
    index = examine_video(data).packets
    assert index is not None
    body = index.to_bytes()[:-4]
    rng = np.random.default_rng(0)
    outcomes = {"refused": 0, "error": 0, "frames": 0}
    for _ in range(tries):
        lie = bytearray(body)
        # Half of the lies in the head, the rest in the packets.
        end = 70 + len(index.extradata) if rng.random() < 0.5 else len(lie)
        for _ in range(int(rng.integers(1, 4))):
            lie[int(rng.integers(6, end))] = int(rng.integers(256))
        try:
            told = PacketIndex.from_bytes(sealed(bytes(lie)))
            frames = np.stack(decode_frames(data, [0, 7, 31, 59], told))
        except IdxError:
            outcomes["refused"] += 1
        except DecodeError:
            outcomes["error"] += 1
        else:
            outcomes["frames"] += 1
            assert frames.dtype == np.uint8
            assert frames.shape[0] == 4
    assert all(outcomes.values()), outcomes


def test_other_decoders_are_not_opened() -> None:
    index = PacketIndex(
        codec="rawvideo",
        codec_tag="",
        extradata=b"",
        width=4,
        height=4,
        orientation=UPRIGHT,
        colour=(0, 2, 2, 2),
        time_base=Fraction(1, 25),
        pts=np.zeros(1, np.int64),
        offset=np.zeros(1, np.uint32),
        size=np.ones(1, np.uint32),
        number=np.zeros(1, np.int32),
        kind=np.ones(1, np.uint8),
    )
    with pytest.raises(IdxError, match="makes no sense"):
        PacketIndex.from_bytes(index.to_bytes())

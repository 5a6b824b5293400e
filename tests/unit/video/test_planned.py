"""Planned decoding gives, bit for bit, the frames of a full decode, and feeds few packets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sce_video.video.container import number_of, upright_rgb
from sce_video.video.decode import DecodeError, decode_frames, planned
from sce_video.video.decode.planned import _frames, plan_packets
from sce_video.video.examine import examine_video
from sce_video.video.packets import PacketIndex
from tests.conftest import REPOSITORY
from tests.odd_videos import FRAMES, KINDS, UNINDEXED
from tests.unit.video.layered import Frames, decode_all, layered


def choices(frames: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Each frame alone, random eights, evenly spread ones, neighbours, all."""
    rng = np.random.default_rng(seed)
    yield from (np.array([number]) for number in range(frames))
    for _ in range(6):
        yield np.sort(rng.choice(frames, min(8, frames), replace=False))
    yield np.arange(0, frames, 7)
    yield np.arange(frames // 2, min(frames // 2 + 3, frames))
    yield np.arange(frames)


def differing(data: bytes, index: PacketIndex, truth: Frames) -> list[list[int]]:
    """Choices of frames that planned decoding gives otherwise."""
    wrong = []
    for numbers in choices(len(truth)):
        if not np.array_equal(decode_frames(data, numbers, index), truth[numbers]):
            wrong.append(numbers.tolist())
    return wrong


def fed(index: PacketIndex, *numbers: int) -> int:
    return sum(map(len, plan_packets(index, np.array(numbers))))


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_decoded_exactly(kind: str, tmp_path: Path) -> None:
    data = KINDS[kind](tmp_path).read_bytes()
    facts = examine_video(data)
    if kind in UNINDEXED:
        assert facts.packets is None
        assert facts.unindexed == UNINDEXED[kind]
        return
    assert facts.packets is not None, facts.unindexed
    index = PacketIndex.from_bytes(facts.packets.to_bytes())
    truth = decode_all(data)
    assert index.frames == facts.frames == len(truth)
    assert not differing(data, index, truth)


@pytest.mark.parametrize("kind", KINDS)
def test_layered_ones_are_decoded_exactly(kind: str, tmp_path: Path) -> None:
    data, facts = layered(KINDS[kind](tmp_path).read_bytes())
    assert facts.packets is not None
    assert not differing(data, facts.packets, decode_all(data))


@pytest.mark.parametrize(
    ("kind", "most"),
    [("b-frames", 8), ("no b-frames", 8), ("mpeg-4 b", 5), ("vp9", 12), ("motion jpeg", 1)],
)
def test_few_packets_are_fed(kind: str, most: float, tmp_path: Path) -> None:
    """On average over the frames of a video, one at a time."""
    index = examine_video(KINDS[kind](tmp_path).read_bytes()).packets
    assert index is not None
    assert np.mean([fed(index, number) for number in range(FRAMES)]) <= most


def test_a_clip_on_the_grid_costs_one_packet_a_frame(grouped: tuple[bytes, PacketIndex]) -> None:
    _, index = grouped
    assert fed(index, *range(0, 64, 8)) == 8
    assert fed(index, *range(32, 96, 8)) == 8
    assert fed(index, *range(0, 64, 4)) <= 20  # the last group of each 32 is shorter
    assert np.mean([fed(index, number) for number in range(100)]) < 6


def check_real_videos(paths: Sequence[Path]) -> dict[str, str]:
    """Random choices of frames of each; returns suffix -> why there is no index."""
    unindexed = {}
    for path in paths:
        data = path.read_bytes()
        facts = examine_video(data)
        if facts.packets is None:
            unindexed[path.suffix] = facts.unindexed
            continue
        truth = decode_all(data)
        rng = np.random.default_rng(0)
        for _ in range(4):
            numbers = np.sort(rng.choice(len(truth), 8, replace=False))
            got = decode_frames(data, numbers, facts.packets)
            assert np.array_equal(got, truth[numbers]), path.name
    return unindexed


def test_real_videos(real_data: Path) -> None:
    """XviD and DivX with packed pictures, MPEG-1, VP9, H.264 as downloaded."""
    unindexed = check_real_videos(
        [
            *sorted((real_data / "odd").iterdir()),
            *sorted((real_data / "hmdb51").rglob("*.avi"))[:1],
            *sorted((real_data / "loose" / "tai chi").iterdir()),
            *sorted((real_data / "ucf101" / "UCF-101").rglob("*.avi"))[::40],
        ]
    )
    assert unindexed == {".mpg": "packets lie in pieces"}


@pytest.mark.slow
def test_every_real_video(real_data: Path) -> None:
    suffixes = (".mp4", ".avi", ".mkv", ".webm", ".mpg")
    paths = sorted(path for path in real_data.rglob("*") if path.suffix in suffixes)
    assert len(paths) > 100
    assert check_real_videos(paths) == {".mpg": "packets lie in pieces"}


def test_a_kept_decoder_takes_nothing_over(tmp_path: Path) -> None:
    """Many videos in one process, some of equal settings, in any order, after damage, too."""
    videos = []
    for kind in [*KINDS][::3]:
        data, facts = layered(KINDS[kind](tmp_path).read_bytes())
        assert facts.packets is not None
        videos.append((data, facts.packets, decode_all(data)))
    rng, kept = np.random.default_rng(0), 0
    for _ in range(120):
        data, index, truth = videos[rng.integers(len(videos))]
        decoder = planned.take_decoder(index)
        planned.keep_decoder(index, decoder)
        numbers = np.sort(rng.choice(len(truth), min(8, len(truth)), replace=False))
        if rng.random() < 0.2:
            with pytest.raises(DecodeError):
                decode_frames(bytes(len(data)), numbers, index)
            assert planned.take_decoder(index) is not decoder
        assert np.array_equal(decode_frames(data, numbers, index), truth[numbers])
        after = planned.take_decoder(index)
        kept += after is decoder
        planned.keep_decoder(index, after)
    assert kept > 60


def test_frames_that_are_kept_do_not_confuse_the_next_clip(
    grouped: tuple[bytes, PacketIndex],
) -> None:
    """PyAV keeps what is attached to packets by identity, and small integers are all the same."""
    data, index = grouped
    numbers = np.arange(0, 64, 8)
    kept = decode_frames(data, numbers, index)
    found = []
    for frame in _frames(data, index, plan_packets(index, numbers)):
        found.append(number_of(frame))
        kept.clear()
    assert found == numbers.tolist()


def test_damage_is_told(grouped: tuple[bytes, PacketIndex]) -> None:
    data, index = grouped
    damaged = bytearray(data)
    start, size = int(index.offset[0]), int(index.size[0])
    damaged[start : start + size] = bytes(size)
    with pytest.raises(DecodeError):
        decode_frames(bytes(damaged), [0, 5], index)
    with pytest.raises(DecodeError, match="ends before frame 100"):
        decode_frames(data, [3, 100], index)


def test_the_documented_decoder_gives_the_same_frames(tmp_path: Path) -> None:
    """The example in shards/README.md, as it is printed."""
    page = (REPOSITORY / "shards" / "README.md").read_text()
    [example] = [
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def frames" in code
    ]
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102
    for kind in ("b-frames", "no vui", "edit list", "mpeg-4 b", "vp9", "hevc"):
        data = KINDS[kind](tmp_path).read_bytes()
        packets = examine_video(data).packets
        assert packets is not None
        shown = names["frames"](data, packets.to_bytes())
        got = np.stack([upright_rgb(frame, packets.orientation) for frame in shown])
        assert np.array_equal(got, decode_all(data)), kind

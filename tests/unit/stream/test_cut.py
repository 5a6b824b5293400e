"""Clips hold the right pixels; the temporal difference is the reference implementation's."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sce_video.shardset.index import ShardIndex
from sce_video.stream.clips import ClipSpec, UniformClips, subsample
from sce_video.stream.cut import all_needed, make_clips, temporal_difference
from sce_video.stream.reader import ShardReader
from sce_video.video.decode import DecodeError, decode_frames
from sce_video.video.facts import Video
from tests.unit.stream.conftest import SAMPLER
from tests.unit.stream.golden import CASES, named


def test_temporal_difference_golden() -> None:
    case = next(c for c in CASES if c["name"] == "temporal_difference_u8True_grayTrue_absFalse")
    frames = np.array(case["inputs"]["frames"], dtype=np.uint8).transpose(1, 2, 3, 0)  # CTHW
    expected = np.array(case["expected"]).transpose(1, 2, 3, 0)
    following = np.concatenate([frames[1:], frames[-1:]])
    ours = temporal_difference(frames[:-1], following[:-1])
    np.testing.assert_array_equal(ours, expected[:-1])
    np.testing.assert_array_equal(expected[-1], expected[-2])  # why the last pair is repeated


def test_temporal_difference_is_the_float_path_but_for_rounding() -> None:
    case = next(c for c in CASES if c["name"] == "temporal_difference_u8False_grayTrue_absFalse")
    frames = np.array(case["inputs"]["frames"], dtype=np.uint8).transpose(1, 2, 3, 0)  # CTHW
    expected = np.array(case["expected"]).transpose(1, 2, 3, 0)
    ours = temporal_difference(frames[:-1], frames[1:])
    assert np.abs(ours - expected[:-1]).max() <= 1  # half a level of luma, half of the result


@pytest.mark.parametrize("case", named("time_difference_indices"))
def test_temporal_difference_reads_each_frame_and_its_successor(case: dict[str, Any]) -> None:
    p = case["params"]
    frames = subsample(p["first_index"], p["num_frames"], p["num_samples"])
    spec = ClipSpec(frames, (0, 0, 8, 8), 8, difference=True)
    assert all_needed([spec]).tolist() == case["expected_indices_to_load"]


def test_clips_are_cut_from_the_right_pixels(index: ShardIndex) -> None:
    data = ShardReader(index).media(1)
    frames = np.stack(decode_frames(data, range(20)))
    numbers = np.array([2, 5, 5, 9])
    plain = ClipSpec(numbers, (8, 10, 32, 32), 32)
    difference = ClipSpec(numbers, (8, 10, 32, 32), 32, difference=True)
    a, b = make_clips(data, [plain, difference])
    crop = frames[:, 8:40, 10:42]
    np.testing.assert_array_equal(a.permute(0, 2, 3, 1), crop[numbers])
    expected = temporal_difference(crop[[2, 5, 5, 8]], crop[[3, 6, 6, 9]])
    np.testing.assert_array_equal(b.permute(0, 2, 3, 1), expected)


def test_clips_do_not_depend_on_the_packet_index(index: ShardIndex) -> None:
    reader = ShardReader(index)
    for row in range(6):
        specs, packets = SAMPLER(reader.video(row), 0, row), reader.packets(row)
        assert packets is not None
        with_index = make_clips(reader.media(row), specs, packets)
        for a, b in zip(with_index, make_clips(reader.media(row), specs), strict=True):
            assert torch.equal(a, b)


def test_a_line_of_pixels_is_not_made_as_wide_as_it_is_long() -> None:
    """Its short side would make gigabytes of a few bytes."""
    stream = io.BytesIO()
    Image.new("RGB", (1, 1 << 16)).save(stream, "PNG")
    specs = UniformClips(1, 3, 1, 1.0, 112)(Video(1, 0.0, 1 << 16, 1), 0, 0)
    with pytest.raises(DecodeError, match="narrow frames, at the size asked for, too large"):
        make_clips(stream.getvalue(), specs)

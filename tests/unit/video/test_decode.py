"""One suite for all decoding backends: right frames, or a plain refusal."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sce_video.config.recipes import RandomCrop, RandomResizedCrop
from sce_video.errors import UsageError
from sce_video.stream import cut
from sce_video.stream.clips import ClipTiming, RandomClips
from sce_video.stream.cut import make_clips
from sce_video.video.decode import Backend, BackendError, DecodeError, decode_frames
from sce_video.video.decode.torchcodec import decode_tensor, require_cuda
from sce_video.video.examine import examine_video
from sce_video.video.facts import Video
from sce_video.video.packets import PacketIndex
from tests.ffmpeg_libraries import link_libraries
from tests.odd_videos import FRAMES, KINDS, UNINDEXED
from tests.unit.video.layered import decode_all, layered
from tests.unit.video.test_planned import choices

OURS = ("planned", "pyav")
BY_BOTH = {
    "open gop": "key frames that do not start afresh",
    "intra refresh": "key frames that do not start afresh",
    "interlaced": "interlaced frames",
    "annex b": "AVI files",
    "10 bit": "yuv420p10le frames",
    "4:4:4": "yuv444p frames",
    "odd sizes": "yuv444p frames",
    "mirrored": "mirrored videos",
    "mirrored upside down": "mirrored videos",
    "transposed": "mirrored videos",
    "transposed the other way": "mirrored videos",
    "cover": "several video streams",
    "two streams": "several video streams",
    "b-frames avi": "AVI files",
    "mpeg-1 avi": "mpeg1video video",
    "mpeg-2": "mpeg2video video",
    "motion jpeg": "AVI files",
    "motion jpeg, tables once": "AVI files",
    "motion jpeg, mirrored": "mirrored videos",
    "joined": "key frames that do not start afresh",
    "all at once": "frames at one time",
}
REFUSED = {
    "decord": {
        **BY_BOTH,
        "edit list": "sees 51 frames where 49 are shown",
        "turned 90": "turned or mirrored videos",
        "turned 180": "turned or mirrored videos",
        "turned 270": "turned or mirrored videos",
        "hevc": "hevc video",
        "mpeg-4": "mpeg4 video",
        "mpeg-4 b": "mpeg4 video",
        "mpeg-4 b avi": "mpeg4 video",
        "mpeg-4, encoder named once": "mpeg4 video",
    },
    "torchcodec": {
        **BY_BOTH,
        "hevc": "key frames that do not start afresh",
        "mpeg-4": "AVI files",
        "mpeg-4 b avi": "AVI files",
        "mpeg-4, encoder named once": "AVI files",
    },
}
"""Backend -> kind of video -> why it is refused: each was seen to come out wrong, or nearly so."""

Samples = dict[str, tuple[bytes, PacketIndex, NDArray[np.uint8]]]
INDEXED = [kind for kind in KINDS if kind not in UNINDEXED]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Kind -> file, packet index, and every frame of a plain full decode."""
    folder = tmp_path_factory.mktemp("kinds")
    found = {}
    for kind in INDEXED:
        data = KINDS[kind](folder).read_bytes()
        index = examine_video(data).packets
        assert index is not None
        found[kind] = data, index, decode_all(data)
    return found


@pytest.fixture(params=get_args(Backend))
def backend(request: pytest.FixtureRequest, samples: Samples) -> Backend:
    chosen: Backend = request.param
    data, index, _ = samples["b-frames"]
    try:
        decode_frames(data, [0], index, chosen)
    except BackendError as error:
        pytest.skip(f"{error} (a test runs this file again with PyAV's own libraries)")
    return chosen


@pytest.mark.parametrize("kind", INDEXED)
def test_right_frames_or_a_refusal(
    backend: Backend,
    kind: str,
    samples: Samples,
) -> None:
    data, index, truth = samples[kind]
    if reason := REFUSED.get(backend, {}).get(kind):
        with pytest.raises(DecodeError, match=re.escape(reason)):
            decode_frames(data, [0], index, backend)
        return
    for numbers in choices(len(truth)):
        if backend in OURS or len(numbers) > 1 or numbers[0] % 5 == 0:
            frames = decode_frames(data, numbers, index, backend)
            assert np.array_equal(frames, truth[numbers]), numbers


def test_layered_shards_are_right_everywhere(backend: Backend, tmp_path: Path) -> None:
    data, facts = layered(KINDS["vfr"](tmp_path).read_bytes())
    assert facts.packets is not None
    truth = decode_all(data)
    for numbers in ([0], [3, 4, 11], range(len(truth))):
        assert np.array_equal(
            decode_frames(data, numbers, facts.packets, backend), truth[list(numbers)]
        )


def test_the_same_errors(backend: Backend, samples: Samples) -> None:
    data, index, _ = samples["b-frames"]
    with pytest.raises(DecodeError):
        decode_frames(data, [0, FRAMES], index, backend)
    with pytest.raises(DecodeError):
        decode_frames(data[: len(data) // 3], range(FRAMES), index, backend)
    with pytest.raises(DecodeError):
        decode_frames(b"<html>" * 50, [0], index, backend)
    if backend not in OURS:
        with pytest.raises(DecodeError, match="no packet index to check"):
            decode_frames(data, [0], None, backend)


@pytest.mark.parametrize("backend", ["torchcodec"], indirect=True)
def test_clips_cut_on_a_device_are_those_of_the_cpu(
    backend: Backend, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What data.decode=cuda does, with torchcodec on the CPU: at most a level of rounding apart."""
    monkeypatch.setattr(
        cut,
        "decode_tensor",
        lambda data, needed, packets, _: decode_tensor(data, needed, packets, "cpu"),
    )
    data, index, truth = samples["b-frames"]
    video = Video(len(truth), 25.0, *truth.shape[1:3])
    crops = ((RandomResizedCrop((0.2, 0.766)), 24), (RandomCrop(), 32))
    sampler = RandomClips(crops, ClipTiming(8, 1.0), 0.5, seed=0)
    differences = 0
    for row in range(8):
        specs = sampler(video, 0, row)
        differences += sum(spec.difference for spec in specs)
        there = make_clips(data, specs, index, backend="cuda")
        for a, b in zip(make_clips(data, specs, index), there, strict=True):
            assert b.dtype == torch.uint8
            assert a.shape == b.shape
            assert int((a.int() - b.int()).abs().max()) <= 1
    assert differences
    interlaced = samples["interlaced"][0], specs, samples["interlaced"][1]
    with pytest.raises(DecodeError, match="interlaced"):
        make_clips(*interlaced, backend="cuda")


def test_without_a_gpu_decoding_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError, match="no CUDA device; use planned"):
        require_cuda()


@pytest.mark.slow
def test_torchcodec_with_the_libraries_of_pyav(tmp_path: Path) -> None:
    """torchcodec needs FFmpeg's shared libraries; where none are installed, PyAV's serve."""
    if link_libraries(tmp_path) is None:
        pytest.skip("this PyAV was not built as a wheel with FFmpeg inside")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [*command, "-k", "torchcodec and not libraries"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "skipped" not in done.stdout
    assert "passed" in done.stdout


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA", "P"])
def test_images_are_videos_of_one_frame(mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    image, buffer = Image.fromarray(pixels).convert(mode), io.BytesIO()
    image.save(buffer, "PNG" if mode in ("RGBA", "P") else "JPEG")
    data = buffer.getvalue()
    [frame] = decode_frames(data, [0])
    assert np.array_equal(frame, np.asarray(Image.open(buffer).convert("RGB")))
    with pytest.raises(DecodeError, match="ends before frame 1"):
        decode_frames(data, [1])
    with pytest.raises(DecodeError, match="damaged image"):
        decode_frames(data[:-40], [0])

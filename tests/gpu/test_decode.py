"""Clips decoded and cut on the GPU (data.decode=cuda) beside those of ``planned``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from sce_video.config.recipes import RandomCrop, RandomResizedCrop
from sce_video.stream import cut
from sce_video.stream.clips import ClipTiming, RandomClips
from sce_video.video.decode import BackendError
from sce_video.video.decode.torchcodec import decode_tensor
from sce_video.video.examine import examine_video
from sce_video.video.facts import Video
from tests.benchmarks.videos import FPS, HEIGHT, WIDTH, make_videos
from tests.gpu.ranks import FreshRanks

pytestmark = pytest.mark.gpu

SECONDS, ROWS = 3, 12  # of a video; draws of two clips a video
FOUND = "found.json"


def decode_both(folder: Path, where: torch.device) -> None:
    """A job: all clips in both ways; how they differ, and clips a second."""
    crops = ((RandomResizedCrop((0.2, 0.766)), 112), (RandomCrop(), 128))
    draw = RandomClips(crops, ClipTiming(8, 1.0), 0.3, seed=0)
    video = Video(SECONDS * FPS, float(FPS), HEIGHT, WIDTH)
    wanted = []
    for path in sorted(folder.glob("*.mp4")):
        data = path.read_bytes()
        packets = examine_video(data).packets
        wanted += [(data, draw(video, 0, row), packets) for row in range(ROWS)]

    def make(backend: Any) -> tuple[list[Tensor], float]:
        def all_clips() -> list[Tensor]:
            return [
                c
                for data, specs, p in wanted
                for c in cut.make_clips(data, specs, p, backend=backend)
            ]

        cut.make_clips(*wanted[0], backend=backend)  # loads libraries, starts the decoder
        began = time.perf_counter()
        made = [clip.cpu() for clip in all_clips()]
        return made, len(made) / (time.perf_counter() - began)

    def on_this_device(data: bytes, needed: Any, packets: Any, _: str) -> Tensor:
        return decode_tensor(data, needed, packets, where.type)

    try:
        with patch.object(cut, "decode_tensor", on_this_device):
            there, rate = make("cuda")
    except BackendError as error:
        (folder / FOUND).write_text(json.dumps({"missing": str(error)}))
        return
    here, planned = make("planned")
    apart = torch.cat(
        [(a.int() - b.int()).abs().flatten() for a, b in zip(here, there, strict=True)]
    )
    found = {"largest": int(apart.max()), "mean": float(apart.double().mean())}
    found |= {"over": float((apart > 1).double().mean()), "rate": rate, "planned": planned}
    (folder / FOUND).write_text(json.dumps(found))


def test_clips_are_planned_s_within_one_level(
    ranks: FreshRanks, device: torch.device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_videos(tmp_path, 2, SECONDS)
    ranks.run(1, decode_both, tmp_path, device)
    found = json.loads((tmp_path / FOUND).read_text())
    if "missing" in found:
        pytest.skip(found["missing"])
    with capsys.disabled():
        print(
            f"\nclips/s: {found['rate']:.0f} by {device}, {found['planned']:.0f} planned, one core"
        )
    assert found["largest"] <= 1, (
        f"up to {found['largest']} levels apart, {found['mean']:.3f} on average; "
        f"{found['over']:.2%} of the values by more than one"
    )

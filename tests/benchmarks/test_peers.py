"""Other libraries cut the clips that ours cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sce_video.video.decode import decode_frames
from tests.benchmarks.peers import PEERS, all_numbers

pytestmark = pytest.mark.slow


def test_every_peer_gives_the_frames_that_ours_gives(videos: Path) -> None:
    data = (videos / "0000.mp4").read_bytes()
    clips = [np.arange(20, 51, 10), np.arange(55, 74, 6)]
    truth = np.stack(decode_frames(data, all_numbers(clips)))
    for name, peer in PEERS.items():
        if name.startswith("torchcodec"):
            continue  # needs a process of its own; tests of the backends compare it
        found = peer(data, clips, 25.0)
        if name.startswith("pytorchvideo"):
            views = [np.moveaxis(clip.numpy(), 0, -1) for clip in found]
            expected = [truth[np.searchsorted(all_numbers(clips), clip)] for clip in clips]
            assert all(np.array_equal(*pair) for pair in zip(views, expected, strict=True))
        else:
            difference = np.abs(np.asarray(found).astype(int) - truth)
            assert difference.mean() < 1, name

"""Small videos and images, encoded once a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.videos import moving_square, write_video


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip0.mp4`` .. ``clip3.mp4`` (h264, 25 fps, 64x48, 10 to 13 frames) and ``clip.avi``."""
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(4):
        write_video(folder / f"clip{seed}.mp4", moving_square(10 + seed, seed=seed))
    write_video(folder / "clip.avi", moving_square(12, seed=9), codec="mpeg4")
    return folder


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG, 40x30."""
    path = tmp_path_factory.mktemp("pictures") / "picture.jpg"
    Image.fromarray(moving_square(1, 30, 40)[0]).save(path)
    return path


@pytest.fixture(scope="session")
def noise() -> bytes:
    """20,000 bytes that are no file of any kind."""
    return np.random.default_rng(0).bytes(20_000)

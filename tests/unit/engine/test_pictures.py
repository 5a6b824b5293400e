"""The picture of what a network is fed with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sce_video.engine.pictures import save_picture, view_grid


def test_rows_are_clips_and_columns_frames_of_all_views(tmp_path: Path) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.2, 0.2)
    pixels = [torch.rand(3, 3, 2, size, size) for size in (8, 4)]
    shape = (1, 3, 1, 1, 1)
    views = [(x - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape) for x in pixels]
    picture = view_grid(views, mean, std, clips=2)
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 2 * 8, 2 * 2 * 8)
    for column, x in ((8, pixels[0]), (16 + 8, pixels[1])):  # second frame of each view
        side = x.shape[-1]
        part = picture[:, 8 : 8 + side, column : column + side]  # of the second clip
        assert (part.float() - x[1, :, 1] * 255).abs().max() <= 1
    assert not picture[:, 8 + 4 : 16, 16:].any()  # the smaller view is bordered
    save_picture(picture, tmp_path / "samples" / "views.png")
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["views.png"]
    read = np.asarray(Image.open(tmp_path / "samples" / "views.png"))
    assert np.array_equal(read, picture.permute(1, 2, 0).numpy())

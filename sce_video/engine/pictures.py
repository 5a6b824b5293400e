"""Pictures that show what a network is fed with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sce_video.config.recipes import Colour
from sce_video.files import whole_file


def view_grid(views: Sequence[Tensor], mean: Colour, std: Colour, clips: int = 8) -> Tensor:
    """What the net sees: a row a clip, its views one after the other, frames side by side.

    Args:
        views: V normalised tensors ``[B,3,T,S,S]``.
        mean: that was subtracted.
        std: that divided.
        clips: rows at most.

    Returns:
        uint8 ``[3, B*S, V*T*S]``; smaller views (multi-crop) are bordered in black.
    """
    columns, side = [], max(view.shape[-1] for view in views)
    for view in views:
        shape = (1, 3, 1, 1, 1)
        x = view[:clips].cpu() * torch.tensor(std).view(shape)
        x = ((x + torch.tensor(mean).view(shape)) * 255).round().clamp(0, 255)
        border = side - x.shape[-1]
        x = F.pad(x, (0, border, 0, border)).permute(1, 0, 3, 2, 4)  # [3,B,S,T,S]
        columns.append(x.flatten(3).flatten(1, 2))
    return torch.cat(columns, dim=2).to(torch.uint8)


def save_picture(picture: Tensor, path: Path) -> None:
    """Write a uint8 picture ``[3,H,W]`` as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(partial, "PNG")

"""Trunks by name: clip -> pooled feature, the representation that evaluation uses."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torchvision.models.video import resnet as tv

from sce_video.errors import UsageError


class R2Plus1D18(tv.VideoResNet):  # type: ignore[misc]
    """torchvision's R(2+1)D-18, every stage ``width / 64`` as wide, without its classifier.

    ``strides`` are those of the four stages, in time and space; the stem halves the space before.

    At ``width=64`` the layers and the state dict are torchvision's own (``r2plus1d_18`` with
    ``fc = Identity()`` loads it strictly). Initialised as SCE's video trunks: Kaiming-normal
    convolutions, and zero for the scale of the last BN of each residual branch, without which an
    untrained trunk loses most of what tells two videos apart.
    """

    def __init__(self, width: int = 64, strides: tuple[int, int, int, int] = (1, 2, 2, 2)) -> None:
        super().__init__(
            block=tv.BasicBlock,
            conv_makers=[tv.Conv2Plus1D] * 4,
            layers=[2, 2, 2, 2],
            stem=tv.R2Plus1dStem,
        )
        if width != 64 or strides != (1, 2, 2, 2):
            self._build(width, strides)
        for module in self.modules():
            if isinstance(module, tv.BasicBlock):
                nn.init.zeros_(module.conv2[1].weight)
        self.fc = nn.Identity()
        self.features = 8 * width

    def _build(self, width: int, strides: tuple[int, int, int, int]) -> None:
        middle = max(1, 45 * width // 64)
        self.stem = nn.Sequential(
            nn.Conv3d(3, middle, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, width, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        self.inplanes = width
        for stage, stride in enumerate(strides):
            layer = self._make_layer(tv.BasicBlock, tv.Conv2Plus1D, width << stage, 2, stride)
            setattr(self, f"layer{stage + 1}", layer)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clip: Tensor) -> Tensor:
        """``[B,3,T,H,W]`` normalised float -> ``[B, 8 * width]``."""
        feature: Tensor = super().forward(clip)
        return feature


TRUNKS: dict[str, Callable[[int], nn.Module]] = {
    "r2plus1d_18": R2Plus1D18,
    # For clips of some 8 frames and 32 pixels: the full strides leave 1 x 2 x 2 of them (these 2 x
    # 4 x 4), too little for an untrained trunk to tell videos apart: contrastive training stands
    # still for hundreds of steps.
    "r2plus1d_18_small": partial(R2Plus1D18, strides=(2, 2, 1, 1)),
}
"""Name -> builder taking the stem's width; a trunk has an int attribute ``features``."""


def build_trunk(name: str, width: int = 64) -> nn.Module:
    """Build a trunk with fresh weights from torch's global generator.

    Args:
        name: a key of :data:`TRUNKS`.
        width: channels after the stem; 64 is the published network.

    Raises:
        UsageError: unknown name, with the nearest known one.
    """
    if name not in TRUNKS:
        near = difflib.get_close_matches(name, TRUNKS, n=1, cutoff=0.0)
        raise UsageError(f"model.trunk: unknown '{name}'; did you mean '{near[0]}'?")
    return TRUNKS[name](width)

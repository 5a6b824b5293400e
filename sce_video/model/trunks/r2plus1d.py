"""torchvision's R(2+1)D-18, the trunk of most of the literature."""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models.video import resnet as tv

from sce_video.model.padded import pad_channels


class R2Plus1D18(tv.VideoResNet):  # type: ignore[misc]
    """R(2+1)D-18, every stage ``width / 64`` as wide, without its classifier.

    ``[B,C,T,H,W]`` normalised float -> ``[B, 8 * width]``.

    At ``width=64`` the layers and the state dict are torchvision's own (``r2plus1d_18`` with
    ``fc = Identity()`` loads it strictly). Initialised as SCE's video trunks: Kaiming-normal
    convolutions, and zero for the scale of the last BN of each residual branch, without which an
    untrained trunk loses most of what tells two videos apart. On CUDA it runs on multiples of eight
    channels: see :mod:`sce_video.model.padded`.

    Args:
        width: channels after the stem.
        channels: of the input.
        strides: of the four stages, in time and space; the stem halves the space before.
    """

    def __init__(
        self,
        width: int = 64,
        channels: int = 3,
        *,
        strides: tuple[int, int, int, int] = (1, 2, 2, 2),
    ) -> None:
        super().__init__(
            block=tv.BasicBlock,
            conv_makers=[tv.Conv2Plus1D] * 4,
            layers=[2, 2, 2, 2],
            stem=tv.R2Plus1dStem,
        )
        if (width, channels, strides) != (64, 3, (1, 2, 2, 2)):
            middle = max(1, 45 * width // 64)
            self.stem = nn.Sequential(
                nn.Conv3d(channels, middle, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
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
        for module in self.modules():
            if isinstance(module, tv.BasicBlock):
                nn.init.zeros_(module.conv2[1].weight)
        pad_channels(self)
        self.fc = nn.Identity()
        self.features = 8 * width


r2plus1d_18 = R2Plus1D18
# For clips of some 8 frames and 32 pixels: the full strides leave 1 x 2 x 2 of them (these 2 x 4 x
# 4), too little for an untrained trunk to tell videos apart: contrastive training stands still for
# hundreds of steps.
r2plus1d_18_small = partial(R2Plus1D18, strides=(2, 2, 1, 1))

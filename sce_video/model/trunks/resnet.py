"""ResNets of images. A clip is a batch of frames, whose features are averaged."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import resnet as tv


class ResNet(tv.ResNet):  # type: ignore[misc]
    """torchvision's ResNet, every stage ``width / 64`` as wide, without its classifier.

    At ``width=64`` the layers and the state dict are torchvision's own (``resnet50`` with
    ``fc = Identity()`` loads it strictly), and so are the fresh weights: Kaiming-normal
    convolutions by fan-out, and one for every BN's scale, unlike the video trunks.

    Args:
        block: torchvision's ``BasicBlock`` or ``Bottleneck``.
        layers: blocks of the four stages.
        width: channels after the stem.
        channels: of the input.
        small: a stem for images of 32 or 64 pixels, 3x3 without strides or pooling.
    """

    def __init__(
        self,
        block: type[tv.BasicBlock | tv.Bottleneck],
        layers: tuple[int, int, int, int],
        width: int = 64,
        channels: int = 3,
        *,
        small: bool = False,
    ) -> None:
        super().__init__(block, layers)
        if (width, channels, small) != (64, 3, False):
            kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
            self.conv1 = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            if small:
                self.maxpool = nn.Identity()
            self.inplanes = width
            for stage, depth in enumerate(layers):
                layer = self._make_layer(block, width << stage, depth, stride=2 if stage else 1)
                setattr(self, f"layer{stage + 1}", layer)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.fc = nn.Identity()
        self.features: int = 8 * width * block.expansion
        # oneDNN 3.12 overruns a buffer in the gradient of a 1x1 convolution with stride, if its
        # input is channels_last and below 16 channels (uxlfoundation/oneDNN#6035).
        narrow = width * block.expansion < 16
        self._layout = torch.contiguous_format if narrow else torch.preserve_format

    def forward(self, clip: Tensor) -> Tensor:
        """``[B,C,T,H,W]`` normalised float -> ``[B,features]``, the mean over the T frames."""
        # Of channels_last_3d both are views: the frames then are channels_last.
        frames = clip.transpose(1, 2).flatten(0, 1)
        features: Tensor = super().forward(frames.to(memory_format=self._layout))
        return features.view(len(clip), -1, self.features).mean(1)


resnet18 = partial(ResNet, tv.BasicBlock, (2, 2, 2, 2))
resnet18_small = partial(ResNet, tv.BasicBlock, (2, 2, 2, 2), small=True)
resnet50 = partial(ResNet, tv.Bottleneck, (3, 4, 6, 3))

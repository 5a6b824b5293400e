"""pytorchvideo's trunks: R3D, the one of SCE on videos ("slow" ResNet), and R(2+1)D-50."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # fvcore still scripts a function
    from pytorchvideo.models.net import Net
    from pytorchvideo.models.r2plus1d import create_r2plus1d
    from pytorchvideo.models.resnet import ResBlock as ResBlock  # for others
    from pytorchvideo.models.resnet import create_res_stage, create_resnet
    from pytorchvideo.models.stem import create_res_basic_stem

RELU = partial(nn.ReLU, inplace=True)  # the same numbers as pytorchvideo's in less memory

Kernel = tuple[int, int, int]


class PooledBlocks(nn.Module):
    """pytorchvideo's ``blocks`` (stem, then stages) without a head, and the mean over T, H and W.

    The state dict is pytorchvideo's: ``blocks.N...``. So are the fresh weights, those of SCE's
    video trunks: Kaiming-normal convolutions by fan-out, and zero for the scale of the last BN of
    each residual branch.
    """

    def __init__(self, net: Net, features: int) -> None:
        super().__init__()
        self.blocks: nn.ModuleList = net.blocks
        for module in self.modules():
            if isinstance(module, nn.Conv3d):  # pytorchvideo's are NumPy's, which do not compile
                module.stride = tuple(int(step) for step in module.stride)
        self.features = features

    def forward(self, clip: Tensor) -> Tensor:
        """``[B,C,T,H,W]`` normalised float -> ``[B,features]``."""
        for block in self.blocks:
            clip = block(clip)
        return clip.mean((2, 3, 4))


def r3d_50(width: int = 64, channels: int = 3) -> PooledBlocks:
    """R3D-50: bottlenecks 3-4-6-3, no stride in time, 3x1x1 first convolutions in res4 and res5."""
    net = create_resnet(
        input_channel=channels,
        stem_dim_out=width,
        stem_conv_kernel_size=(1, 7, 7),
        activation=RELU,
        head=None,
    )
    return PooledBlocks(net, 32 * width)


def r3d_18(width: int = 64, channels: int = 3) -> PooledBlocks:
    """R3D-18: basic blocks 2-2-2-2, no stride in time, 3x3x3 first convolutions in res4 and res5.

    Not torchvision's ``r3d_18``, which is 3x3x3 throughout and strides in time. pytorchvideo has no
    depth 18; the names of its layers are kept.
    """
    stem = create_res_basic_stem(
        in_channels=channels,
        out_channels=width,
        conv_kernel_size=(1, 7, 7),
        conv_padding=(0, 3, 3),
        activation=RELU,
    )
    stages = [
        create_res_stage(
            depth=2,
            dim_in=width << max(0, stage - 1),
            dim_inner=width << stage,
            dim_out=width << stage,
            bottleneck=_basic_block,
            conv_a_kernel_size=(3, 3, 3) if stage > 1 else (1, 3, 3),
            conv_a_stride=(1, 2, 2) if stage else (1, 1, 1),
            conv_a_padding=(1, 1, 1) if stage > 1 else (0, 1, 1),
            conv_b_stride=(1, 1, 1),
            activation=RELU,
        )
        for stage in range(4)
    ]
    return PooledBlocks(Net(blocks=nn.ModuleList([stem, *stages])), 8 * width)


def r2plus1d_50(width: int = 64, channels: int = 3) -> PooledBlocks:
    """R(2+1)D-50: bottlenecks 3-4-6-3 with factorised 3x3x3 convolutions, no pooling.

    Every stage halves the space, the last two halve the time.
    """
    net = create_r2plus1d(
        input_channel=channels, stem_dim_out=width, model_num_class=1, activation=RELU
    )
    del net.blocks[-1]  # the head
    return PooledBlocks(net, 32 * width)


def _basic_block(
    *,
    dim_in: int,
    dim_out: int,
    conv_a_kernel_size: Kernel,
    conv_a_stride: Kernel,
    conv_a_padding: Kernel,
    conv_b_kernel_size: Kernel,
    conv_b_padding: Kernel,
    **_: object,  # what pytorchvideo says of a bottleneck alone
) -> nn.Sequential:
    last = nn.BatchNorm3d(dim_out)
    setattr(last, "block_final_bn", True)  # noqa: B010  pytorchvideo's mark: scale starts at zero
    layers: dict[str, nn.Module] = {
        "conv_a": nn.Conv3d(
            dim_in, dim_out, conv_a_kernel_size, conv_a_stride, conv_a_padding, bias=False
        ),
        "norm_a": nn.BatchNorm3d(dim_out),
        "act_a": RELU(),
        "conv_b": nn.Conv3d(
            dim_out, dim_out, conv_b_kernel_size, padding=conv_b_padding, bias=False
        ),
        "norm_b": last,
    }
    return nn.Sequential(OrderedDict(layers))

"""Convolutions on a multiple of eight channels, as tensor cores take them, from published weights.

cuDNN pads other numbers by copying whole activations: of R(2+1)D-18's 45, 230, 460 and 921 channels
that was 8 of 131 ms of a view's pass on an H200, and its stem on 3 channels took 7.5 more without
tensor cores. Here zeros are appended to the small weights, each time they are used; zero channels
come out of convolution, BN and ReLU as zeros, and meet zeros in the next convolution. Parameters,
buffers and gradients stay as published.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from sce_video.model.syncbn import PLAIN, SyncBatchNorm, track

_MULTIPLE = 8


def pads(x: Tensor) -> bool:
    """Whether it is worth it: on CUDA."""
    return x.is_cuda


class PaddedConv3d(nn.Conv3d):
    """``nn.Conv3d`` without bias whose input may have channels of zeros behind its own."""

    widens = False  # whether the output gets them, too

    def forward(self, input: Tensor) -> Tensor:
        """``[B,C,T,H,W]``, C its own channels or more -> ``[B,C',T',H',W']``."""
        if not pads(input):
            return super().forward(input)
        if missing := -input.shape[1] % _MULTIPLE:
            input = F.pad(input, (0, 0, 0, 0, 0, 0, 0, missing))
        zeros_in = input.shape[1] - self.in_channels
        zeros_out = -self.out_channels % _MULTIPLE if self.widens else 0
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, 0, 0, zeros_in, 0, zeros_out))
        y: Tensor = self._conv_forward(input, weight, None)
        return y


class PaddedBatchNorm(SyncBatchNorm):
    """``SyncBatchNorm`` whose input may have channels of zeros behind its own; they stay zeros."""

    shares = False  # until :func:`convert_sync_bn`: a trunk's other BN does not, either

    def normalise(self, x: Tensor) -> Tensor:
        """``[B,C,...]``, C its own channels or more -> the same shape."""
        zeros = x.shape[1] - self.num_features
        if not zeros:
            return super().normalise(x)
        mean_C, var_C = self.get_buffer("running_mean"), self.get_buffer("running_var")
        tensors = mean_C, var_C, self.weight, self.bias
        mean_C, var_C, weight, bias = (F.pad(t, (0, zeros)) for t in tensors)
        if self.ranks > 1:
            y, mean_C, var_C = self.over_ranks(x, weight, bias)
        else:  # in training these become the batch's: a momentum of 1
            y = F.batch_norm(x, mean_C, var_C, weight, bias, self.training, 1.0, self.eps)
        if self.training:
            track(self, mean_C[:-zeros], var_C[:-zeros])
        return y


def pad_channels(trunk: nn.Module) -> None:
    """Let sequences of convolution, BN, ReLU, convolution run on a multiple of eight channels.

    In place, where they have others; parameters and buffers stay as they are.
    """
    for sequence in [m for m in trunk.modules() if isinstance(m, nn.Sequential)]:
        for first, norm, relu, then in zip(*(list(sequence)[i:] for i in range(4)), strict=False):
            convolutions = isinstance(first, nn.Conv3d) and isinstance(then, nn.Conv3d)
            if not (convolutions and type(norm) in PLAIN and isinstance(relu, nn.ReLU)):
                continue
            if first.out_channels % _MULTIPLE and first.bias is None and then.bias is None:
                # Another class for the same object: it keeps weights and options, and draws none.
                first.__class__ = then.__class__ = PaddedConv3d
                first.widens = True
                norm.__class__ = PaddedBatchNorm

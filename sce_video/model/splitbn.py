"""Split-BN: what shuffle-BN does on several devices, on one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sce_video.errors import UsageError
from sce_video.model.syncbn import adopt, track


class SplitBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` that normalises each of ``splits`` parts of a batch by itself.

    Sample n falls in split ``n mod splits``; the running statistics are the mean of the splits'.
    Same state dict; in eval mode it is plain BN. For the momentum branch of methods without SyncBN
    (SCE and ReSSL on CIFAR, MoCo): keys then do not share statistics with their queries.
    """

    def __init__(self, like: nn.BatchNorm2d, splits: int) -> None:
        super().__init__(like.num_features)
        adopt(self, like)
        self.splits = splits

    def forward(self, input: Tensor) -> Tensor:
        """``[B,C,H,W]`` -> the same shape.

        Raises:
            UsageError: in training, a batch that ``splits`` does not divide.
        """
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        if len(input) % self.splits:
            raise UsageError(
                f"split-BN: a batch of {len(input)} does not divide into {self.splits} splits; "
                f"take a multiple of {self.splits} samples a rank and micro-batch"
            )
        # b of B = b S: a view in every memory layout, unlike one of S C channels.
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        x_bSCHW = x.view(-1, self.splits, *x.shape[1:])
        var_SC, mean_SC = torch.var_mean(x_bSCHW, (0, 3, 4), correction=0, keepdim=True)
        y_bSCHW = (x_bSCHW - mean_SC) * (var_SC + self.eps).rsqrt()
        if self.affine:
            y_bSCHW = y_bSCHW * self.weight[:, None, None] + self.bias[:, None, None]
        count = input.numel() // self.splits // self.num_features
        track(self, mean_SC.mean(1).flatten(), var_SC.mean(1).flatten() * (count / (count - 1)))
        return y_bSCHW.flatten(0, 1).to(input.dtype)


def convert_split_bn(module: nn.Module, splits: int) -> nn.Module:
    """Replace every ``nn.BatchNorm2d`` below ``module`` in place; parameters, buffers are kept.

    Those of other dimensions stay, a projector's among them; :func:`convert_sync_bn` passes the
    new ones over.
    """
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, SplitBatchNorm2d(child, splits))
        else:
            convert_split_bn(child, splits)
    return module

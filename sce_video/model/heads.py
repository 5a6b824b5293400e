"""MLP heads on the trunk: projector (both branches) and predictor (online branch)."""

from __future__ import annotations

from torch import nn


def mlp_head(
    features: int,
    dim: int,
    *,
    layers: int,
    hidden: int,
    norm: bool,
    last_norm: bool,
    last_bias: bool,
) -> nn.Sequential:
    """Build the MLP ``[B,features] -> [B,dim]`` of one of the methods.

    The papers' own, as (layers, norm, last_norm, last_bias): the projector of SCE on videos and on
    ImageNet, of MoCo v3 and SNCLR (3, true, true, false); SCE's predictor (2, true, false, false),
    MoCo v3's and SNCLR's (2, true, true, false); SCE's projector on CIFAR (2, true, false, true);
    MoCo v2's (2, false, false, true); the single layer of MoCo v1, CMC and Ring (1, any, false,
    true).

    Args:
        features: width of the input.
        dim: width of the output.
        layers: linear ones, at least 1; ReLU between them.
        hidden: width between layers; a single layer has none.
        norm: BN before each ReLU; these layers then have no bias.
        last_norm: BN without affine at the end.
        last_bias: of the last linear layer.
    """
    modules: list[nn.Module] = []
    for _ in range(layers - 1):
        modules.append(nn.Linear(features, hidden, bias=not norm))
        modules += [nn.BatchNorm1d(hidden)] if norm else []
        modules.append(nn.ReLU(inplace=True))
        features = hidden
    modules.append(nn.Linear(features, dim, bias=last_bias))
    modules += [nn.BatchNorm1d(dim, affine=False)] if last_norm else []
    return nn.Sequential(*modules)

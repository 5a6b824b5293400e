"""MLP heads on the trunk: projector (both branches) and predictor (online branch)."""

from __future__ import annotations

from torch import nn


def projector(features: int, hidden: int, dim: int) -> nn.Sequential:
    """Three-layer projector ``[B,features] -> [B,dim]`` of the published video runs.

    Linear without bias, BN, ReLU, twice; Linear without bias; BN without affine.
    """
    return nn.Sequential(
        nn.Linear(features, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, dim, bias=False),
        nn.BatchNorm1d(dim, affine=False),
    )


def predictor(dim: int, hidden: int) -> nn.Sequential:
    """Two-layer predictor ``[B,dim] -> [B,dim]``: Linear, BN, ReLU, Linear; no biases."""
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, dim, bias=False),
    )

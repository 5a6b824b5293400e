"""Objectives: a pure function each, what it remembers, and the module that trains."""

from sce_video.objectives.infonce import info_nce_loss, mocov3_loss
from sce_video.objectives.instance import instance_loss
from sce_video.objectives.ressl import ressl_loss
from sce_video.objectives.ring import Ring, ring_loss
from sce_video.objectives.sce import sce_loss
from sce_video.objectives.simclr import simclr_loss
from sce_video.objectives.snclr import snclr_loss

__all__ = [
    "Ring",
    "info_nce_loss",
    "instance_loss",
    "mocov3_loss",
    "ressl_loss",
    "ring_loss",
    "sce_loss",
    "simclr_loss",
    "snclr_loss",
]

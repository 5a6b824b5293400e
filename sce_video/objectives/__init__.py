"""Objectives: a pure function each, what it remembers, and the module that trains."""

from sce_video.objectives.infonce import info_nce_loss as info_nce_loss
from sce_video.objectives.infonce import mocov3_loss as mocov3_loss
from sce_video.objectives.instance import instance_loss as instance_loss
from sce_video.objectives.ressl import ressl_loss as ressl_loss
from sce_video.objectives.ring import Ring as Ring
from sce_video.objectives.ring import ring_loss as ring_loss
from sce_video.objectives.sce import sce_loss as sce_loss
from sce_video.objectives.simclr import simclr_loss as simclr_loss
from sce_video.objectives.snclr import snclr_loss as snclr_loss

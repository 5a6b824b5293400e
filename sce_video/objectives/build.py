"""From a config's ``objective`` section to the module that trains.

A new objective: a file with its pure function (and a module, where :class:`Pairwise` does not do),
a section in ``config/objectives.py``, a case here, a test file against slow formulas, and a row in
configs/README.md's table.
"""

from __future__ import annotations

from functools import partial

from sce_video.config.objectives import Objective as Section
from sce_video.objectives.base import Objective, Pairwise
from sce_video.objectives.infonce import info_nce_loss, mocov3_loss
from sce_video.objectives.instance import InstanceContrast, instance_loss
from sce_video.objectives.memory import Bank, Queue
from sce_video.objectives.ressl import ressl_loss
from sce_video.objectives.ring import Ring, RingContrast, annealed_outer, ring_loss
from sce_video.objectives.sce import sce_loss
from sce_video.objectives.simclr import SimCLR
from sce_video.objectives.snclr import SNCLR


def build_objective(
    section: Section, *, dim: int, seed: int, samples: int, epoch_steps: int
) -> Objective:
    """The module of a section, its memory fresh and the same on every rank.

    Args:
        section: of the config.
        dim: width of the embeddings.
        seed: of the memory's start and of draws.
        samples: rows of the shard set's index, for a bank.
        epoch_steps: optimizer steps an epoch, for schedules.
    """
    # What the cases leave here are the pure function's own arguments.
    settings = section.model_dump(exclude={"name"})
    size = settings.pop("queue", None)
    pairs = {k: settings.pop(k) for k in ("symmetric", "gather_keys") if k in settings}
    queue = Queue(dim, size, seed) if size and section.name != "snclr" else None
    match section.name:
        case "sce":
            ring = _ring(settings)
            chosen = ring if settings.pop("negatives") == "ring" else None
            return Pairwise(partial(sce_loss, ring=chosen, **settings), queue, **pairs)
        case "info_nce":
            return Pairwise(partial(info_nce_loss, **settings), queue, **pairs)
        case "ressl":
            return Pairwise(partial(ressl_loss, **settings), queue, **pairs)
        case "mocov3":
            loss, directions = partial(mocov3_loss, **settings), 1 + pairs["symmetric"]
            return Pairwise(loss, gather_keys=True, scale=directions, **pairs)  # their sum
        case "simclr":
            return SimCLR(**settings)
        case "snclr":
            return SNCLR(Queue(dim, size, seed, overflow="drop"), **settings)
        case "ring":
            steps, shape = settings.pop("anneal_epochs") * epoch_steps, settings.pop("anneal")
            outer = partial(annealed_outer, steps=steps, shape=shape) if shape else None
            return RingContrast(partial(ring_loss, **settings), queue, outer, **pairs)
        case "ir" | "cmc":
            momentum, ring = settings.pop("bank_momentum"), _ring(settings)
            seeds = [seed] if section.name == "ir" else [seed, seed + 1]
            banks = [Bank(samples, dim, momentum, number) for number in seeds]
            drawn = settings.pop("negatives")
            loss = partial(instance_loss, ring=ring, **settings)
            return InstanceContrast(loss, banks, drawn, seed)


def _ring(settings: dict[str, float]) -> Ring:
    """Takes the ring's own keys out of the settings."""
    return Ring(settings.pop("outer"), settings.pop("inner"), bool(settings.pop("dynamic_inner")))

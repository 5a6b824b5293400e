"""DeepSpeed's engine from our configuration: batch size, accumulation, precision are ours."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from sce_video.config import Config
from sce_video.errors import UsageError

_OURS = {
    "train_batch_size": "train.batch_size",
    "train_micro_batch_size_per_gpu": "train.batch_size and train.accumulate",
    "gradient_accumulation_steps": "train.accumulate",
    "gradient_clipping": "nothing: LARS is scale-free and SCE's gradients are bounded",
    "optimizer": "optim",
    "scheduler": "optim",
    "fp16": "train.precision",
    "bf16": "train.precision",
    "amp": "train.precision",
    "torch_autocast": "train.precision",
}


def deepspeed_config(config: Config, ranks: int) -> dict[str, Any]:
    """The dict for ``deepspeed.initialize``.

    Raises:
        UsageError: the ``deepspeed`` section has a key that is ours to set.
    """
    section = config.deepspeed.model_dump()
    for key, ours in _OURS.items():
        if key in section:
            raise UsageError(f"deepspeed.{key}: not to be set there; use {ours}")
    if section["zero_optimization"].get("round_robin_gradients"):
        raise UsageError(
            "deepspeed.zero_optimization.round_robin_gradients: not supported, "
            "DeepSpeed's own map of the partitions is wrong with it"
        )
    train = config.train
    return {
        **section,
        "train_batch_size": train.batch_size,
        "train_micro_batch_size_per_gpu": train.batch_size // (train.accumulate * ranks),
        "gradient_accumulation_steps": train.accumulate,
        "gradient_clipping": 0.0,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31 - 1,
    }


def initialize(module: nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, Any]) -> Any:
    """Wrap ``module`` in DeepSpeed's engine; the process group must be up."""
    import deepspeed

    # On a CPU DeepSpeed would compile an all-reduce that only its inference uses: a minute's
    # build, and a C++ compiler to install, for nothing.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # It warns of every optimizer but its own; ours is verified against the partitions at start.
    logging.getLogger("DeepSpeed").addFilter(lambda r: "untested optimizer" not in r.getMessage())
    return deepspeed.initialize(model=module, optimizer=optimizer, config=config)[0]

"""DeepSpeed's engine from our configuration: batch size, accumulation, precision are ours."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from sce_video.config.tasks import Config
from sce_video.engine.optim.build import build_optimizer
from sce_video.engine.optim.lars import LARS
from sce_video.engine.zero_layout import Segment, zero_layout
from sce_video.errors import UsageError

_PRECISION = "use train.precision: parameters stay fp32, DeepSpeed would cast BN with the rest"
_OPTIMIZER = "use optim: its LARS and its schedule are exact in every stage, DeepSpeed has none"
_OURS = {
    "train_batch_size": "use train.batch_size",
    "train_micro_batch_size_per_gpu": "use train.batch_size and train.accumulate",
    "gradient_accumulation_steps": "use train.accumulate",
    "gradient_clipping": "use optim.clip_norm",
    "timers": "use sce-video bench step",
    "optimizer": _OPTIMIZER,
    "scheduler": _OPTIMIZER,
    "fp16": _PRECISION,
    "bf16": _PRECISION,
    "amp": _PRECISION,
    "torch_autocast": _PRECISION,
    "activation_checkpointing": "use train.checkpoint_activations",
    "zero_allow_untested_optimizer": "it is always true, optim is verified at start",
    "zero_force_ds_cpu_optimizer": "it is always false, DeepSpeed's CPU optimizers are not optim's",
}
# What the tests compare with stage 0; DeepSpeed's others change the result or hide the partitions.
_ZERO = frozenset(
    {
        "stage",
        "overlap_comm",
        "contiguous_gradients",
        "reduce_scatter",
        "reduce_bucket_size",
        "allgather_partitions",
        "allgather_bucket_size",
        "offload_optimizer",
        "sub_group_size",
        "stage3_max_live_parameters",
        "stage3_max_reuse_distance",
        "stage3_prefetch_bucket_size",
        "stage3_param_persistence_threshold",
        "stage3_model_persistence_threshold",
    }
)


def deepspeed_config(config: Config, ranks: int, weights: int) -> dict[str, Any]:
    """The dict for ``deepspeed.initialize``.

    Args:
        config: of the run.
        ranks: of the run.
        weights: elements that are trained.

    Raises:
        UsageError: the ``deepspeed`` section has a key that is ours to set, or one under which
            the stages would not agree.
    """
    section = config.deepspeed.model_dump()
    for key, instead in _OURS.items():
        if key in section:
            raise UsageError(f"deepspeed.{key}: not to be set there; {instead}")
    _check_zero(section["zero_optimization"])
    train, zero = config.train, section["zero_optimization"]
    if zero["stage"]:  # all gradients fit in: DeepSpeed's own size would reserve 2 GB
        zero = {"reduce_bucket_size": weights, **zero}
    return {
        **section,
        # True replaces torch's linear layer in the whole process.
        "zero_optimization": {**zero, "memory_efficient_linear": False},
        "train_batch_size": train.batch_size,
        "train_micro_batch_size_per_gpu": train.batch_size // (train.accumulate * ranks),
        "gradient_accumulation_steps": train.accumulate,
        "gradient_clipping": config.optim.clip_norm,
        # DeepSpeed's clock waits for the device in every forward pass and every step.
        "timers": {"throughput": {"enabled": False}},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31 - 1,
    }


def _check_zero(section: dict[str, Any]) -> None:
    where = "deepspeed.zero_optimization"
    if section.get("round_robin_gradients"):
        raise UsageError(
            f"{where}.round_robin_gradients: not supported, "
            "DeepSpeed's own map of the partitions is wrong with it"
        )
    for key in section.keys() - _ZERO - {"round_robin_gradients"}:
        raise UsageError(f"{where}.{key}: not supported; known are {', '.join(sorted(_ZERO))}")
    offload = section.get("offload_optimizer") or {"device": "none"}
    if not isinstance(offload, dict) or offload.keys() - {"device", "pin_memory"}:
        raise UsageError(f"{where}.offload_optimizer: give device and pin_memory alone")
    if offload.get("device") not in ("cpu", "none"):
        raise UsageError(f"{where}.offload_optimizer.device: cpu or none, others are not supported")
    if section["stage"] == 0 and offload["device"] == "cpu":
        raise UsageError(f"{where}.offload_optimizer: needs stage 1, 2 or 3, stage 0 ignores it")


def count_trained(module: nn.Module) -> int:
    """Elements of the parameters below ``module`` that are trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def build_engine(module: nn.Module, config: Config, ranks: int) -> tuple[Any, list[Segment]]:
    """DeepSpeed's engine around ``module``, and where its optimizer keeps the parameters.

    The process group must be up.

    Args:
        module: with all that a checkpoint must hold.
        config: of the run.
        ranks: of the run.

    Raises:
        UsageError: as :func:`deepspeed_config`.
        SceVideoError: a DeepSpeed that lays parameters out differently.
    """
    settings = deepspeed_config(config, ranks, count_trained(module))
    import deepspeed

    # On a CPU DeepSpeed would compile an all-reduce that only its inference uses: a minute's
    # build, and a C++ compiler to install, for nothing.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # It warns of every optimizer but its own; ours is verified against the partitions at start.
    logging.getLogger("DeepSpeed").addFilter(lambda r: "untested optimizer" not in r.getMessage())
    optimizer = build_optimizer(module, config.optim)
    engine = deepspeed.initialize(model=module, optimizer=optimizer, config=settings)[0]
    segments = zero_layout(engine)
    if isinstance(optimizer, LARS) and engine.zero_optimization_stage() > 0:
        names = [n for n, p in module.named_parameters() if p.requires_grad]
        optimizer.bind(segments, {name: i for i, name in enumerate(names)}, engine.device)
    return engine, segments

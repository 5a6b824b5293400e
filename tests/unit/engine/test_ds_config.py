"""What of DeepSpeed's section is ours, and what is refused with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from sce_video.config.tasks import PretrainConfig
from sce_video.engine.ds_config import deepspeed_config
from sce_video.errors import UsageError


def config(section: dict[str, Any], **optim: Any) -> PretrainConfig:
    tree = {
        "data": {"shards": "none"},
        "train": {"batch_size": 24, "accumulate": 2},
        "optim": optim,
        "deepspeed": section,
    }
    return PretrainConfig.model_validate(tree)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("train_batch_size", "use train.batch_size"),
        ("train_micro_batch_size_per_gpu", "train.accumulate"),
        ("gradient_accumulation_steps", "use train.accumulate"),
        ("gradient_clipping", "use optim.clip_norm"),
        ("optimizer", "use optim: its LARS"),
        ("scheduler", "use optim: its LARS"),
        ("bf16", "parameters stay fp32"),
        ("fp16", "parameters stay fp32"),
        ("amp", "parameters stay fp32"),
        ("activation_checkpointing", "use train.checkpoint_activations"),
        ("torch_autocast", "parameters stay fp32"),
        ("zero_allow_untested_optimizer", "always true"),
        ("zero_force_ds_cpu_optimizer", "always false"),
    ],
)
def test_what_is_ours_is_refused(key: str, reason: str) -> None:
    with pytest.raises(UsageError, match=rf"deepspeed\.{key}: not to be set there; .*{reason}"):
        deepspeed_config(config({key: 1}), ranks=2, weights=9)


@pytest.mark.parametrize(
    ("zero", "reason"),
    [
        ({"round_robin_gradients": True}, r"round_robin_gradients: .* partitions is wrong"),
        ({"stage": 3, "offload_param": {"device": "cpu"}}, "offload_param: not supported; known"),
        ({"zero_hpz_partition_size": 2}, "zero_hpz_partition_size: not supported"),
        ({"offload_optimizer": {"device": "nvme"}}, "offload_optimizer.device: cpu or none"),
        (
            {"offload_optimizer": {"device": "cpu", "ratio": 0.5}},
            "offload_optimizer: give device and",
        ),
        (
            {"stage": 0, "offload_optimizer": {"device": "cpu"}},
            "offload_optimizer: needs stage 1, 2 or 3",
        ),
    ],
)
def test_zero_settings_that_break_the_agreement_are_refused(
    zero: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=rf"deepspeed\.zero_optimization\.{reason}"):
        deepspeed_config(config({"zero_optimization": zero}), ranks=2, weights=9)


def test_the_rest_is_passed_on_and_ours_is_written() -> None:
    zero = {"stage": 2, "overlap_comm": True, "offload_optimizer": {"device": "cpu"}}
    made = deepspeed_config(
        config({"zero_optimization": zero, "wall_clock_breakdown": True}, clip_norm=0.5),
        ranks=3,
        weights=9,
    )
    ours = {"reduce_bucket_size": 9, "memory_efficient_linear": False}
    assert made["zero_optimization"] == {**zero, **ours}
    assert made["wall_clock_breakdown"] is True
    assert made["gradient_clipping"] == 0.5
    assert made["timers"] == {"throughput": {"enabled": False}}
    assert made["train_batch_size"] == 24
    assert made["train_micro_batch_size_per_gpu"] == 4
    assert made["gradient_accumulation_steps"] == 2


@pytest.mark.parametrize(
    ("zero", "bucket"),
    [({"stage": 0}, None), ({"stage": 1}, 9), ({"stage": 3, "reduce_bucket_size": 5}, 5)],
)
def test_gradients_get_a_buffer_of_their_size(zero: dict[str, Any], bucket: int | None) -> None:
    made = deepspeed_config(config({"zero_optimization": zero}), ranks=2, weights=9)
    assert made["zero_optimization"].get("reduce_bucket_size") == bucket

"""``torchrun tests/dist/traffic.py CONFIG key=value ...``: bytes that a step sends, as planned.

Prints two numbers, of the last step: planned, and counted where torch's collectives are called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d

SENT: list[float] = [0.0]


def count(name: str, share: Callable[[int], float]) -> None:
    """Add ``share(ranks)`` of the bytes that go into every call of a collective."""
    original = getattr(dist, name)

    def counted(*args: Any, **keys: Any) -> Any:
        tensor = keys.get("input_tensor", keys.get("tensor", args[-1] if args else None))
        SENT[0] += tensor.nbytes * share(dist.get_world_size())  # type: ignore[union-attr]
        return original(*args, **keys)

    for module in (dist, distributed_c10d):
        setattr(module, name, counted)


def main() -> None:
    """Count a run's last step."""
    count("all_reduce", lambda n: 2 * (n - 1) / n)
    count("all_gather", lambda n: n - 1)
    count("all_gather_into_tensor", lambda n: n - 1)

    from sce_video.config.load import load_config
    from sce_video.engine.cost import cost
    from sce_video.engine.loop import Trainer
    from sce_video.stream.data import planned_data
    from sce_video.train import train

    config = load_config(sys.argv[1], sys.argv[2:])
    plan, _ = planned_data(config, None, int(os.environ["WORLD_SIZE"]))
    planned = sum(cost(config, plan, bf16=False, cuda=False).sent.values())
    step = Trainer._train_step
    seen: list[float] = []

    def counted(*args: Any) -> Any:
        before = SENT[0]
        outcome = step(*args)
        seen.append(SENT[0] - before)
        return outcome

    Trainer._train_step = counted  # type: ignore[method-assign, assignment]
    train(config)
    if os.environ["RANK"] == "0":
        print("traffic", planned, seen[-1])


if __name__ == "__main__":
    main()

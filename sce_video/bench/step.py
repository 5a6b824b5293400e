"""What a training step is made of: its parts called bare, beside the step as it is trained.

Clips are made, so no shard set is read. Whenever the trainer, engine and loop included, has taken
some steps, as many are taken in plain torch by networks of their own: other load on the machine
meets both alike. The rate is 0: nothing is learned.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from sce_video.bench.bare import PARTS, Bare
from sce_video.bench.clock import now
from sce_video.bench.made import made_plan, make_task, still
from sce_video.bench.stages import processor, short_run
from sce_video.config.tasks import AnyConfig
from sce_video.engine.clip_task import runs_bf16
from sce_video.engine.cost import cost
from sce_video.engine.loop import Trainer
from sce_video.engine.runtime import start_runtime, stop_runtime
from sce_video.errors import Interrupted

REST = "engine and loop"

BLOCK = {"cuda": 5, "cpu": 1}
"""Steps of either kind in turn: on a GPU each turn ends with a wait, which a run does not have."""

MOST = {"cuda": 1.03, "cpu": 1.05}
"""What a step as trained is to stay within, of its bare parts."""

_WARM = 3  # steps of either kind before those that count: they compile, and fill caches


class Turns:
    """Bare steps whenever a trainer has taken ``block``; what either took."""

    def __init__(self, bare: Bare, device: torch.device, block: int) -> None:
        self.trained: list[float] = []  # seconds of a step, of each block
        self.parts: list[dict[str, float]] = []  # of each bare step
        self.peak: int | None = None  # most bytes of a block of trained steps, on a GPU
        self._bare, self._device, self._block = bare, device, block
        self._cuda = device.type == "cuda"
        bare.take(_WARM)
        self._held = torch.cuda.memory_allocated(device) if self._cuda else 0  # by bare's networks
        self._began = 0.0

    def __call__(self, step: int) -> None:
        """The trainer asks for the clips of ``step``."""
        done = step - _WARM
        if done < 0 or done % self._block:
            return
        with self._stream(), torch.enable_grad():
            if done:
                self.trained.append((now(self._device) - self._began) / self._block)
                if self._cuda:
                    held = torch.cuda.max_memory_allocated(self._device) - self._held
                    self.peak = max(self.peak or 0, held)
                self.parts += self._bare.take(self._block)
            if self._cuda:
                torch.cuda.reset_peak_memory_stats(self._device)
            self._began = now(self._device)

    def _stream(self) -> AbstractContextManager[object]:
        """The step's own, wherever its clips are asked for."""
        if not self._cuda:
            return nullcontext()
        return torch.cuda.stream(torch.cuda.default_stream(self._device))


def measure_step(config: AnyConfig, steps: int) -> dict[str, Any]:
    """Take ``steps`` steps as they are trained, and as many part by part; figures as JSON values.

    Args:
        config: of the run; its data, folder, first weights, tracking and evaluation are left out.
        steps: optimizer steps of each kind that count; whole blocks of them are taken.

    Raises:
        UsageError: as training, before its first step.
        SceVideoError: as training.
        Interrupted: by a signal.
    """
    with tempfile.TemporaryDirectory(prefix="sce-video-bench-") as folder:
        runtime = start_runtime(config.data.workers)
        try:
            device, threads = runtime.device, torch.get_num_threads()
            block = BLOCK[device.type]
            last = _WARM + math.ceil(steps / block) * block  # whose clips are asked for at the end
            plan = made_plan(config, last + 1)
            config = still(short_run(config, folder, last + 1, config.track.every))
            bare, task = (make_task(config, plan, runtime) for _ in range(2))
            turns = task.asked = Turns(Bare(bare), device, block)
            Trainer(task).run()
        except Interrupted as error:
            raise Interrupted("interrupted") from error
        finally:
            stop_runtime()
    cuda = device.type == "cuda"
    need = cost(config, plan, bf16=runs_bf16(config, cuda=cuda), cuda=cuda)
    found = breakdown(turns.parts, turns.trained, MOST[device.type])
    return {
        "machine": f"{processor()}; {runtime.environment()}",
        "device": device.type,
        "threads": threads,
        "trunk": config.model.trunk,
        "batch_size": config.train.batch_size,
        **found,
        "memory": {"peak": turns.peak, "plan": sum(need.memory.values())},
        "flops": need.flops,
        "flops_per_s": need.flops / (found["step"]["ms"] / 1000),
    }


def breakdown(
    parts: Sequence[Mapping[str, float]], trained: Sequence[float], most: float
) -> dict[str, Any]:
    """Medians of what was measured.

    Args:
        parts: of each bare step, seconds by part.
        trained: seconds of a step as trained, of each block; the bare steps of the same number
            were taken right after it.
        most: what ``ratio`` is to stay within.

    Returns:
        ``steps`` that were taken of each kind; ``parts``, a row each (``name``, ``ms`` a step,
        ``spread``: the middle half over the median, ``share`` of the step as trained), the last of
        them the engine's and the loop's: what a step takes beyond the bare ones after it, below 0
        where parts overlap; ``bare`` and ``step``, such rows; ``ratio`` of the two, the median of
        the blocks', ``most``, and whether it is ``met``.
    """
    step, whole = np.array(trained), float(np.median(trained))
    bare = np.array([sum(each.values()) for each in parts])
    blocks = bare.reshape(len(step), -1).mean(1)
    names = [name for name in PARTS if name in parts[0]]
    rows = [_row(name, [each[name] for each in parts], whole) for name in names]
    left = float(np.median(step - blocks))
    rows.append({"name": REST, "ms": 1000 * left, "spread": None, "share": left / whole})
    ratio = float(np.median(step / blocks))
    return {
        "steps": len(parts),
        "parts": rows,
        "bare": _row("bare parts", bare, whole),
        "step": _row("step as trained", step, whole),
        "ratio": ratio,
        "most": most,
        "met": ratio <= most,
    }


def _row(name: str, seconds: Any, whole: float) -> dict[str, Any]:
    low, middle, high = (float(x) for x in np.percentile(seconds, (25, 50, 75)))
    spread = (high - low) / middle if middle else 0.0
    return {"name": name, "ms": 1000 * middle, "spread": spread, "share": middle / whole}


def step_table(result: Mapping[str, Any]) -> str:
    """What :func:`measure_step` found, for people."""
    lines = [
        f"{result['machine']}; {result['threads']} thread(s)",
        f"{result['trunk']} on {result['device']}, {result['batch_size']} samples a step, one "
        "process; clips are made, no shard set is read; "
        f"medians of {result['steps']} steps of each kind",
        "",
        f"{'':<28}{'ms a step':>12}{'spread':>8}{'share':>8}",
    ]
    for row in [*result["parts"], result["bare"], result["step"]]:
        spread = "" if row["spread"] is None else f"{row['spread']:.0%}"
        lines.append(f"{row['name']:<28}{row['ms']:>12,.2f}{spread:>8}{row['share']:>8.1%}")
    peak, plan = (result["memory"][name] for name in ("peak", "plan"))
    held = "not measured on a CPU" if peak is None else f"{peak / 2**30:.3g} GiB"
    lines += [
        "",
        f"step as trained: {result['ratio']:.3f} times its bare parts (at most "
        f"{result['most']:.2f}: {'met' if result['met'] else 'not met'})",
        f"memory at the peak: {held}; the plan says {plan / 2**30:.3g} GiB",
        f"{result['flops'] / result['batch_size'] / 1e9:.3g} GFLOP a sample: "
        f"{result['flops_per_s'] / 1e12:.3g} TFLOP/s",
    ]
    return "\n".join(lines)

"""What the ranks agree on in every step: its figures, and whether it is taken or is the last."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from sce_video.config.tasks import Config
from sce_video.engine.runtime import Runtime
from sce_video.errors import Interrupted, SceVideoError

log = logging.getLogger("sce_video")

_MIN_BAD = 10  # bad samples that are always tolerated


class StepLoss(NamedTuple):
    """One micro-batch's outcome."""

    loss: Tensor  # scalar with gradient, mean over the local micro-batch
    parts: dict[str, Tensor]  # detached scalars to log
    bad: list[tuple[str, str]]  # (shard/key, reason) of samples that were replaced
    keys: list[str]  # shard/key of the samples
    cpu: float  # seconds of CPU that making the batch took in a worker


class Reason(Enum):
    """Why training ends, with what a rank says that has no error of its own.

    Of several the first counts. For the first two the step in hand is not taken, for the others it
    is the last. A launcher ends what feeds us, too: STOPPED comes before STARVED.
    """

    INFINITE = "the loss of step {step} is not finite: see {log}"
    UNWRITTEN = "no checkpoint was written: see {log}"
    STOPPED = (
        "stopped by a signal after step {step}; continue with the same command and run.resume=true"
    )
    STARVED = "another rank has no more clips: see {log}"
    BAD = (
        "{bad} of {seen} samples were bad (data.max_bad_fraction allows {allowed}): {reasons}; "
        "all are named in {log}; a set with an index is checked by python -m sce_video.shard verify"
    )


Given = BaseException | bool | None
"""Whether a rank has a reason to end, or the error that it would raise."""

NOT_TAKEN = (Reason.INFINITE, Reason.UNWRITTEN)
"""Reasons for which the step in hand is not taken."""


def decide(told: Mapping[Reason, int], bad: int, allowed: int) -> Reason | None:
    """Why training ends; the same on all ranks. None = it goes on.

    Args:
        told: how many ranks gave each reason.
        bad: samples that all ranks had to replace so far, this step's included.
        allowed: such samples that are tolerated.
    """
    ended = {**told, Reason.BAD: bad > allowed}
    return next((reason for reason in Reason if ended.get(reason)), None)


def allowed_bad(seen: int, fraction: float) -> int:
    """Bad samples among ``seen`` that are tolerated: a fraction, at least ten."""
    return max(_MIN_BAD, math.ceil(fraction * seen))


def name_samples(outcomes: list[StepLoss]) -> None:
    """Log the samples of a step whose loss or gradient is not finite."""
    log.error("not finite: samples %s", ", ".join(key for o in outcomes for key in o.keys))


class Agreement:
    """One exchange a step: all ranks get the same figures and the same reason to end."""

    def __init__(self, config: Config, runtime: Runtime, epoch_steps: int, log_file: Path) -> None:
        """``log_file``: where messages send the reader."""
        self._config, self._runtime, self._log_file = config, runtime, log_file
        self._epoch_steps = epoch_steps
        self._steps = 0  # since the start, or the resume
        self._bad = 0  # different samples, of all ranks
        self._known: set[str] = set()  # of this rank
        self._reasons: Counter[str] = Counter()  # of this rank's bad samples

    def reach(
        self, step: int, outcomes: list[StepLoss], own: Mapping[Reason, Given]
    ) -> tuple[dict[str, Any], BaseException | None]:
        """Average the scalars of a step over micro-batches and ranks; a collective call.

        Args:
            step: 1-based.
            outcomes: of this rank's micro-batches.
            own: what this rank gives for each reason.

        Returns:
            Scalars to log, and what to raise after this step, if it is the last.

        Raises:
            SceVideoError: on all ranks, where this step must not be taken.
        """
        parts = [{"loss": o.loss, **o.parts} for o in outcomes]
        row = {name: torch.stack([p[name].float() for p in parts]).mean() for name in parts[0]}
        bad = self._note([sample for o in outcomes for sample in o.bad])
        finite = bool(torch.isfinite(row["loss"]))
        own = {Reason.INFINITE: not finite, **own}
        flags = torch.tensor([*map(bool, own.values()), bad], device=row["loss"].device)
        values = torch.cat([torch.stack(list(row.values())), flags.to(row["loss"].dtype)])
        dist.all_reduce(values)
        *told, new_bad = values[len(row) :].int().tolist()
        self._steps += 1
        self._bad += new_bad
        steps = min(self._steps, self._epoch_steps)  # after an epoch the samples recur
        seen = steps * self._config.train.batch_size
        allowed = allowed_bad(seen, self._config.data.max_bad_fraction)
        why = decide(dict(zip(own, told, strict=True)), self._bad, allowed)
        if why is Reason.INFINITE and not finite:  # the rank that has them names them
            name_samples(outcomes)
        facts = {"step": step, "seen": seen, "allowed": allowed}
        error = self._error(why, own.get(why), facts) if why else None
        if error and why in NOT_TAKEN:
            raise error
        mean = dict(zip(row, values[: len(row)] / self._runtime.ranks, strict=True))
        return {**mean, "bad_samples": float(self._bad)}, error

    def _note(self, bad: list[tuple[str, str]]) -> int:
        """Log the bad samples that this rank had not met before; how many they are."""
        new = [(name, why) for name, why in bad if name not in self._known]
        for name, why in new:
            log.warning("bad sample %s: %s; replaced by the next", name, why)
            self._known.add(name)
            self._reasons[why] += 1
        return len(new)

    def _error(self, why: Reason, given: Given, facts: dict[str, int]) -> BaseException:
        """This rank's own error, or what all say. For BAD a collective call: their reasons."""
        if isinstance(given, BaseException):
            return given
        found: list[Counter[str] | None] = [None] * self._runtime.ranks
        if why is Reason.BAD:
            dist.all_gather_object(found, self._reasons)
        most = sum((reasons for reasons in found if reasons), Counter()).most_common(3)
        reasons = ", ".join(f"{count} x {text}" for text, count in most)
        text = why.value.format(log=self._log_file, bad=self._bad, reasons=reasons, **facts)
        return Interrupted(text) if why is Reason.STOPPED else SceVideoError(text)

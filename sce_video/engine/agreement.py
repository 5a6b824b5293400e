"""What the ranks agree on in every step: its figures, and whether it is taken or is the last."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple

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
    counted: dict[str, tuple[Tensor, Tensor]]  # to log: sum over some samples, and their number


GO_ON = "continue with the same command and run.resume=auto"


class Reason(Enum):
    """Why training ends, with what a rank says that has no error of its own.

    Of several the first counts. For the first three the step in hand is not taken, for the others
    it is the last. A launcher ends what feeds us, too: STOPPED comes before STARVED. TIME is of the
    main rank's clock.
    """

    INFINITE = "the loss of step {step} is not finite: see {log}"
    GRADIENT = "the gradient of step {step} is not finite: see {log}"
    UNWRITTEN = "no checkpoint was written: see {log}"
    STOPPED = f"stopped by a signal after step {{step}}; {GO_ON}"
    TIME = f"stopped after step {{step}}, before the time is up (see {{log}}); {GO_ON}"
    STARVED = "another rank has no more clips: see {log}"
    BAD = (
        "{bad} of {seen} samples were bad (data.max_bad_fraction allows {allowed}): {reasons}; "
        "all are named in {log}; a set with an index is checked by python -m sce_video.shard verify"
    )


Given = BaseException | bool | None
"""Whether a rank has a reason to end, or the error that it would raise."""

NOT_TAKEN = (Reason.INFINITE, Reason.GRADIENT, Reason.UNWRITTEN)
"""Reasons for which the step in hand is not taken."""


def decide(told: Mapping[Reason, float], bad: int, allowed: int) -> Reason | None:
    """Why training ends; the same on all ranks. None = it goes on.

    Args:
        told: how many ranks gave each reason, or whether all know it.
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


def read(values: Tensor) -> list[float]:
    """What is in ``values``: the step's one wait for the device."""
    found: list[float] = values.tolist()
    return found


class Agreed(NamedTuple):
    """What all ranks know after a step."""

    row: dict[str, float]  # scalars to log
    end: BaseException | None  # what to raise after this step, if it is the last
    save: bool  # whether a rank asks for a checkpoint


class Agreement:
    """One exchange a step: all ranks get the same figures and the same reason to end.

    All that the host must know travels in one tensor, behind the backward pass and before the
    optimizer: with what the feed has queued beside it, the device has work meanwhile.
    """

    def __init__(self, config: Config, runtime: Runtime, epoch_steps: int, log_file: Path) -> None:
        """``log_file``: where messages send the reader."""
        self._config, self._runtime, self._log_file = config, runtime, log_file
        self._epoch_steps = epoch_steps
        self._steps = 0  # since the start, or the resume
        self._bad = 0  # different samples, of all ranks
        self._known: set[str] = set()  # of this rank
        self._reasons: Counter[str] = Counter()  # of this rank's bad samples

    def begin(self, step: int, own: Mapping[Reason, Given]) -> None:
        """Agree that there is a first step to take, after ``step``; a collective call.

        Raises:
            SceVideoError: on all ranks, where one has a reason against it in ``own``.
        """
        flags = torch.tensor([*map(float, map(bool, own.values()))]).to(self._runtime.device)
        dist.all_reduce(flags)
        told = dict(zip(own, read(flags), strict=True))
        if why := decide(told, 0, 0):
            raise self._error(why, own[why], {"step": step, "seen": 0, "allowed": 0})

    def reach(
        self,
        step: int,
        outcomes: list[StepLoss],
        square: Tensor,
        own: Mapping[Reason, Given],
        *,
        save: bool = False,
    ) -> Agreed:
        """Average the scalars of a step over micro-batches and ranks; a collective call.

        Args:
            step: 1-based.
            outcomes: of this rank's micro-batches.
            square: what this rank adds to the gradient's squared norm, a float64 scalar.
            own: what this rank gives for each other reason.
            save: whether this rank asks for a checkpoint.

        Raises:
            SceVideoError: on all ranks, where this step must not be taken.
        """
        bad = self._note([sample for o in outcomes for sample in o.bad])
        row, (infinite, *told, saves, new_bad), infinite_here = self._exchange(
            outcomes, square, [*map(bool, own.values()), save, bad]
        )
        self._steps += 1
        self._bad += int(new_bad)
        steps = min(self._steps, self._epoch_steps)  # after an epoch the samples recur
        seen = steps * self._config.train.batch_size
        allowed = allowed_bad(seen, self._config.data.max_bad_fraction)
        reasons = dict(zip(own, told, strict=True)) | {
            Reason.INFINITE: infinite,
            Reason.GRADIENT: not math.isfinite(row["grad_norm"]),
        }
        why = decide(reasons, self._bad, allowed)
        # The rank that has them names them; of a gradient that is a sum, all do.
        if (why is Reason.INFINITE and infinite_here) or why is Reason.GRADIENT:
            name_samples(outcomes)
        facts = {"step": step, "seen": seen, "allowed": allowed}
        error = self._error(why, own.get(why), facts) if why else None
        if error and why in NOT_TAKEN:
            raise error
        return Agreed({**row, "bad_samples": float(self._bad)}, error, saves > 0)

    def _exchange(
        self, outcomes: list[StepLoss], square: Tensor, told: list[bool | int]
    ) -> tuple[dict[str, float], list[float], bool]:
        """The row to log; infinite losses and ``told``, summed over ranks; whether ours is one."""
        names, counted = ["loss", *outcomes[0].parts], list(outcomes[0].counted)
        figures = [torch.stack([o.loss, *o.parts.values()]) for o in outcomes]
        means = torch.stack(figures).double().mean(0)
        pairs = [x for o in outcomes for pair in o.counted.values() for x in pair]
        sums = torch.stack(pairs).double() if pairs else means.new_zeros(0)
        sums = sums.view(len(outcomes), -1).sum(0)
        infinite = (~means[:1].isfinite()).double()
        flags = torch.tensor(told, dtype=means.dtype).to(means.device, non_blocking=True)
        sent = torch.cat([means, sums, square[None], infinite, flags])
        dist.all_reduce(sent)
        *values, infinite_here = read(torch.cat([sent, infinite]))
        found = iter(values)
        row = {name: next(found) / self._runtime.ranks for name in names}
        for name in counted:
            total, count = next(found), next(found)
            row |= {name: total / count} if count else {}
        row["grad_norm"] = math.sqrt(next(found))
        return row, list(found), bool(infinite_here)

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
        stopped = why in (Reason.STOPPED, Reason.TIME)
        return Interrupted(text) if stopped else SceVideoError(text)

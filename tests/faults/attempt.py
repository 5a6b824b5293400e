"""One input: made, read under limits, judged."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.guard import Guard
from tests.faults.mutators.dice import OUTSIDE
from tests.faults.targets.target import Target
from tests.faults.verdict import Verdict, acts, failed, judge

AS_IT_IS = -1
"""This number and lower ones are of inputs that are not damaged: they have to be read."""
MEMORY = "memory"
"""Kind of the verdict on what took too much of it: its process ends, as the peak stays."""
_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one input may cost."""

    memory: int = 1 << 30  # bytes in use above what was before
    asked: int = 4 << 30  # bytes of address space, as before: what is asked for beyond is refused
    cpu: float = 20.0  # seconds
    idle: float = 15.0  # seconds without any use of the CPU: it waits for what does not come
    wall: float = 120.0  # seconds


@dataclass(frozen=True)
class Case:
    """A target with its good input, and where bad ones are made."""

    target: Target
    good: Path
    seed: int


def confine(limits: Limits) -> None:
    """Bind this process for good."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + limits.asked,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def attempt(
    case: Case, number: int, work: Path, guard: Guard, limits: Limits
) -> tuple[str, Verdict, BaseException | None]:
    """Make, read and judge an input.

    Args:
        case: of what.
        number: of the input; from :data:`AS_IT_IS` down it is not damaged.
        work: an empty folder, which is empty again behind it.
        guard: of this process.
        limits: what it may cost.

    Returns:
        The damaged file's name, the verdict, and what was raised.
    """
    target, folder = case.target, work / str(number)
    if number <= AS_IT_IS:
        shutil.copytree(case.good, folder, symlinks=True)
        place = sorted(target.places)[AS_IT_IS - number]
    else:
        place = target.input(case.good, folder, case.seed, number)
    printed, error = io.StringIO(), None
    _forget_peak()
    resident, began = _resident(), time.process_time()
    os.chdir(folder)
    guard.watch(folder, anywhere=target.anywhere)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            target.read(folder, place)
        verdict = Verdict("read")
    except KeyboardInterrupt:
        raise
    except BaseException as caught:  # noqa: BLE001  (whatever a reader raises is judged)
        verdict, error = judge(caught, target.refusals), caught
    problems = guard.end()
    os.chdir(work)
    seconds, peak = time.process_time() - began, _peak()
    used = peak - resident
    others = [name for name in os.listdir(work) if name != folder.name]  # noqa: PTH208
    if Path(f"/tmp/{OUTSIDE}").exists() or others:  # noqa: S108  (a bait)
        problems.append(f"made outside: {others}")
    if problems:
        verdict = failed("left its folder", "; ".join(problems))
    elif acting := acts(printed.getvalue(), allowed="\n"):
        verdict = failed("print that acts on a terminal", f"{acting}: {printed.getvalue()!r}")
    elif used > limits.memory:
        verdict = failed(MEMORY, f"{used // _MIB:,} MiB; {verdict.kind} {verdict.why}")
    elif seconds > limits.cpu:
        verdict = failed("time", f"{seconds:.0f} s of CPU; {verdict.kind} {verdict.why}")
    if number <= AS_IT_IS and verdict.outcome == "refused":
        verdict = failed("good input refused", f"{verdict.kind}: {verdict.why}")
    for left in [*others, folder.name]:
        _remove(work / left)
    gc.collect()
    return place, verdict, error


def _resident() -> int:
    """Bytes that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _forget_peak() -> None:
    """Let what this process had at most be what it has: a fork begins with its parent's."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Bytes that it had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()

"""``torch.compile``: whether it works here, where its code is kept, what it has done."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import torch._dynamo
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from sce_video.errors import first_line

FAILURES = (RuntimeError, OSError, ImportError, subprocess.SubprocessError)
"""What is raised where a compiler, its headers or a place for its code is missing."""

_KINDS = 256  # of graphs for one function: block x size of a view x with or without gradient
_FOLDER = "TORCHINDUCTOR_CACHE_DIR"

log = logging.getLogger("sce_video")


def prepare() -> None:
    """Before anything is compiled: keep its code for the next start, and take all shapes.

    The code is kept in ``$TORCHINDUCTOR_CACHE_DIR`` if that is set, else below
    ``$SCE_VIDEO_CACHE`` or ``~/.cache/sce_video``, apart for processors that differ: a home that
    machines share must not give one of them instructions that it has not.
    """
    # From the ninth kind on a function would run eager, without a word.
    torch._dynamo.config.recompile_limit = max(_KINDS, torch._dynamo.config.recompile_limit)
    # To import torch._dynamo sets it to torch's own place, which a restart empties.
    if os.environ.get(_FOLDER, torch_place()) != torch_place():
        return
    try:
        root = Path(os.environ.get("SCE_VIDEO_CACHE") or "~/.cache/sce_video").expanduser()
        folder = root / "compiled" / processor()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # may be there, and not be ours to write to
            os.environ[_FOLDER] = str(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        log.warning("compiled code is kept in %s: %s", torch_place(), first_line(error))


def torch_place() -> str:
    """Where torch keeps compiled code by itself."""
    try:
        return default_cache_dir()
    except KeyError:  # before 2.14 of a user without a name: it would fail whenever it compiles
        place = f"{tempfile.gettempdir()}/torchinductor_{os.getuid()}"
        return os.environ.setdefault(_FOLDER, place)


def processor() -> str:
    """Names the vector instructions of this machine: ``AVX512-0123456789ab``."""
    try:
        about = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        about = ""
    lines = re.findall(r"^(?:model name|flags|CPU part|Features)\s*:.*", about, re.MULTILINE)
    told = "\n".join([platform.machine(), platform.processor(), *lines])
    digest = hashlib.sha256(told.encode()).hexdigest()[:12]
    return f"{torch.backends.cpu.get_cpu_capability().replace(' ', '')}-{digest}"


def why_not(device: torch.device) -> str | None:
    """Compile something small for ``device``: what is missing, in one line; None = it works."""
    prepare()
    try:
        torch.compile(torch.neg)(torch.zeros(8, device=device))
    except FAILURES as error:
        return first_line(error)
    return None


def compiled_so_far() -> str | None:
    """What this process has compiled, and how long it took, in one line; None = nothing."""
    from torch._dynamo.utils import compilation_time_metrics, counters

    if not (graphs := counters["stats"]["unique_graphs"]):
        return None
    # The rest of what is timed lies within these two.
    outer = ("_compile.compile_inner", "backward._backward_impl")
    seconds = sum(sum(compilation_time_metrics.get(name, ())) for name in outer)
    breaks = sum(counters["graph_break"].values())
    cut = f", cut in {breaks} places" if breaks else ""
    return f"compiled {graphs} graphs in {seconds:.0f} s{cut}; kept in {os.environ.get(_FOLDER)}"

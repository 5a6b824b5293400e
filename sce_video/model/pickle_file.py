"""Files of pickles: parsed, never executed, and the command that takes the tensors of one."""

from __future__ import annotations

import io
import mmap
import os
import shlex
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple, cast

import torch

from sce_video.files import open_plain
from sce_video.model.pickle_scan import steps

_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # older have no mark
_SCRIPT = "__main__"  # the module of a trainer's own classes
_MARKS = (torch.serialization.MAGIC_NUMBER, _SCRIPT)
_ITEM_SIZES = (1, 2, 4, 8, 16)  # of tensors, in bytes

# What is raised of a file that ends too early, or is none of pickles.
_DAMAGED: tuple[type[Exception], ...] = (LookupError, OSError, RuntimeError, StopIteration)
_DAMAGED += (TypeError, ValueError, OverflowError, struct.error, zipfile.BadZipFile, zlib.error)

# What opens pickles, by who wrote them. latin1 gives texts of Python 2 back as they were; tensors
# that pickle wrote, each as torch.save would, come to the CPU only if their reader is replaced.
_LOAD = {
    "torch": 'torch.load(sys.argv[1], "cpu", weights_only=False, encoding="latin1")',
    "pickle": 'setattr(torch.storage, "_load_from_bytes", '
    'lambda x: torch.load(io.BytesIO(x), "cpu", weights_only=False)) or '
    'pickle.load(open(sys.argv[1], "rb"), encoding="latin1")',
}
_CONVERT = (  # arrays are copied: they may be read-only, or of another byte order
    "import io, numpy, pickle, sys, torch; "
    'd = lambda x: x.state_dict() if hasattr(type(x), "state_dict") else '
    "dict(enumerate(x)) if isinstance(x, (list, tuple)) else "
    'x if isinstance(x, dict) else getattr(x, "__dict__", {}); '
    'n = lambda x: x.dtype.kind in "biuf" and x.dtype.itemsize <= 8; '
    'a = lambda x: torch.from_numpy(numpy.array(x, x.dtype.newbyteorder("="), order="C")); '
    "f = lambda x, up=(): x.detach() if isinstance(x, torch.Tensor) else "
    "(a(x) if n(x) else None) if isinstance(x, numpy.ndarray) else "
    "{str(k): t for k, v in d(x).items() if id(v) not in up "
    "if (t := f(v, (*up, id(v)))) is not None} or None; "
    "torch.save(f(LOAD), sys.argv[2])"
)


class Pickled(NamedTuple):
    """A whole file of pickles."""

    writer: str  # ``torch`` or ``pickle``
    script: bool  # some classes are of the script that wrote it


def is_pickled(file: Path) -> bool:
    """Whether a file begins as what torch.save or pickle writes, now or long ago."""
    with os.fdopen(open_plain(file, follow=True), "rb") as stream:
        head = stream.read(2)
    return head == b"PK" or head in _PROTOCOLS or parse(file) is not None


def parse(file: Path) -> Pickled | None:
    """What a file of pickles is, of which nothing is executed; None = none, or a damaged one."""
    try:
        with (
            os.fdopen(open_plain(file, follow=True), "rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as stream,
        ):
            if stream[:2] == b"PK":
                with zipfile.ZipFile(opened) as parts:
                    name = next(n for n in parts.namelist() if n.endswith("/data.pkl"))
                    return Pickled("torch", _SCRIPT in _marks(io.BytesIO(parts.read(name))))
            pickles = cast(IO[bytes], stream)
            marks = _marks(pickles)
            if torch.serialization.MAGIC_NUMBER not in marks:
                alone = stream.tell() == len(stream)
                return Pickled("pickle", _SCRIPT in marks) if alone else None
            _, _, marks = (_marks(pickles) for _ in ("version", "system", "objects"))
            names = [name for _, name in steps(pickles) if isinstance(name, str)]
            return Pickled("torch", _SCRIPT in marks) if _ends(stream, len(names)) else None
    except _DAMAGED:
        return None


def _marks(pickled: IO[bytes]) -> set[object]:
    """Which of the marks a pickle has, which is read to its end."""
    return {
        mark
        for _, operand in steps(pickled)
        for mark in _MARKS
        if operand == mark or (isinstance(operand, str) and operand.startswith(f"{mark} "))
    }


def _ends(stream: mmap.mmap, storages: int) -> bool:
    """Whether a file ends with its last storage; each is its length, then items of some size."""
    ends = {stream.tell()}
    for _ in range(storages):
        starts = [end for end in ends if end + 8 <= len(stream)]
        counts = [(start, struct.unpack_from("<q", stream, start)[0]) for start in starts]
        ends = {start + 8 + n * size for start, n in counts if n >= 0 for size in _ITEM_SIZES}
    return len(stream) in ends


def conversion(file: Path, kind: str | None, pickled: Pickled) -> str:
    """What is wrong with a file of objects of a ``kind``, and the command that helps."""
    out = file.with_name(f"{file.name}.tensors.pth")
    code = _CONVERT.replace("LOAD", _LOAD[pickled.writer])
    where = "where the trainer's code can be imported"
    if pickled.script:
        code, where = f"from SCRIPT import *; {code}", f"{where}, with its script for SCRIPT"
    command = shlex.join([sys.executable, "-c", code, str(file), str(out)])
    return (
        f"{file}: holds Python objects{f' ({kind})' if kind else ''}, which may run code when they "
        f"are opened; if you trust it, save its tensors alone ({where}) and give {out.name}: "
        f"{command}"
    )

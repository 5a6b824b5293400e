"""What a pickle of torch.save would make and how much of it, found out without making any of it.

torch opens such files without running code of theirs (``weights_only``), but believes their
numbers: a storage of more items than the file has bytes is read beyond its end, and a few bytes
ask for memory without bounds. So a file is gone through here first, by Python's unpickler with an
inert object in the place of whatever it names.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import pickletools
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import torch

from sce_video.files import open_plain

_MOST_STEPS = 1 << 21  # of a pickle; a network's takes some ten thousand
_MOST_NAMES = 1_000  # classes and functions that it names
_MOST_COPIED = 1 << 28  # items that its calls are given
_MOST_PICKLE = 1 << 28  # bytes
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}
_MAKERS = ("Tensor", "Storage")
"""Ends of the names of torch's classes that torch.save never has called."""
_CALLS_ANOTHER = "torch._tensor._rebuild_from_type_v2"


class BombError(ValueError):
    """A pickle that asks for more than any file of weights needs; the message says of what."""


class _Inert:
    """Stands for an object of any class, and swallows what is done to it."""

    name = ""
    scan: _Scan

    def __new__(cls, *args: Any, **_: Any) -> Any:
        made = object.__new__(cls)
        made.size = cls.scan.count_call(cls.name, args)  # type: ignore[attr-defined]
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        """Whatever it is given."""

    def __call__(self, *args: Any, **_: Any) -> Any:
        return type(self)(*args)

    def _swallow(self, *_: Any) -> None: ...

    __setstate__ = __setitem__ = append = extend = add = update = _swallow


class _Scan(pickle.Unpickler):
    """An unpickler that makes nothing but Python's own plain values."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self._named: dict[str, type[_Inert]] = {}
        self._copied = 0
        self.storages: dict[str, int] = {}  # key -> bytes that it has at least

    def find_class(self, module: str, name: str) -> type[_Inert]:
        full = f"{module}.{name}"
        if full not in self._named:
            if len(self._named) == _MOST_NAMES:
                raise BombError(f"names more than {_MOST_NAMES:,} classes")
            self._named[full] = type("Inert", (_Inert,), {"name": full, "scan": self})
        return self._named[full]

    def count_call(self, name: str, args: tuple[Any, ...]) -> int:
        """Count what a call is given; returns how many items its result may have.

        Raises:
            BombError: it may need memory without bounds.
        """
        if name.endswith("bytearray") and any(isinstance(value, int) for value in args):
            raise BombError("makes room that it does not fill")
        if name == "_codecs.encode" and args[1:] not in ((), ("latin1",)):
            raise BombError("holds bytes in an odd code")
        if name.startswith("torch") and name.endswith(_MAKERS):
            raise BombError(f"calls {name}, which makes room that it does not fill")
        if name == _CALLS_ANOTHER and len(args) > 2 and isinstance(args[0], type):
            args[0](*args[2])
        size = sum(_size(value) for value in args)
        self._copied += size
        if self._copied > _MOST_COPIED:
            raise BombError("copies the same values over and over")
        return size

    def persistent_load(self, pid: Any) -> object:
        try:
            _, kind, key, _, items, *_ = pid
            name = kind.name.rpartition(".")[2]
            size = items * (1 if name == "UntypedStorage" else getattr(torch, name).dtype.itemsize)
            if size < 0:
                raise ValueError("less than no bytes")
        except (TypeError, ValueError, AttributeError) as error:
            raise BombError("a storage that torch.save does not write") from error
        self.storages[str(key)] = max(size, self.storages.get(str(key), 0))
        return None


def _size(value: object) -> int:
    if isinstance(value, _Inert):
        return int(value.size)  # type: ignore[attr-defined]
    return len(value) if isinstance(value, str | bytes | list | tuple | dict | set) else 1


def steps(stream: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Each step of one pickle, up to its end: its name, and what it is given.

    Raises:
        BombError: they are too many.
        Exception: it is no pickle, or a damaged one.
    """
    for number, (code, operand, _) in enumerate(pickletools.genops(stream)):
        if number == _MOST_STEPS:
            raise BombError(f"a pickle of more than {_MOST_STEPS:,} steps")
        if code.name in _MEMO and int(operand or 0) > number:  # room is made up to there
            raise BombError("a pickle that numbers its values at random")
        yield code.name, operand


def check_pickles(file: Path) -> None:
    """Go through a file of torch.save, or the first pickle of another one.

    Raises:
        OSError: it cannot be read, or is no regular file.
        BombError: it asks for more than any file of weights needs, or more than it holds.
        Exception: it is no file of pickles, or a damaged one.
    """
    with os.fdopen(open_plain(file, follow=True), "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        if opened.read(2) == b"PK":
            with zipfile.ZipFile(opened) as parts:
                _check_zip(parts, size)
            return
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as stream:
            _check_pickles_long_ago(cast(IO[bytes], stream), size)


def _check_zip(parts: zipfile.ZipFile, size: int) -> None:
    """A zip archive, as torch.save writes it."""
    held = {part.filename: part.file_size for part in parts.infolist()}
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
        raise BombError("its parts are compressed, which torch.save does not do")
    if len(held) < len(parts.infolist()) or sum(held.values()) > size:
        raise BombError("its parts lie in each other")
    folder = next(iter(held), "").partition("/")[0]
    if f"{folder}/constants.pkl" in held:
        return  # TorchScript, which is code; nothing of it is opened
    if f"{folder}/data.pkl" not in held:
        raise BombError("a zip archive that torch.save did not write")
    if held[f"{folder}/data.pkl"] > _MOST_PICKLE:
        raise BombError(f"a pickle of more than {_MOST_PICKLE:,} bytes")
    _, storages = _scan(io.BytesIO(parts.read(f"{folder}/data.pkl")))
    for key, told in storages.items():
        has = held.get(f"{folder}/data/{key}", 0)
        if told > has:
            raise BombError(f"a storage of {has:,} bytes is said to have {told:,}")


def _check_pickles_long_ago(stream: IO[bytes], size: int) -> None:
    """Pickles one after the other, then the storages; or a single pickle."""
    value, storages = _scan(stream)
    if value != torch.serialization.MAGIC_NUMBER:
        return
    for _ in ("version", "system", "objects", "keys"):
        storages |= _scan(stream)[1]
    if sum(storages.values()) > size:
        raise BombError("its storages are said to have more bytes than it")


def _scan(stream: IO[bytes]) -> tuple[object, dict[str, int]]:
    """The value of one pickle, and its storages: key -> bytes that it has at least."""
    start = stream.tell()
    deque(steps(stream), 0)
    stream.seek(start)
    scan = _Scan(stream)
    return scan.load(), scan.storages

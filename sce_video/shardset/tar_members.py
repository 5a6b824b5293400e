"""What tars made by others hold: their headers, checked before anything is skipped or read.

:mod:`tarfile` believes what it reads: it takes a name of gigabytes into memory, skips for ever
towards where no file goes, and back to where it was.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sce_video.text import printable
from sce_video.video.errors import DecodeError
from sce_video.video.limits import DEFAULT_LIMITS

_BLOCK = tarfile.BLOCKSIZE
_LONGEST = 1 << 16  # bytes of a header beside a member's own
_LONGEST_NAME = 4_096  # bytes, as Linux takes them
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_ASIDE = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
"""Types of headers that say something of the next."""
_WITHOUT_BYTES = {*tarfile.SUPPORTED_TYPES} - {*tarfile.REGULAR_TYPES}
"""Types of links, folders and devices, whatever size their headers give."""
_SHOWN = 80  # characters of a name in a message

Stream = BinaryIO | io.BufferedIOBase

LABEL_BYTES = 1 << 20
"""Bytes that a member has at most which holds a label."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a tar."""

    name: str  # as it is written; bytes that are not UTF-8 are lone surrogates
    offset: int  # of its bytes in the stream
    size: int  # bytes; 0 for what has none, such as a link
    kind: bytes  # type flag of its header
    problem: str = ""  # why its bytes are not what was packed, or nobody knows its name

    @property
    def regular(self) -> bool:
        """Whether it is a file of its own, and no link, folder or device."""
        return self.kind in tarfile.REGULAR_TYPES


@dataclass
class _Aside:
    """What headers before a member's own say of it; of several the first counts."""

    name: str | None = None
    size: int | None = None
    problem: str = ""

    def note_name(self, data: bytes) -> None:
        if len(data) > _LONGEST_NAME:
            self.problem = f"its name is longer than {_LONGEST_NAME:,} bytes"
        elif self.name is None:
            self.name = data.decode("utf-8", "surrogateescape")

    def note_pax(self, data: bytes) -> None:
        """Of records ``LENGTH KEY=VALUE``, a line each."""
        at = 0
        while at < len(data) and data[at]:
            length, space, _ = data[at : at + 20].partition(b" ")
            end = at + int(length) if space and length.isdigit() else 0
            key, equals, value = data[at + len(length) + 1 : end - 1].partition(b"=")
            if not equals or data[end - 1 : end] != b"\n":
                self.problem = "a pax header before it is not readable"
                return
            if key == b"path":
                self.note_name(value)
            elif key == b"size" and self.size is None:
                self.size = int(value) if value.isdigit() and len(value) < 20 else -1
            elif key.startswith(b"GNU.sparse."):
                self.problem = self.problem or "a sparse file"
            at = end


def walk_tar(stream: Stream, end: int | None = None) -> Iterator[Member]:
    """Members of the tar that begins where ``stream`` stands, in their order.

    Their bytes are skipped; who reads them may leave the stream anywhere, but not before the next
    member where it is zipped.

    Args:
        stream: seekable.
        end: where the tar's file ends, at the latest; None = nobody knows, as it is zipped.

    Raises:
        tarfile.ReadError: a header is damaged, a member would go beyond the end, or there is no
            end.
    """
    at, aside = stream.tell(), _Aside()
    while (info := _header(stream, at, end)) is not None:
        at += _BLOCK
        name = info.name if aside.name is None else aside.name
        if info.type in _ASIDE:
            _check(info.name, at, info.size, end)
            _hear(stream, info, aside)
            at += _padded(info.size)
            continue
        if info.type == tarfile.GNUTYPE_SPARSE:
            aside.problem = "a sparse file"
            at = _behind_holes(stream, at)
        size = info.size if aside.size is None else aside.size
        if info.type in _WITHOUT_BYTES:
            size = 0
        _check(name, at, size, end)
        two = "" if aside.size in (None, info.size) else "its headers give two sizes"
        yield Member(name, at, size, info.type, aside.problem or two)
        at, aside = at + _padded(size), _Aside()
        if end is None and size:
            stream.seek(at - 1)
            if not stream.read(1):
                raise tarfile.ReadError("unexpected end of data")


def read_member(stream: Stream, member: Member, limit: int = DEFAULT_LIMITS.bytes) -> bytes:
    """The bytes of a member.

    Raises:
        DecodeError: it is larger than ``limit`` or the stream is shorter; or what is wrong with it.
    """
    if member.problem:
        raise DecodeError(member.problem)
    if member.size > limit:
        raise DecodeError(f"larger than {limit:,} bytes")
    stream.seek(member.offset)
    data = stream.read(member.size)
    if len(data) != member.size:  # somebody cuts the file while it is read
        raise DecodeError("cut off")
    return data


def _header(stream: Stream, at: int, end: int | None) -> tarfile.TarInfo | None:
    """The header at a place; None = zeros, which end a tar."""
    if end is not None and at + _BLOCK > end:
        raise tarfile.ReadError("has no end")
    stream.seek(at)
    block = stream.read(_BLOCK)
    if len(block) == _BLOCK and not any(block):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise tarfile.ReadError(str(error)) from error


def _check(name: str, at: int, size: int, end: int | None) -> None:
    """Refuse a size that the file cannot hold."""
    if size < 0 or (at + size > end if end is not None else size >> 62):
        left = "a file" if end is None else f"the {max(end - at, 0):,} that are left"
        who = printable(name)[:_SHOWN]
        raise tarfile.ReadError(f"{who}: its header gives it {size:,} bytes, more than {left}")


def _hear(stream: Stream, info: tarfile.TarInfo, aside: _Aside) -> None:
    """Take in a header that says something of the next; ``stream`` stands behind it."""
    if info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
        return  # nothing of them is needed
    if info.size > _LONGEST:
        aside.problem = f"a header of more than {_LONGEST:,} bytes is before it"
        return
    data = stream.read(info.size)
    if info.type in _PAX:
        aside.note_pax(data)
    else:
        aside.note_name(data.partition(b"\0")[0])


def _behind_holes(stream: Stream, at: int) -> int:
    """Where the bytes of a GNU sparse file begin: behind the blocks that list its holes."""
    stream.seek(at - _BLOCK)
    more = stream.read(_BLOCK)[482]
    while more:
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK:
            raise tarfile.ReadError("unexpected end of data")
        at, more = at + _BLOCK, block[504]
    return at


def _padded(size: int) -> int:
    return size + -size % _BLOCK

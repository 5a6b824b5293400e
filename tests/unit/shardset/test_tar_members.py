"""Headers of tars that believe nothing: whatever they say, memory and time are the file's."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from sce_video.shardset.tar_members import Member, read_member, walk_tar
from sce_video.video.errors import DecodeError
from sce_video.video.limits import DEFAULT_LIMITS

END = bytes(1024)


def header(name: str, size: int | bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A member's header with any bytes as its size."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def base256(size: int) -> bytes:
    return (size + (1 << 95) if size >= 0 else size + (1 << 96)).to_bytes(12, "big")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(**fields: str) -> bytes:
    """A pax header before a member."""
    data = b""
    for key, value in fields.items():
        body = f" {key.replace('_', '.')}={value}\n".encode()
        size = len(body) + len(str(len(body)))
        data += str(size + (len(str(size)) > len(str(len(body))))).encode() + body
    return header("x", len(data), tarfile.XHDTYPE) + padded(data)


def walked(data: bytes, *, known: bool = True) -> list[Member]:
    return list(walk_tar(io.BytesIO(data), len(data) if known else None))


GOOD = header("good.mp4", 5) + padded(b"01234")
SIZES = {
    "base-256": base256(1 << 60),
    "the largest": b"\x80" + b"\xff" * 11,
    "negative": base256(-512),
    "octal": b"777777777777",
    "a block more": b"%011o\0" % 4096,
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, b"L", b"K", b"x", b"g", b"X", b"S", b"Q"])
@pytest.mark.parametrize("size", SIZES)
def test_a_size_that_the_file_does_not_hold_ends_the_walk(
    size: str, kind: bytes, known: bool
) -> None:
    with pytest.raises(tarfile.ReadError) as caught:
        walked(GOOD + header("bad.mp4", SIZES[size], kind) + GOOD + END, known=known)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "size", ["9" * 18, "-1", "1e3", "9" * 5000, "", "99999999999999999999", "4_0"]
)
def test_a_pax_size_is_checked_too(size: str) -> None:
    with pytest.raises(tarfile.ReadError):
        walked(GOOD + pax(size=size) + GOOD + END)


def test_a_pax_size_counts_and_is_told_where_it_differs() -> None:
    tar = pax(size="600", path="é/long.mp4") + header("x", 0) + padded(b"1" * 600) + GOOD + END
    first, second = walked(tar)
    assert (first.name, first.size, first.problem) == (
        "é/long.mp4",
        600,
        "its headers give two sizes",
    )
    assert (second.name, second.problem) == ("good.mp4", "")


@pytest.mark.parametrize(
    ("before", "problem"),
    {
        "long name": (
            header("x", 5000, b"L") + padded(b"n" * 5000),
            "its name is longer than 4,096 bytes",
        ),
        "pax name": (pax(path="n" * 5000), "its name is longer than 4,096 bytes"),
        "large header": (
            header("x", 70_000, b"x") + padded(b"1" * 70_000),
            "a header of more than 65,536 bytes is before it",
        ),
        "pax noise": (
            header("x", 512, b"x") + b"9 a=b\n" * 85 + b"12",
            "a pax header before it is not readable",
        ),
        "sparse": (pax(GNU_sparse_major="1"), "a sparse file"),
    }.values(),
)
def test_one_odd_member_is_named_and_the_next_is_read(before: bytes, problem: str) -> None:
    stream = io.BytesIO(GOOD + before + GOOD + header("c.mp4", 1) + padded(b"c") + END)
    found = list(walk_tar(stream, len(stream.getvalue())))
    assert [member.problem for member in found] == ["", problem, ""]
    with pytest.raises(DecodeError, match=problem):
        read_member(stream, found[1])
    assert read_member(stream, found[2]) == b"c"


def test_a_gnu_sparse_member_is_skipped_with_the_list_of_its_holes() -> None:
    block = bytearray(header("s.mp4", 512, b"S"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more, last = bytearray(512), bytearray(512)
    more[504] = 1
    found = walked(bytes(block + more + last) + bytes(512) + GOOD + END)
    assert [(m.name, m.problem) for m in found] == [("s.mp4", "a sparse file"), ("good.mp4", "")]
    with pytest.raises(tarfile.ReadError, match="unexpected end"):
        walked(GOOD + bytes(block + more))


def test_a_thousand_headers_before_one_member() -> None:
    """Which tarfile reads by calling itself for each."""
    name = header("x", 4, b"L") + padded(b"long")
    found = walked(name * 5000 + GOOD + END)
    assert [(m.name, m.size) for m in found] == [("long", 5)]
    with pytest.raises(tarfile.ReadError):
        walked(name * 5000)


def test_links_and_folders_have_no_bytes() -> None:
    tar = header("l", 9999, tarfile.SYMTYPE) + header("d", 512, tarfile.DIRTYPE) + GOOD + END
    assert [(m.name, m.size, m.regular) for m in walked(tar)] == [
        ("l", 0, False),
        ("d", 0, False),
        ("good.mp4", 5, True),
    ]


def write_large(path: Path, members: list[bytes], size: int) -> None:
    """A file with holes: no disk, any size."""
    with path.open("wb") as file:
        for block in members:
            file.write(block)
            file.seek(size, io.SEEK_CUR)
        file.write(END)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, b"L", b"x", b"g", b"K"])
def test_terabytes_are_skipped(tmp_path: Path, kind: bytes) -> None:
    size = 1 << 40
    path = tmp_path / "t.tar"
    write_large(path, [header("big.mp4", base256(size), kind)] * 2, size)

    tracemalloc.start()
    try:
        with path.open("rb") as stream:
            found = list(walk_tar(stream, path.stat().st_size))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert [m.size for m in found] == [size] * 2 * (kind == tarfile.REGTYPE)
    for member in found:
        with path.open("rb") as stream, pytest.raises(DecodeError, match="larger than"):
            read_member(stream, member)


def test_the_limit_is_the_converter_s() -> None:
    member = Member("a", 0, DEFAULT_LIMITS.bytes + 1, tarfile.REGTYPE)
    with pytest.raises(DecodeError, match=r"^larger than 1,073,741,824 bytes$"):
        read_member(io.BytesIO(), member)
    with pytest.raises(DecodeError, match=r"^cut off$"):
        read_member(io.BytesIO(b"123"), Member("a", 0, 4, tarfile.REGTYPE))

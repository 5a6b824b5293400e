"""Chunks of an AVI against the bytes that are there."""

from __future__ import annotations

import struct

import pytest

from sce_video.video.whole.avi import walk
from tests.unit.video.whole.fates import fate


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def avi(packets: bytes, *behind: bytes) -> bytes:
    movi = chunk(b"LIST", b"movi" + packets)
    return chunk(b"RIFF", b"AVI " + chunk(b"LIST", b"hdrl" + bytes(40)) + movi + b"".join(behind))


PACKETS = chunk(b"00dc", b"\1" * 33) + chunk(b"01wb", b"\2" * 8) + chunk(b"00dc", b"")


def index(*entries: tuple[int, int]) -> bytes:
    body = b"".join(struct.pack("<4s3I", b"00dc", 16, *entry) for entry in entries)
    return chunk(b"idx1", body)


def test_chunks() -> None:
    whole = avi(PACKETS, index((4, 33), (46, 0)))
    assert fate(walk, whole) == ""
    assert fate(walk, whole + b"anything") == ""
    assert fate(walk, whole[:-1]) == "cut off"
    assert fate(walk, avi(chunk(b"LIST", b"rec " + PACKETS) + chunk(b"JUNK", bytes(9)))) == ""


def test_zeros_where_a_chunk_begins() -> None:
    assert fate(walk, avi(PACKETS + bytes(30) + PACKETS)) == "damaged packets"
    assert fate(walk, avi(PACKETS + b"00d" + bytes(30) + PACKETS)) == "damaged packets"
    assert fate(walk, avi(PACKETS).replace(b"movi", b"mo\0\0")) == "damaged packets"
    whole = avi(PACKETS, chunk(b"idx1", bytes(160)))
    assert fate(walk, whole[:-168] + bytes(168)) == "cut off"


def test_an_index_with_holes() -> None:
    assert fate(walk, avi(PACKETS, index((4, 33), (0, 0)))) == "damaged packets"
    assert fate(walk, avi(PACKETS, index((0, 33), (42, 8)))) == ""  # counted from the first packet
    assert fate(walk, avi(PACKETS, index())) == ""


def test_unknown_names_end_the_walk() -> None:
    """FFmpeg goes on behind them; so do chunks of odd length that no byte follows."""
    assert fate(walk, avi(PACKETS + b"\xfe\xdc\xba\x98" + bytes(40))) == ""
    assert fate(walk, avi(b"00dc\1\0\0\0\1" + PACKETS + bytes(40))) == ""


def test_several_lists() -> None:
    more = chunk(b"RIFF", b"AVIX" + chunk(b"LIST", b"movi" + PACKETS))
    assert fate(walk, avi(PACKETS) + more) == ""
    assert fate(walk, avi(PACKETS) + more[:-9]) == "cut off"


def test_a_recording_that_was_never_closed_promises_nothing() -> None:
    whole = bytearray(avi(PACKETS))
    whole[4:8] = bytes(4)
    assert fate(walk, bytes(whole[:-10])) == ""


def test_a_recording_into_a_pipe_promises_the_packet_at_hand() -> None:
    whole = bytearray(avi(PACKETS))
    whole[4:8] = b"\xff" * 4
    assert fate(walk, bytes(whole)) == ""
    assert fate(walk, bytes(whole[:-8])) == ""
    assert fate(walk, bytes(whole[:-9])) == "cut off"


@pytest.mark.parametrize("more", [8, 2000])
def test_a_size_that_counts_what_is_not_there(more: int) -> None:
    """Such as its own head: the index tells, which is the last chunk that a reader needs."""
    whole = bytearray(avi(PACKETS, index((4, 33), (46, 0))))
    whole[4:8] = struct.pack("<I", len(whole) - 8 + more)
    assert fate(walk, bytes(whole)) == ""
    assert [fate(walk, bytes(whole[:-cut])) for cut in (1, 8, 16, 40)] == ["cut off"] * 4
    packets = bytearray(avi(PACKETS))
    packets[4:8] = struct.pack("<I", len(packets) - 8 + more)
    assert fate(walk, bytes(packets)) == "cut off"


def test_zeros_behind_the_index() -> None:
    assert fate(walk, avi(PACKETS, index((4, 33), (46, 0)), bytes(500))) == ""

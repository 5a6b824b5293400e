"""MP4s whose headers claim more than their bytes can hold are refused before FFmpeg opens them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from sce_video.video.claims import check_claims
from sce_video.video.decode import decode_frames
from sce_video.video.errors import DecodeError
from sce_video.video.examine import examine_video
from sce_video.video.facts import Rejected
from sce_video.video.peek import peek
from tests.odd_videos import KINDS

_INNER = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")
MANY = "its header claims more samples than it can hold"


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def told(data: bytes, changes: dict[bytes, bytes]) -> bytes:
    """An MP4 with other contents of some boxes."""
    made, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + size]
        new = told(content, changes) if kind in _INNER else changes.get(kind, content)
        made, at = made + box(kind, new), at + size
    return made


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return KINDS["edit list"](tmp_path_factory.mktemp("claims")).read_bytes()


def refused(data: bytes, reason: str) -> None:
    for read in (peek, lambda data: decode_frames(data, [0], None, "pyav")):
        with pytest.raises(DecodeError) as caught:
            read(data)
        assert str(caught.value) == reason
    with pytest.raises(Rejected):
        examine_video(data)


@pytest.mark.parametrize("count", [10**6, 10**8, 2**32 - 1])
@pytest.mark.parametrize("media", [b"vide", b"soun"])
def test_samples_of_one_size(video: bytes, media: bytes, count: int) -> None:
    tables = {
        b"stsz": struct.pack(">III", 0, 1, count),
        b"stsc": struct.pack(">IIIII", 0, 1, 1, count, 1),
        b"stts": struct.pack(">IIII", 0, 1, count, 1),
    }
    refused(told(video, tables).replace(b"vide", media), MANY)


def test_edits(video: bytes) -> None:
    """Each lists all samples again."""

    def edited(count: int) -> bytes:
        entry = struct.pack(">IiI", 4000, 0, 65536)
        return told(video, {b"elst": struct.pack(">II", 0, count) + entry * count})

    refused(edited(1_001), "a track of too many edits")
    refused(edited(10**6), MANY)
    check_claims(edited(1_000))


def test_runs_of_fragments(video: bytes) -> None:
    run = box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, 60_000_000))))
    refused(video + run, MANY)


def test_fragments_count_together(video: bytes) -> None:
    """Each claims no more than the file has bytes; all at once would take gigabytes."""
    run = box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, 1_000_000))))
    room = box(b"free", bytes(1_000_000))
    check_claims(video + run + room)
    refused(video + run * 20 + room, MANY)


def test_a_header_that_is_compressed(video: bytes) -> None:
    """As QuickTime does; FFmpeg unpacks it."""
    start = video.index(b"moov") - 4
    size = int.from_bytes(video[start : start + 4], "big")

    def packed(header: bytes) -> bytes:
        body = box(b"dcom", b"zlib")
        body += box(b"cmvd", struct.pack(">I", len(header)) + zlib.compress(header))
        return video[:start] + box(b"moov", box(b"cmov", body)) + video[start + size :]

    header = video[start : start + size]
    check_claims(packed(header))
    table = struct.pack(">III", 0, 1, 10**8)
    with pytest.raises(DecodeError, match=MANY):
        check_claims(packed(told(header, {b"stsz": table})))
    with pytest.raises(DecodeError, match="compressed header is too large"):
        check_claims(packed(bytes(1 << 27)))


@pytest.mark.parametrize("kind", KINDS)
def test_real_claims_pass(kind: str, tmp_path: Path) -> None:
    check_claims(KINDS[kind](tmp_path).read_bytes())


def test_real_videos_pass(real_data: Path) -> None:
    paths = [*real_data.rglob("*.mp4"), *real_data.rglob("*.mov")]
    assert paths
    for path in paths:
        check_claims(path.read_bytes())


def test_sound_as_plain_numbers_passes(video: bytes) -> None:
    """It has a sample for each number."""
    table = {b"stsz": struct.pack(">III", 0, 1, 1 << 25)}
    sound = told(video, table).replace(b"vide", b"soun") + box(b"free", bytes(1 << 25))
    check_claims(sound)
    with pytest.raises(DecodeError, match=MANY):
        check_claims(sound.replace(b"soun", b"vide"))


@pytest.mark.parametrize("form", [">Iii", ">Qqi"])
def test_an_empty_edit_lists_no_samples(video: bytes, form: str) -> None:
    """Sound that begins later than the picture has one, before its only other."""
    table = {b"stsz": struct.pack(">III", 0, 1, 1 << 25)}
    waits, plays = (struct.pack(form, 4000, at, 65536) for at in (-1, 0))

    def sound(*edits: bytes) -> bytes:
        head = struct.pack(">II", (form == ">Qqi") << 24, len(edits))
        data = told(video, {**table, b"elst": head + b"".join(edits)})
        return data.replace(b"vide", b"soun") + box(b"free", bytes(1 << 25))

    check_claims(sound(waits, plays))
    with pytest.raises(DecodeError, match=MANY):
        check_claims(sound(plays, plays))

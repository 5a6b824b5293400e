"""MP4s whose headers claim more than their bytes can hold are refused before FFmpeg opens them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sce_video.video.boxes import Box, boxes
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


def test_a_header_that_is_compressed_more_than_once(video: bytes) -> None:
    """One may hold itself, without end; each of many may be as large as one can be."""

    def packed(header: bytes) -> bytes:
        return box(b"cmvd", bytes(4) + zlib.compress(header))

    once = packed(b"")
    check_claims(video + box(b"moov", once))
    for header in (packed(once), once * 2, once + b"trak" + once, once + box(b"moov", once)):
        with pytest.raises(DecodeError, match="compressed more than once"):
            check_claims(video + box(b"moov", header))


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


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A MOV with PCM of a second; its track of sound is the last."""
    path = tmp_path_factory.mktemp("claims") / "v.mov"
    with av.open(str(path), "w") as container:
        picture, plain = container.add_stream("mpeg4"), container.add_stream("pcm_u8", rate=8000)
        plain.layout = "mono"
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            frame.pts = number
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        numbers = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.uint8), "u8", "mono")
        numbers.sample_rate = 8000
        container.mux(plain.encode(numbers))
    return path.read_bytes()


LONG = 1 << 28  # samples


def with_sound(data: bytes, changes: dict[bytes, bytes], chunks: int = 1, room: int = 0) -> bytes:
    """Sound of ``LONG`` samples in each chunk, with other contents of some boxes of its track."""
    header, track = data.rindex(b"moov") - 4, data.rindex(b"trak") - 4
    end = track + int.from_bytes(data[track : track + 4], "big")
    tables = {
        b"stsz": struct.pack(">III", 0, 1, LONG),
        b"stts": struct.pack(">IIII", 0, 1, LONG, 1),
        b"stsc": struct.pack(">IIIII", 0, 1, 1, LONG, 1),
        b"stco": struct.pack(">II", 0, chunks) + struct.pack(">I", 40) * chunks,
    }
    new = told(data[track:end], tables | changes)
    made = data[:header] + box(b"moov", data[header + 8 : track] + new + data[end:])
    return made + box(b"free", bytes(room))


def test_long_sound_at_a_constant_rate(sound: bytes) -> None:
    """FFmpeg makes no entry for each of its samples, of which a byte may hold many."""
    edit = struct.pack(">IiI", 500, 0, 65536)
    for edits in (1, 2, 9):
        elst = struct.pack(">II", 0, edits) + edit * edits
        data = with_sound(sound, {b"elst": elst}, room=LONG >> 6)
        check_claims(data)
        assert peek(data) == peek(sound)
    edits = 1 + (1 << 24) // (LONG // 160)
    elst = struct.pack(">II", 0, edits) + edit * edits
    refused(with_sound(sound, {b"elst": elst}, room=LONG >> 6), MANY)


OTHER_SOUND = {
    "longer samples": {b"stts": struct.pack(">IIII", 0, 1, LONG, 2)},
    "two runs": {b"stts": struct.pack(">IIIIII", 0, 2, LONG - 1, 1, 1, 1)},
    "no sound": {b"hdlr": struct.pack(">II4sIIIB", 0, 0, b"text", 0, 0, 0, 0)},
    "sound in name": {b"hdlr": struct.pack(">II4sIII5s", 0, 0, b"meta", 0, 0, 0, b"soun")},
    "more tables": {b"gmhd": b"", b"smhd": box(b"stts", struct.pack(">IIII", 0, 1, LONG, 9))},
    "a table under a size": {b"smhd": b"\0\0elstsz" + struct.pack(">III", 0, 1, LONG)},
}


@pytest.mark.parametrize("kind", OTHER_SOUND)
def test_sound_of_which_each_sample_takes_room(sound: bytes, kind: str) -> None:
    with pytest.raises(DecodeError, match=MANY):
        check_claims(with_sound(sound, OTHER_SOUND[kind], room=LONG >> 6))


@pytest.mark.parametrize("chunks", [2, 40])
def test_chunks_of_more_than_the_file_holds(sound: bytes, chunks: int) -> None:
    """FFmpeg makes room for them by the table of chunks, whatever the number of samples."""
    few = {b"stsz": struct.pack(">III", 0, 1, 8000), b"stts": struct.pack(">IIII", 0, 1, 8000, 1)}
    refused(with_sound(sound, few, chunks, LONG >> 6), MANY)
    runs = [(1, 1, 1), (2, LONG, 1)], [(100, LONG, 1)], [(5, 1, 1), (5, LONG, 1), (3, 1, 1)]
    for entries in runs:
        table = struct.pack(">II", 0, len(entries))
        few[b"stsc"] = table + b"".join(struct.pack(">III", *entry) for entry in entries)
        with pytest.raises(DecodeError, match=MANY):
            check_claims(with_sound(sound, few, chunks, LONG >> 8))


def test_tables_that_share_their_bytes_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a file of a megabyte takes hours."""
    looked = []

    def counted(*where: Any) -> Iterator[Box]:
        for found in boxes(*where):
            looked.append(found)
            yield found

    monkeypatch.setattr("sce_video.video.claims.boxes", counted)
    tracks = box(b"moov", box(b"skip", struct.pack(">I4s", 2**31, b"trak")) * 1_000)
    check_claims(tracks)
    assert len(looked) <= 2_000
    many = b"stts....hdlr" + bytes(8) + b"soun" + b"stsz" + bytes(8) + b"\xff" * 4
    with pytest.raises(DecodeError, match=MANY):
        check_claims(tracks + box(b"moov", struct.pack(">I4s", 2**31, b"trak") + many))
    assert len(looked) <= 4_000
    for words in (b"stsc", b"trakstsc"):
        with pytest.raises(DecodeError, match=MANY):
            check_claims(box(b"moov", (words + b"\0\0\0\0\x7f\0\0\0") * 50_000))


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

"""Videos of every awkward kind that a data set may hold, made by the tests."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition
from av.video.stream import VideoStream

from tests.videos import moving_square

FRAMES = 60


def encode(
    path: Path,
    codec: str = "libx264",
    *,
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (48, 64),
    ticks: Sequence[int] = tuple(range(0, 40 * FRAMES, 40)),
    x264: str = "",
    **options: str,
) -> Path:
    """Encode :func:`moving_square` frames at ``ticks`` (milliseconds) into ``path``."""
    if codec == "libx264":
        options = {"crf": "18", "threads": "1", **options}
        options["x264-params"] = ":".join(filter(None, ["asm=SSE4.2", "keyint=24", x264]))
    muxer = {key[6:]: options.pop(key) for key in list(options) if key.startswith("muxer_")}
    with av.open(str(path), "w", options=muxer) as container:
        stream = cast("VideoStream", container.add_stream(codec, rate=25, options=options))
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        steady = tuple(ticks) == tuple(range(0, 40 * len(ticks), 40))
        base = Fraction(1, 25) if steady else Fraction(1, 1000)
        stream.codec_context.time_base = base
        for tick, image in zip(ticks, moving_square(len(ticks), *size), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(Fraction(tick, 1000) / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shift(source: Path, path: Path, frames: int, **muxer: str) -> Path:
    """Remux ``source`` with all times moved by ``frames``; negative ones become an edit list."""
    options = {"avoid_negative_ts": "disabled", **muxer}
    with av.open(str(source)) as given, av.open(str(path), "w", options=options) as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        assert stream.time_base is not None
        ticks = int(Fraction(frames, 25) / stream.time_base)
        for packet in given.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = copy
                made.mux(packet)
    return path


def display_by(source: Path, path: Path, matrix: Sequence[float]) -> Path:
    """``source`` (mp4) with a display matrix ``a, b, c, d``: x' = a x + c y, y' = b x + d y."""
    a, b, c, d = (round(value * (1 << 16)) for value in matrix)
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version and flags, times, ids, then the matrix
    assert data[at : at + 4] == (1 << 16).to_bytes(4, "big")
    data[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)
    return path


def remux(source: Path, path: Path, filters: str | None = None) -> Path:
    """The packets of ``source`` in another container, through bitstream filters if given."""
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        through = BitStreamFilterContext(filters, stream, copy) if filters else None
        for packet in given.demux(stream):
            if packet.dts is not None:
                for new in through.filter(packet) if through else [packet]:
                    new.stream = copy
                    made.mux(new)
    return path


def all_at_once(source: Path, path: Path) -> Path:
    """``source`` with no time but 0."""
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.dts is not None:
                packet.pts = packet.dts = 0
                packet.stream = copy
                made.mux(packet)
    return path


def repacket(source: Path, path: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """``source``, each packet made anew from its number and bytes."""
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        packets = (packet for packet in given.demux(stream) if packet.dts is not None)
        for number, packet in enumerate(packets):
            new = av.Packet(change(number, bytes(packet)))
            new.pts, new.dts, new.duration = packet.pts, packet.dts, packet.duration
            new.time_base, new.is_keyframe = packet.time_base, packet.is_keyframe
            new.stream = copy
            made.mux(new)
    return path


def nal_units(packet: bytes) -> list[bytes]:
    """The NAL units of an H.264 packet in mp4."""
    units = []
    while packet:
        end = 4 + int.from_bytes(packet[:4], "big")
        units.append(packet[4:end])
        packet = packet[end:]
    return units


def rewrite(source: Path, path: Path, change: Callable[[list[bytes]], bytes]) -> Path:
    """``source`` (H.264 in mp4), each packet made anew from its NAL units."""
    return repacket(source, path, lambda _, packet: change(nal_units(packet)))


def joined(first: Path, second: Path, path: Path) -> Path:
    """The packets of ``second`` (both H.264 in mp4, no B pictures) behind those of ``first``.

    Its parameter sets have the numbers of the first ones, and stand before its first picture.
    """
    with av.open(str(second)) as given:
        stream = given.streams.video[0]
        packets = [bytes(packet) for packet in given.demux(stream) if packet.dts is not None]
        box = bytes(stream.codec_context.extradata or b"")
    end = 8 + int.from_bytes(box[6:8], "big")  # of the SPS; a count and the PPS follow
    picture_set = box[end + 3 :][: int.from_bytes(box[end + 1 : end + 3], "big")]
    packets[0] = sized(box[8:end]) + sized(picture_set) + packets[0]
    with av.open(str(first)) as given, av.open(str(path), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        own = [bytes(packet) for packet in given.demux(stream) if packet.dts is not None]
        for number, data in enumerate([*own, *packets]):
            new = av.Packet(data)
            new.pts = new.dts = number
            new.time_base, new.is_keyframe, new.stream = Fraction(1, 25), True, copy
            made.mux(new)
    return path


def segment(code: int, content: bytes) -> bytes:
    """A segment of a JPEG picture."""
    return bytes([0xFF, code]) + (2 + len(content)).to_bytes(2, "big") + content


def exif(orientation: int) -> bytes:
    """A segment that says which way up a JPEG picture lies."""
    entry = b"\x01\x12\0\x03\0\0\0\x01" + orientation.to_bytes(2, "big")
    return segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(6))


def without_tables(picture: bytes) -> bytes:
    """A JPEG picture that has to be decoded with the tables of the one before."""
    at, kept = 2, picture[:2]
    while picture[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(picture[at + 2 : at + 4], "big")
        kept += b"" if picture[at + 1] in (0xDB, 0xC4) else picture[at:end]
        at = end
    return kept + picture[at:]


def tables_once(number: int, picture: bytes) -> bytes:
    """Tables in the first picture alone, but in each a small picture that has its own."""
    own = picture if number == 0 else without_tables(picture)
    return own[:2] + segment(0xE1, b"small\xff\xd8\xff\xdb\0\0\xff\xc4\0\0\xff\xda") + own[2:]


def sized(unit: bytes) -> bytes:
    """A NAL unit behind its size."""
    return len(unit).to_bytes(4, "big") + unit


DELIMITER = b"\x09\xf0"


def under_one_size(units: list[bytes]) -> bytes:
    """A whole access unit under one size, as phones write it: a delimiter, then start codes."""
    return sized(DELIMITER + b"".join(b"\0\0\0\1" + unit for unit in units))


def slices_under_one_size(units: list[bytes]) -> bytes:
    """Proper units, the last of which has others behind start codes."""
    return sized(DELIMITER) + sized(b"\0\0\1".join([b"\x0c\xff\x80", *units]))


def two_streams(path: Path, *sizes: tuple[int, int], default: Sequence[int] = ()) -> Path:
    """A video stream for each of ``sizes`` (height, width); ``default``: which are so."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, (height, width) in enumerate(sizes):
            stream = container.add_stream("libx264", 25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.options = {"crf": "18", "threads": "1", "x264-params": "asm=SSE4.2:keyint=24"}
            stream.disposition = Disposition.default if number in default else Disposition(0)
            streams.append(stream)
        for t in range(FRAMES):
            for stream in streams:
                image = moving_square(FRAMES, stream.height, stream.width)[t]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def with_cover(source: Path, path: Path) -> Path:
    """``source`` behind a cover picture and with a second video stream."""
    picture = io.BytesIO()
    from PIL import Image

    Image.fromarray(moving_square(1, 30, 40)[0]).save(picture, "JPEG")
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        cover = made.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 40, 30, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        copies = [made.add_stream_from_template(given.streams.video[0]) for _ in range(2)]
        packet = av.Packet(picture.getvalue())
        packet.stream, packet.pts, packet.dts = cover, 0, 0
        made.mux(packet)
        for found in given.demux(given.streams.video[0]):
            if found.dts is None:
                continue
            for copy in copies:
                twin = av.Packet(bytes(found))
                twin.pts, twin.dts, twin.time_base = found.pts, found.dts, found.time_base
                twin.duration, twin.is_keyframe = found.duration, found.is_keyframe
                twin.stream = copy
                made.mux(twin)
    return path


def audio_only() -> bytes:
    """An MP4 with sound and no pictures."""
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        tone = np.zeros((1, 16_000), np.float32)
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return data.getvalue()


def without_vui(source: Path, path: Path) -> Path:
    """``source`` (H.264 in mp4) less what tells a decoder how far its pictures are reordered."""
    data = bytearray(source.read_bytes())
    start = data.index(b"avcC") + 4 + 8  # past the profile, the counts and the size of the SPS
    size = int.from_bytes(data[start - 2 : start], "big")
    bits = "".join(f"{byte:08b}" for byte in data[start + 4 : start + size])

    def number(at: int) -> int:
        """Where the ue(v) at ``at`` ends."""
        zeros = bits.index("1", at) - at
        return at + 2 * zeros + 1

    at = 0
    for _ in range(4):  # id, chroma format, two bit depths
        at = number(at)
    at += 2  # lossless, scaling matrices
    for _ in range(4):  # frame number, order type, order count, reference frames
        at = number(at)
    at = number(number(at + 1)) + 1  # gaps; width, height; frames only
    at += 1  # direct 8x8
    assert bits[at] == "0"  # no cropping
    bits = (bits[: at + 1] + "01").ljust(len(bits), "0")  # no VUI; the stop bit
    data[start + 4 : start + size] = int(bits, 2).to_bytes(size - 4, "big")
    path.write_bytes(data)
    return path


VFR = tuple(int(t) for t in np.cumsum([0, *([40, 160, 20, 80, 40, 20] * 10)[: FRAMES - 1]]))

Maker = Callable[[Path], Path]


def _made(name: str, codec: str = "libx264", **settings: Any) -> Maker:
    return lambda folder: encode(folder / name, codec, **settings)


def _displayed(matrix: tuple[int, int, int, int]) -> Maker:
    return lambda folder: display_by(encode(folder / "a.mp4"), folder / "v.mp4", matrix)


MATRICES = {
    "turned 90": (0, 1, -1, 0),
    "turned 180": (-1, 0, 0, -1),
    "turned 270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "mirrored upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed the other way": (0, -1, -1, 0),
}
"""Kind -> its display matrix ``a, b, c, d``; turned clockwise."""

KINDS: dict[str, Maker] = {
    "b-frames": _made("v.mp4", x264="bframes=3:b-pyramid=normal"),
    "open gop": _made("v.mp4", x264="open-gop=1:bframes=3:b-adapt=0:min-keyint=8"),
    "no b-frames": _made("v.mp4", x264="bframes=0:ref=4"),
    "intra refresh": _made("v.mp4", x264="intra-refresh=1:bframes=0"),
    "adaptive b-frames": _made("v.mkv", preset="slow", x264="keyint=250"),
    "one gop": _made("v.mp4", x264="keyint=250:bframes=7:b-adapt=2"),
    "no vui": lambda f: without_vui(
        encode(f / "a.mp4", x264="bframes=7:b-adapt=0:b-pyramid=normal"), f / "v.mp4"
    ),
    "interlaced": _made("v.mp4", x264="tff=1:bframes=2"),
    "annex b": _made("v.avi", x264="bframes=0:annexb=1:repeat-headers=1"),
    "fragmented": _made("v.mp4", muxer_movflags="frag_keyframe+empty_moov"),
    "vfr": _made("v.mp4", ticks=VFR),
    "10 bit": _made("v.mp4", pix_fmt="yuv420p10le"),
    "4:4:4": _made("v.mp4", pix_fmt="yuv444p", x264="keyint=12"),
    "odd sizes": _made("v.mp4", pix_fmt="yuv444p", size=(47, 63)),
    "full range": _made("v.mp4", pix_fmt="yuvj420p"),
    "edit list": lambda f: shift(encode(f / "a.mp4", x264="keyint=48"), f / "v.mp4", -11),
    "late start": lambda f: shift(encode(f / "a.mp4"), f / "v.mp4", 125),
    "late start mkv": lambda f: shift(encode(f / "a.mp4"), f / "v.mkv", 125),
    **{kind: _displayed(matrix) for kind, matrix in MATRICES.items()},
    "several units under one size": lambda f: rewrite(
        encode(f / "a.mp4", x264="bframes=3:b-pyramid=normal"), f / "v.mp4", under_one_size
    ),
    "slices under one size": lambda f: rewrite(
        encode(f / "a.mp4", x264="bframes=3:slices=3"), f / "v.mp4", slices_under_one_size
    ),
    "b-frames avi": lambda f: remux(
        encode(f / "a.mp4", x264="bframes=3:b-adapt=0"), f / "v.avi", "h264_mp4toannexb"
    ),
    "all at once": lambda f: all_at_once(encode(f / "a.mp4", x264="bframes=0"), f / "v.mkv"),
    "two streams": lambda f: two_streams(f / "v.mp4", (24, 32), (48, 64), default=[1]),
    "cover": lambda f: with_cover(encode(f / "a.mp4"), f / "v.mp4"),
    "hevc": _made("v.mp4", "libx265", **{"x265-params": "keyint=20:bframes=3:log-level=0"}),
    "vp9": _made("v.webm", "libvpx-vp9", g="20", crf="30", **{"auto-alt-ref": "1"}),
    "vp8": _made("v.webm", "libvpx", g="20", **{"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "mpeg-4": _made("v.avi", "mpeg4", g="12", qscale="3"),
    "mpeg-4 b": _made("v.mp4", "mpeg4", bf="2", g="12"),
    "mpeg-4 b avi": _made("v.avi", "mpeg4", bf="2", g="12"),
    "mpeg-1": _made("v.mpg", "mpeg1video", bf="2", g="12"),
    "mpeg-1 avi": _made("v.avi", "mpeg1video", bf="2", g="12"),
    "mpeg-2": _made("v.mkv", "mpeg2video", bf="2", g="12", flags="+ildct+ilme"),
    "motion jpeg": _made("v.avi", "mjpeg", pix_fmt="yuvj420p"),
    "motion jpeg, tables once": lambda f: repacket(
        encode(f / "a.avi", "mjpeg", pix_fmt="yuvj420p", huffman="default", qmin="4", qmax="4"),
        f / "v.avi",
        tables_once,
    ),
    "motion jpeg, mirrored": lambda f: repacket(
        encode(f / "a.avi", "mjpeg", pix_fmt="yuvj420p"),
        f / "v.avi",
        lambda _, picture: picture[:2] + exif(5) + picture[2:],
    ),
    "mpeg-4, encoder named once": lambda f: repacket(
        encode(f / "a.avi", "mpeg4", g="12", qscale="3", fflags="+bitexact", flags="+bitexact"),
        f / "v.avi",
        lambda number, packet: (b"" if number else b"\0\0\1\xb2XviD0046") + packet,
    ),
    "joined": lambda f: joined(
        encode(f / "a.mp4", ticks=range(0, 1200, 40), x264="bframes=0"),
        encode(f / "b.mp4", ticks=range(0, 1200, 40), x264="bframes=0:cqm=jvt", pix_fmt="yuvj420p"),
        f / "v.mp4",
    ),
    "ffv1": _made("v.mkv", "ffv1"),
    "prores": _made("v.mov", "prores_ks", pix_fmt="yuv422p10le"),
    "dnxhd": _made("v.mov", "dnxhd", pix_fmt="yuv422p", profile="dnxhr_lb", size=(128, 256)),
    "av1": _made("v.mkv", "libsvtav1", preset="12", size=(64, 64)),
}
"""Name -> what makes it in a folder."""

UNINDEXED = {
    "vp8": "codec vp8",
    "ffv1": "codec ffv1",
    "prores": "codec prores",
    "dnxhd": "codec dnxhd",
    "av1": "codec libdav1d",
    "mpeg-1": "packets lie in pieces",
}
"""Kinds without a packet index, and why."""

"""What a file is by its name, and by its first bytes, whatever it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Media = Literal["video", "image"]
SUFFIXES: Mapping[Media, tuple[str, ...]] = {
    "video": (
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
        *(".qt", ".f4v", ".3gp", ".3g2", ".divx", ".mpe", ".m2v", ".vob"),
    ),
    "image": (".jpg", ".jpeg", ".png"),
}
"""What is read, by its name, the common ones first; the container is judged by its content."""
NOT_READ: Mapping[Media, frozenset[str]] = {
    "video": frozenset(
        {".ts", ".mts", ".m2ts", ".mod", ".tod", ".wmv", ".asf", ".flv", ".ogv", ".ogg", ".ogm"}
        | {".rm", ".rmvb", ".mxf", ".dv", ".y4m", ".yuv", ".mjpeg", ".h264", ".264", ".h265"}
        | {".265", ".hevc", ".ivf", ".swf", ".gif"}
    ),
    "image": frozenset(
        {".gif", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl"}
        | {".ppm", ".pgm", ".svg"}
    ),
}
"""Files that hold the same and are not read."""

IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG")
"""How the bytes of a JPEG and of a PNG begin."""

_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (257, b"ustar", "a tar"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"II+\0", "a TIFF image"),
    (0, b"MM\0+", "a TIFF image"),
    (4, b"ftypavi", "an AVIF image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftyphev", "a HEIC image"),
    (4, b"ftypmif1", "a HEIC image"),
    (4, b"ftypmsf1", "a HEIC image"),
    (4, b"ftypcrx", "a raw image of a camera"),
    (0, b"\0\0\0\x0cjP", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\0\0\0\x0cJXL", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"8BPS", "a Photoshop image"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"%PDF", "a PDF file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (8, b"AVI ", "an AVI video"),
    (4, b"ftyp", "an MP4 or MOV video"),
    (4, b"moov", "an MP4 or MOV video"),
    (4, b"mdat", "an MP4 or MOV video"),
    (4, b"wide", "an MP4 or MOV video"),
    (0, b"\0\0\1\xba", "an MPEG video"),
    (0, b"\0\0\1\xb3", "an MPEG video"),
    (0, b"FLV\1", "a Flash video"),
    (0, b"\x30\x26\xb2\x75", "a Windows Media video"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ", "an xz file"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 file"),
    (0, b"PK\3\4", "a zip file"),
    (0, b"7z\xbc\xaf", "a 7z file"),
    (0, b"Rar!", "a RAR file"),
    (0, b"version https://git-lfs", "a Git LFS pointer"),
)
"""Offset, bytes there, and what begins so; the first that fits."""

_TEXTS = (
    (b"<svg", "an SVG image"),
    (b"<html", "an HTML page"),
    (b"<!doctype html", "an HTML page"),
)
_TEXT = 1024  # bytes in which a text says what it is
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes

PACKED = (
    *("a gzip file", "a Zstandard file", "a bzip2 file", "an xz file", "an LZ4 file"),
    *("a zip file", "a 7z file", "a RAR file"),
)
"""What has to be unpacked before it is read."""


def kind_of(data: bytes) -> str:
    """What the bytes of a file begin like, such as ``a WebP image``; empty = not known."""
    for offset, magic, kind in _KINDS:
        if data.startswith(magic, offset):
            return kind
    # Two letters are few: only before the zeros and a header's length that must be there.
    if data[:2] == b"BM" and data[6:10] == bytes(4) and data[14:15] in map(_byte, _BMP_HEADERS):
        return "a BMP image"
    if data[:1] == b"P" and data[1:2] in map(_byte, b"123456") and data[2:3].isspace():
        return "a PNM image"
    text = data[:_TEXT].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return ""
    return next((kind for mark, kind in _TEXTS if mark in text), "an XML text")


def _byte(number: int) -> bytes:
    return bytes([number])


def refusal_of_image(data: bytes) -> str:
    """Why bytes are not read as an image; empty = they begin like a JPEG or PNG."""
    if data.startswith(IMAGE_MAGIC):
        return ""
    kind = kind_of(data)
    return f"{kind}: only JPEG and PNG are read" if kind else "no readable JPEG or PNG file"

"""Files by what they begin like."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

from sce_video.video.kinds import PACKED, kind_of, refusal_of_image
from tests.videos import moving_square, write_video


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", ""),
        (b"BM", ""),
        (b"BM is a text", ""),
        (b"P5 and so on", "a PNM image"),
        (b"P9 and so on", ""),
        (b"{}", ""),
        (b"8BPS\0\1", "a Photoshop image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC image"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "a HEIC image"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0", "a raw image of a camera"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        (b"\xef\xbb\xbf\n <HTML>", "an HTML page"),
        (b"<?xml version='1.0'?>\n<!-- made by -->\n<svg width='9'>", "an SVG image"),
        (b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>", "an XML text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "a Git LFS pointer"),
        (b"%PDF-1.7", "a PDF file"),
        (b"PAR1", "a Parquet file"),
    ],
)
def test_kinds(data: bytes, kind: str) -> None:
    assert kind_of(data) == kind
    why = f"{kind}: only JPEG and PNG are read" if kind else "no readable JPEG or PNG file"
    assert refusal_of_image(data) == why
    assert kind not in PACKED


@pytest.mark.parametrize(
    ("ext", "codec", "kind"),
    [
        ("mp4", "libx264", "an MP4 or MOV video"),
        ("mov", "libx264", "an MP4 or MOV video"),
        ("mkv", "libx264", "a Matroska or WebM video"),
        ("avi", "mpeg4", "an AVI video"),
        ("mpg", "mpeg1video", "an MPEG video"),
    ],
)
def test_videos(ext: str, codec: str, kind: str, tmp_path: Path) -> None:
    data = write_video(tmp_path / f"v.{ext}", moving_square(3), codec=codec).read_bytes()
    assert kind_of(data) == kind


def test_packed_files() -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as stream:
        stream.writestr("a", "b")
    made = {
        "a gzip file": gzip.compress(b"x"),
        "a bzip2 file": bz2.compress(b"x"),
        "an xz file": lzma.compress(b"x"),
        "a zip file": zipped.getvalue(),
        "a Zstandard file": b"\x28\xb5\x2f\xfd\x04",
        "an LZ4 file": b"\x04\x22\x4d\x18",
        "a 7z file": b"7z\xbc\xaf\x27\x1c",
        "a RAR file": b"Rar!\x1a\x07",
    }
    assert {kind_of(data): name for name, data in made.items()} == {n: n for n in PACKED}
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as stream:
        stream.addfile(tarfile.TarInfo("vid_wide.mp4"))
    assert kind_of(tar.getvalue()) == "a tar"

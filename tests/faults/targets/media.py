"""Readers of images and videos: the look at a file, its frames, the converter's door."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from sce_video.stream.clips import UniformClips
from sce_video.stream.cut import make_clips
from sce_video.video.examine import examine_video
from sce_video.video.examine_image import examine_image
from sce_video.video.peek import peek
from tests.faults.mutators.dice import one_of
from tests.faults.mutators.generic import damage
from tests.faults.mutators.pictures import jpeg_file, png_file
from tests.faults.targets.house import House
from tests.faults.targets.target import Target
from tests.odd_videos import KINDS
from tests.videos import moving_square

_STILL = UniformClips(1, 1, 1, 0.0, 16, short=8 / 7)
_VIEWS = UniformClips(2, 1, 2, 0.2, 16)
_VIDEOS = {
    "a.mp4": "b-frames",
    "b.mkv": "adaptive b-frames",
    "c.avi": "mpeg-4",
    "d.webm": "vp9",
    "e.mpg": "mpeg-1",
    "f.avi": "motion jpeg",
    "g.mp4": "fragmented",
}


def _make_pictures(house: House, folder: Path) -> None:
    image = Image.fromarray(moving_square(1, 40, 48)[0])
    for name, shown, options in (
        ("a.jpg", image, {}),
        ("b.jpg", image, {"progressive": True}),
        ("c.jpg", image.convert("CMYK"), {}),
        ("d.png", image, {}),
        ("e.png", image.quantize(16), {"transparency": 3}),
        ("f.png", image.convert("LA"), {}),
    ):
        buffer = io.BytesIO()
        shown.save(buffer, "JPEG" if name.endswith("jpg") else "PNG", **options)
        (folder / name).write_bytes(buffer.getvalue())


def _read_picture(folder: Path, place: str) -> None:
    data = (folder / place).read_bytes()
    make_clips(data, _STILL(peek(data), 0, 0))


def _examine_picture(folder: Path, place: str) -> None:
    examine_image((folder / place).read_bytes())


def _make_videos(house: House, folder: Path) -> None:
    for name, kind in _VIDEOS.items():
        KINDS[kind](folder).rename(folder / name)


def _read_video(folder: Path, place: str) -> None:
    data = (folder / place).read_bytes()
    make_clips(data, _VIEWS(peek(data), 0, 0))


def _examine(folder: Path, place: str) -> None:
    examine_video((folder / place).read_bytes())


_PLACES = dict.fromkeys(_VIDEOS, damage)
_PICTURES = {
    **dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), one_of(jpeg_file, jpeg_file, damage)),
    **dict.fromkeys(("d.png", "e.png", "f.png"), one_of(png_file, png_file, damage)),
}
TARGETS = (
    Target("image", _make_pictures, _PICTURES, _read_picture, share=3, replaced=False),
    Target("image at the door", _make_pictures, _PICTURES, _examine_picture, replaced=False),
    Target("video", _make_videos, _PLACES, _read_video, share=3, replaced=False),
    Target("video at the door", _make_videos, _PLACES, _examine, replaced=False),
)

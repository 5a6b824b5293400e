"""A folder of everything that goes wrong with videos: each a named reject or a whole sample."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from sce_video.shard.convert import convert
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Options, find_source
from sce_video.shard.verify import verify
from sce_video.shardset.index import open_shards
from sce_video.video.encode import Encoding
from tests.odd_videos import FRAMES, KINDS, audio_only, display_by, encode
from tests.videos import moving_square, write_video

REASONS = {
    "zero.mp4": {"empty file"},
    "garbage.mp4": {"no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"},
    "page.mp4": {"no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"},
    "playlist.mp4": {"no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"},
    "moov lost.mp4": {"cut off"},
    "cut.mp4": {"cut off"},
    "cut.avi": {"cut off"},
    "cut.mkv": {"cut off"},
    "audio only.mp4": {"no video stream"},
    "noise in the middle.mp4": {"decode error", "damaged frames"},
    "flipped bits.mp4": {"decode error", "damaged frames"},
    "size changes.mpg": {"frame size changes", "decode error"},
    "one frame.mp4": {"too short"},
    "oblique.mp4": {"turned other than by quarters"},
}


def _resized(folder: Path) -> bytes:
    parts = []
    for height in (48, 64):
        path = folder / f"{height}.mpg"
        encode(path, "mpeg1video", size=(height, 64), ticks=range(0, 400, 40))
        parts.append(path.read_bytes())
    return parts[0] + parts[1]


def _damaged(folder: Path) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    video = moving_square(80, 96, 128)
    noise = rng.integers(-30, 30, video.shape)
    video = np.clip(video + noise, 0, 255).astype(np.uint8)  # some 100 kB
    good = write_video(folder / "good.mp4", video).read_bytes()
    encode(folder / "fast.mp4", muxer_movflags="faststart")
    avi = encode(folder / "good.avi", "mpeg4").read_bytes()
    mkv = encode(folder / "good.mkv").read_bytes()
    middle, flipped = bytearray(good), bytearray(good)
    start = good.index(b"mdat") + 4
    at = start + (len(good) - start) // 3
    middle[at : at + 20_000] = rng.bytes(20_000)
    for place in rng.integers(start, start + (len(good) - start) // 2, 60):
        flipped[place] ^= 1 << int(rng.integers(8))
    return {
        "zero.mp4": b"",
        "garbage.mp4": rng.bytes(20_000),
        "page.mp4": b"<!DOCTYPE html><html><body>404</body></html>" * 99,
        "playlist.mp4": b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1/x.ts\n#EXT-X-ENDLIST\n",
        "moov lost.mp4": good[: len(good) * 8 // 10],
        "cut.mp4": (folder / "fast.mp4").read_bytes()[:-3000],
        "cut.avi": avi[:-1000],
        "cut.mkv": mkv[:-1000],
        "audio only.mp4": audio_only(),
        "noise in the middle.mp4": bytes(middle),
        "flipped bits.mp4": bytes(flipped),
        "size changes.mpg": _resized(folder),
        "one frame.mp4": write_video(folder / "1.mp4", moving_square(1)).read_bytes(),
        "oblique.mp4": display_by(
            encode(folder / "o.mp4"), folder / "p.mp4", (0.7, 0.7, -0.7, 0.7)
        ).read_bytes(),
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every damaged file and every odd but good one."""
    made, folder = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("raw")
    for name, data in _damaged(made).items():
        (folder / name).write_bytes(data)
    for kind, make in KINDS.items():
        path = make(made)
        name = kind.replace(":", "-") + path.suffix
        (folder / name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("encoding", [None, Encoding(quality="fast")])
def test_each_is_a_named_reject_or_a_sample(
    encoding: Encoding | None, raw: Path, tmp_path: Path
) -> None:
    scan = find_source("folder").scan("folder", raw, Options(unlabelled=True))
    plan = make_plan(scan, Settings("odd", encoding=encoding))
    convert(plan, tmp_path / "odd", workers=2, max_rejects=0.5)
    with (tmp_path / "odd" / "rejects.csv").open(newline="") as stream:
        rejects = {row["path"]: row["reason"] for row in csv.DictReader(stream)}
    assert rejects.keys() == REASONS.keys()
    assert {name: rejects[name] for name in REASONS if rejects[name] not in REASONS[name]} == {}
    shards = open_shards(tmp_path / "odd")
    assert len(shards) == len(KINDS)
    assert verify(tmp_path / "odd") == 0
    frames = dict(zip(shards.strings("path"), shards.numbers("frames"), strict=True))
    usual = [name for name in frames if name not in ("edit list.mp4", "vfr.mp4")]
    assert {int(frames[name]) for name in usual} == {FRAMES}
    if encoding is not None:
        assert (shards.numbers("idx_offset") > 0).all()
        assert set(shards.numbers("fps")) == {25.0}

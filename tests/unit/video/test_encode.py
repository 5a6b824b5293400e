"""Layered encoding: its structure, its pixels and times, and equal bytes every time."""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sce_video.errors import UsageError
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Record, Scan
from sce_video.video.container import open_video, upright_rgb
from sce_video.video.encode import Encoding, LayeredEncoder
from sce_video.video.examine import examine_video
from sce_video.video.facts import Rejected
from sce_video.video.orientation import UPRIGHT, orientation_of
from sce_video.video.packets import KEY, LAYER_SHIFT
from tests.odd_videos import KINDS, VFR, encode
from tests.unit.video.layered import layered
from tests.videos import moving_square, write_video


def settings_of(data: bytes) -> dict[str, str]:
    """What x264 itself says it did."""
    found = re.search(rb"options: ([ -~]+)", data)
    assert found is not None
    return dict(item.split("=") for item in found[1].decode().split() if "=" in item)


@pytest.mark.parametrize(
    ("quality", "crf", "subme"), [("high", "23.0", "7"), ("fast", "21.0", "2")]
)
def test_the_settings(quality: str, crf: str, subme: str, tmp_path: Path) -> None:
    data, _ = layered(KINDS["b-frames"](tmp_path).read_bytes(), Encoding(quality=quality))  # type: ignore[arg-type]
    found = settings_of(data)
    wanted = {"keyint": "32", "scenecut": "0", "open_gop": "0", "bframes": "7", "b_adapt": "0"}
    wanted |= {"b_pyramid": "1", "weightp": "0", "crf": crf, "subme": subme, "threads": "1"}
    wanted |= {"cabac": "0", "deblock": "0:0:0", "weightb": "0"}
    assert {name: found.get(name) for name in wanted} == wanted


def test_groups_of_eight(tmp_path: Path) -> None:
    data, facts = layered(encode(tmp_path / "v.mp4", ticks=range(0, 4000, 40)).read_bytes())
    index = facts.packets
    assert index is not None
    shown = index.kind[np.argsort(index.number)]
    assert np.flatnonzero(shown & KEY).tolist() == [0, 32, 64, 96]
    layer = (index.kind >> LAYER_SHIFT)[np.argsort(index.number)]
    assert (layer[0:96:8] == 0).all()
    assert (layer[4:28:8] == 1).all()
    assert (layer[[1, 2, 3, 5, 6, 7]] == 2).all()
    assert facts.fps == 25
    with open_video(data) as (container, stream):
        assert stream.average_rate == 25
        assert len(container.streams) == 1


def test_the_right_frame_at_the_right_time(tmp_path: Path) -> None:
    """Variable frame rate becomes 25 a second; each frame is the one shown then."""
    source = KINDS["vfr"](tmp_path).read_bytes()
    data, facts = layered(source)
    truth, got = (
        np.stack([upright_rgb(f, UPRIGHT) for f in frames]).astype(int)
        for frames in (_frames(source), _frames(data))
    )
    assert len(got) == facts.frames == pytest.approx(VFR[-1] / 40, abs=2)
    starts = np.array([math.floor(Fraction(t, 40) + Fraction(1, 2)) for t in VFR])
    for number, image in enumerate(got):
        distance = np.abs(truth - image).mean((1, 2, 3))
        shown = np.flatnonzero(starts == starts[starts <= number].max())[0]
        assert distance[shown] < 4
        assert distance[shown] == distance.min()


def _frames(data: bytes) -> list[av.VideoFrame]:
    with open_video(data) as (container, stream):
        return list(container.decode(stream))


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((48, 64), 256, (48, 64)),  # never enlarged
        ((48, 64), 32, (32, 42)),
        ((64, 48), 32, (42, 32)),
        ((47, 63), 256, (48, 64)),  # 4:2:0 needs even sides
    ],
)
def test_size(
    size: tuple[int, int], short_side: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    path = encode(tmp_path / "v.mp4", pix_fmt="yuv444p", size=size, ticks=range(0, 400, 40))
    _, facts = layered(path.read_bytes(), Encoding(short_side=short_side))
    assert (facts.height, facts.width) == expected


@pytest.mark.parametrize(
    "kind", ["turned 90", "turned 180", "turned 270", "full range", "10 bit", "joined"]
)
def test_pixels_look_the_same(kind: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path).read_bytes()
    data, facts = layered(source)
    truth = np.stack([upright_rgb(f, orientation_of(f)) for f in _frames(source)]).astype(int)
    got = np.stack([upright_rgb(f, orientation_of(f)) for f in _frames(data)])
    assert (facts.height, facts.width) == got.shape[1:3] == truth.shape[1:3]
    assert np.abs(got - truth).mean() < 10
    assert np.abs((got - truth).mean((0, 1, 2))).max() < 2  # no shift of range or matrix
    contrast = got.std((1, 2, 3)) / truth.std((1, 2, 3))
    assert np.abs(contrast - 1).max() < 0.09  # of no frame


def test_audio_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        for image in moving_square(20):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 12_800), np.float32), format="fltp", layout="mono"
        )
        sound.sample_rate, sound.pts = 16_000, 0
        for stream in (video, audio):
            container.mux(audio.encode(sound) if stream is audio else [])
            container.mux(stream.encode(None))
    data, _ = layered(path.read_bytes())
    with av.open(str(path)) as before:
        assert len(before.streams.audio) == 1
    with open_video(data) as (container, _):
        assert [stream.type for stream in container.streams] == ["video"]


def _digest(path: Path) -> str:
    return hashlib.sha256(layered(path.read_bytes())[0]).hexdigest()


def _digests(paths: list[Path]) -> dict[str, str]:
    return {path.name: _digest(path) for path in paths}


@pytest.mark.slow
def test_equal_bytes_in_any_order_and_process(tmp_path: Path) -> None:
    """With AVX-512, x264 gives other bytes from the second encode of a process on."""
    paths = []
    for seed in range(10):
        video = moving_square(40, 120, 160, seed=seed)
        noise = np.random.default_rng(seed).integers(-20, 20, video.shape)
        video = np.clip(video + noise, 0, 255).astype(np.uint8)
        paths.append(write_video(tmp_path / f"{seed}.mp4", video))
    orders = [paths, paths[::-1], [*paths[5:], *paths[:5]]]
    first, *others = [_digests(order) for order in orders]
    assert all(other == first for other in others)
    assert len(set(first.values())) == 10
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        apart = pool.map(_digest, paths, chunksize=1)
    assert apart == [first[path.name] for path in paths]


def test_what_does_not_encode_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = KINDS["4:4:4"](tmp_path).read_bytes()
    with pytest.raises(Rejected, match="too many frames"):
        examine_video(data, sink=LayeredEncoder(Encoding(), max_frames=59).add)
    monkeypatch.setattr("sce_video.video.encode._SCALE", "nonsense")
    with pytest.raises(Rejected, match="does not encode"):
        layered(data)


def test_the_last_frame_lasts_as_long_as_it_did(tmp_path: Path) -> None:
    data = encode(tmp_path / "v.mp4", ticks=range(0, 4000, 500)).read_bytes()
    _, facts = layered(data)
    assert facts.frames == 100


def test_images_are_not_transcoded(tmp_path: Path) -> None:
    scan = Scan("image", (Record("a.jpg", tmp_path / "a.jpg", 1, -1, {}),))
    with pytest.raises(UsageError, match="holds images; --encode layered is for videos"):
        make_plan(scan, Settings("pictures", encoding=Encoding()))

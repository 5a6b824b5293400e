"""Clips of tars made by others: fixed steps whatever they hold, damage told."""

from __future__ import annotations

import gzip
import io
import logging
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from sce_video.config.load import load_config
from sce_video.config.recipes import RandomResizedCrop
from sce_video.errors import SceVideoError, UsageError
from sce_video.stream.clips import ClipTiming, RandomClips
from sce_video.stream.cut import make_clips
from sce_video.stream.data import open_data
from sce_video.stream.foreign import clips
from sce_video.stream.foreign.clips import (
    IMAGES,
    VIDEOS,
    ForeignClips,
    TarSample,
    mixed,
    tar_samples,
)
from sce_video.stream.foreign.plan import ForeignPlan, expand
from sce_video.stream.loader import ClipBatch, load
from sce_video.stream.remote.cache import Cache
from sce_video.video.peek import peek
from tests.pictures import encoded
from tests.servers import Server
from tests.unit.shardset.test_tar_members import base256, header, padded
from tests.unit.stream.conftest import SAMPLER
from tests.unit.stream.foreign.tars import plan, write_tar
from tests.videos import moving_square, write_video

ODD = ["b-frames", "vfr", "edit list", "turned 90", "mpeg-4 b avi", "mpeg-1", "vp9", "annex b"]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("v") / "v.mp4", moving_square(12)).read_bytes()


def stream(found: ForeignPlan, consumed: int = 0, workers: int = 0) -> list[ClipBatch]:
    return list(load(ForeignClips(found, SAMPLER, consumed), None, workers=workers))


def read(path: str) -> list[TarSample]:
    with Path(path).open("rb") as tar:
        return list(tar_samples(tar, "t", VIDEOS))


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (2, 1), (1, 2), (4, 0)])
def test_every_rank_gets_its_steps(tmp_path: Path, video: bytes, ranks: int, workers: int) -> None:
    """Uneven tars, one of them with a single sample, fewer than readers, one with none."""
    sizes = (7, 1, 0)
    shards = [
        write_tar(tmp_path / f"{i}.tar", [(f"{n}.mp4", video) for n in range(size)])
        for i, size in enumerate(sizes)
    ]
    for rank in range(ranks):
        found = plan(shards, rank, ranks)
        assert found.steps_per_epoch == 2
        batches = stream(found, workers=workers)
        assert len(batches) == 4  # 2 epochs of 9 // 4 steps
        assert {len(b.rows) for b in batches} == {4 // ranks}
        assert {b.views[1].shape for b in batches} == {(4 // ranks, 4, 3, 32, 32)}
        for a, b in zip(
            batches, stream(found, workers=0 if workers == 1 else workers), strict=True
        ):
            assert (a.names, a.epochs.tolist()) == (b.names, b.epochs.tolist())
            assert torch.equal(a.views[0], b.views[0])


def test_a_pass_takes_each_sample_once_and_mixes_them(tmp_path: Path, video: bytes) -> None:
    shards = [
        write_tar(tmp_path / f"{i}.tar", [(f"{n}.mp4", video) for n in range(4)]) for i in range(4)
    ]
    names = [name for b in stream(plan(shards, epoch_samples=16)) for name in b.names]
    first, second = names[:16], names[16:]
    assert sorted(first) == sorted(second) == [f"{s}/{n}" for s in shards for n in range(4)]
    assert first != second
    assert len({name.rpartition("/")[0] for name in first[:4]}) > 1  # not one tar after the other
    again = [name for b in stream(plan(shards, epoch_samples=16), 16) for name in b.names]
    assert len(again) == 16
    assert again != second  # a resume starts afresh
    assert sorted(again) == sorted(second)


def test_ranks_share_a_tar(tmp_path: Path, video: bytes) -> None:
    shard = write_tar(tmp_path / "t.tar", [(f"{n}.mp4", video) for n in range(8)])
    plans = [plan([shard], rank, 2, batch_size=8, epoch_samples=8) for rank in range(2)]
    first = [name for found in plans for name in stream(found)[0].names]
    assert sorted(first) == [f"{shard}/{n}" for n in range(8)]


def test_clips_are_keyed_by_tar_and_key(tmp_path: Path, video: bytes) -> None:
    shard = write_tar(tmp_path / "a.tar", [("x/1.mp4", video), ("2.mp4", video)])
    batch = stream(plan([shard], batch_size=2, epoch_samples=2))[0]
    assert sorted(batch.names) == [f"{shard}/2", f"{shard}/x/1"]
    for row, epoch, name, *views in zip(
        batch.rows.tolist(), batch.epochs.tolist(), batch.names, *batch.views, strict=True
    ):
        assert row == TarSample(name).number >= 0
        specs = SAMPLER(peek(video), epoch, row)
        for a, b in zip(views, make_clips(video, specs), strict=True):
            assert torch.equal(a, b)
    later = stream(plan([shard], batch_size=2, epoch_samples=2), 2)[0]
    assert set(later.epochs.tolist()) == {2}  # other clips than before the resume


def test_odd_names(tmp_path: Path, video: bytes) -> None:
    names = ["a b.tar", "c#d.tar", "e?f.tar", "g[h].tar", "i{1,2}.tar", "j%20.tar"]
    shards = [write_tar(tmp_path / name, [("k.mp4", video)]) for name in names]
    assert expand(str(tmp_path / "*.tar")) == sorted(shards)
    assert expand(shards) == shards
    batches = stream(plan(shards, batch_size=6, epoch_samples=6))
    assert sorted(batches[0].names) == sorted(f"{shard}/k" for shard in shards)


def test_samples_are_webdatasets(tmp_path: Path, video: bytes) -> None:
    path = write_tar(
        tmp_path / "t.tar",
        [
            ("dir.x/a.json", b'{"label": 3, "caption": "x"}'),
            ("dir.x/a.MP4", video),
            ("b.txt", b"words"),
            ("b.avi", b"avi"),
            ("b.cls", b"7"),
            ("c.jpg", b"a picture beside videos"),
            ("d.cls", b"not a number"),
            ("d.webm", b"webm"),
            ("e.pkl", b"cos\nsystem\n(S'touch /tmp/pickled'\ntR."),
            ("v1.2_x.mp4", b"x"),
            ("v1.2_y.mp4", b"y"),
            ("f.json", b"[]"),
            (".hidden.mp4", b"no key"),
            ("__meta__/g.mp4", b"skipped"),
        ],
    )
    found = {sample.name: sample for sample in read(path)}
    assert {name: s.label for name, s in found.items() if not s.problem} == {
        "t/dir.x/a": 3,
        "t/b": 7,
        "t/d": -1,
    }
    assert found["t/dir.x/a"].data == video
    assert found["t/f"].problem == "jpg where others are asked for: give clip=null"
    assert found["t/v1"].problem.startswith("several media files (2_x.mp4, 2_y.mp4)")
    assert len(found) == 5


def damaged(tmp_path: Path, kind: str) -> str:
    path = Path(write_tar(tmp_path / "t.tar", [(f"{n}.mp4", b"%d" % n * 9000) for n in range(9)]))
    data = bytearray(path.read_bytes())
    member = 512 + -(-9000 // 512) * 512
    if kind == "cut between members":
        del data[3 * member :]
    elif kind == "cut inside a member":
        del data[3 * member + 4000 :]
    elif kind == "header":
        data[3 * member : 3 * member + 512] = b"\xff" * 512
    elif kind == "zeros":
        data[3 * member : 3 * member + 512] = bytes(512)
    elif kind == "no tar":
        data = bytearray(b"<html>" * 1000)
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "sound", "problem"),
    [
        ("cut between members", 3, "has no end: cut off, or no plain tar"),
        ("cut inside a member", 3, "has no end: cut off, or no plain tar"),
        ("header", 3, "damaged: bad checksum"),
        ("zeros", 3, "damaged: data behind what reads like its end"),
        ("no tar", 0, "has no end: cut off, or no plain tar"),
    ],
)
def test_a_damaged_tar_is_told(tmp_path: Path, kind: str, sound: int, problem: str) -> None:
    samples = read(damaged(tmp_path, kind))
    assert [s.name for s in samples if not s.problem] == [f"t/{n}" for n in range(sound)]
    problems = [s for s in samples if s.problem]
    assert problem in {s.problem for s in problems}
    assert {s.name for s in problems} == {"t"}


def hostile(path: Path, kind: str, video: bytes) -> str:
    """A good sample and then what nobody should believe."""
    good = header("a.mp4", len(video)) + padded(video)
    huge = 1 << 40
    with path.open("wb") as file:
        file.write(good)
        if kind == "base-256":
            file.write(header("b.mp4", base256(huge)))
        elif kind == "backwards":
            file.write(header("b.mp4", base256(-1024)))
        elif kind == "large":
            file.write(header("b.mp4", base256(huge)))
            file.seek(huge, 1)
        elif kind == "large label":
            file.write(header("b.json", 3 << 30) + b"{")
            file.seek((3 << 30) - 1, 1)
            file.write(header("b.mp4", len(video)) + padded(video))
        elif kind == "zeros behind its end":
            file.write(bytes(1024))
            file.seek(huge, 1)
        elif kind == "control characters":
            file.write(header("b\x1b[2J\n=1.mp4", 3) + padded(b"123"))
        file.write(bytes(1024))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "name", "problem"),
    [
        ("base-256", "", "has no end"),
        ("backwards", "", "damaged: b.mp4: its header gives it -1,024 bytes"),
        ("large", "/b", "larger than 1,073,741,824 bytes"),
        ("large label", "", ""),
        ("zeros behind its end", "", "damaged: data behind what reads like its end"),
        ("control characters", r"/b\x1b[2J\n=1", "no readable MP4"),
    ],
)
def test_a_hostile_tar_costs_one_sample(
    tmp_path: Path, video: bytes, kind: str, name: str, problem: str
) -> None:
    """Not the run, no memory, no time; what follows is read."""
    shard = hostile(tmp_path / "t.tar", kind, video)
    if kind == "base-256":
        with Path(shard).open("r+b") as file:  # nothing but the header says more
            file.truncate(len(padded(video)) + 1024)
    tracemalloc.start()
    try:
        batch = stream(plan([shard], batch_size=4, epoch_samples=4))[0]
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()
    assert len(batch.rows) == 4
    assert {bad for bad, _ in batch.bad} == ({f"{shard}{name}"} if problem else set())
    assert all(why.startswith(problem) for _, why in batch.bad)


def test_a_pipe_is_no_tar(tmp_path: Path, video: bytes) -> None:
    shard = tmp_path / "p.tar"
    os.mkfifo(shard)
    with pytest.raises(UsageError, match=r"p.tar: is not a regular file"):
        expand(str(shard))
    with pytest.raises(SceVideoError, match=r"p.tar: is not a regular file"):
        stream(plan([str(shard)]))


def test_few_samples_are_held_where_they_are_large() -> None:
    held, given = 0, 0
    samples = (TarSample(str(n), bytes(1000)) for n in range(100))

    def counted() -> Iterator[TarSample]:
        nonlocal given
        for sample in samples:
            given += 1
            yield sample

    names, most = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "_SHUFFLE_BYTES", 10_000)
        for sample in mixed(counted(), random.Random(0)):  # noqa: S311
            names.append(sample.name)
            held = given - len(names)
            most = max(most, held)
    assert most == 10
    assert sorted(names, key=int) == [str(n) for n in range(100)] != names


def test_a_member_that_is_there_twice_is_told(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", [("a.mp4", b"1"), ("a.mp4", b"2"), ("b.mp4", b"3")])
    samples = read(path)
    assert [(s.name, s.data) for s in samples if not s.problem] == [("t/a", b"1"), ("t/b", b"3")]
    [problem] = [s.problem for s in samples if s.problem]
    assert "a.mp4: duplicate file name" in problem


def test_bad_samples_are_named_and_replaced(tmp_path: Path, video: bytes) -> None:
    shard = write_tar(
        tmp_path / "t.tar", [("a.mp4", video), ("b.mp4", b"<html>" * 99), ("c.mp4", video)]
    )
    batches = stream(plan([shard], batch_size=4, epoch_samples=4))
    assert {len(b.rows) for b in batches} == {4}
    assert {name for b in batches for name in b.names} == {f"{shard}/a", f"{shard}/c"}
    reason = "no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"
    assert {entry for b in batches for entry in b.bad} == {(f"{shard}/b", reason)}


@pytest.mark.parametrize(
    ("images", "name", "form", "reason"),
    [
        (True, "a.jpg", "WEBP", "a WebP image: only JPEG and PNG are read"),
        (True, "a.png", "GIF", "a GIF image: only JPEG and PNG are read"),
        (True, "a.jpg", "AVIF", "an AVIF image: only JPEG and PNG are read"),
        (True, "a.jpg", "video", "an MP4 or MOV video: only JPEG and PNG are read"),
        (True, "a.jpg", "html", "an HTML page: only JPEG and PNG are read"),
        (True, "a.jpg", "noise", "no readable JPEG or PNG file"),
        (True, "a.webp", "WEBP", "webp: only jpg, jpeg, png are read"),
        (False, "a.mp4", "JPEG", "a JPEG image, not a video"),
        (False, "a.mp4", "PNG", "a PNG image, not a video"),
        (False, "a.mp4", "WEBP", "a WebP image: only JPEG and PNG are read"),
    ],
)
def test_what_is_not_as_it_is_called_is_named(
    tmp_path: Path, video: bytes, images: bool, name: str, form: str, reason: str
) -> None:
    picture = Image.fromarray(moving_square(1, 40, 60)[0])
    made = {"video": video, "html": b"<html>" * 99, "noise": b"\x07" * 999}
    odd = made[form] if form in made else encoded(picture, form)
    good = ("b.jpg", encoded(picture)) if images else ("b.mp4", video)
    members = [(name, odd), ("a.json", b"{}"), good, ("b.json", b"{}")]
    shard = write_tar(tmp_path / "t.tar", members)
    crops = ((RandomResizedCrop((0.2, 1.0)), 16),) * 2
    sampler = RandomClips(crops, ClipTiming(1, 0.0), 0.0, seed=0) if images else SAMPLER
    found = plan([shard], images=images)
    batches = list(load(ForeignClips(found, sampler, 0), None, workers=0))
    assert {n for b in batches for n in b.names} == {f"{shard}/b"}
    assert {entry for b in batches for entry in b.bad} == {(f"{shard}/a", reason)}


@pytest.mark.parametrize("order", ["media first", "labels first", "mixed"])
def test_labels_apart_are_told_once(
    order: str,
    tmp_path: Path,
    video: bytes,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Grouping gives their keys a second time; that is no fault of each sample."""
    monkeypatch.setattr(logging.getLogger("sce_video"), "propagate", True)
    media = [(f"{n}.mp4", video) for n in range(3)]
    labels = [(f"{n}.cls", b"%d" % n) for n in range(3)] + [("lost.cls", b"7")]
    members = {
        "media first": media + labels,
        "labels first": labels + media,
        "mixed": [labels[1], *media[:2], labels[0], media[2], *labels[2:]],
    }[order]
    shard = write_tar(tmp_path / "t.tar", members)
    batches = stream(plan([shard], epoch_samples=16))
    assert {name for b in batches for name in b.names} == {f"{shard}/{n}" for n in range(3)}
    assert {entry for b in batches for entry in b.bad} == {(f"{shard}/lost", "no video or image")}
    [told] = [record.getMessage() for record in caplog.records]
    count = 2 if order == "mixed" else 3
    assert told == (
        f"{shard}: {count} labels do not lie beside their samples, and are not read; "
        "python -m sce_video.shard webdataset makes a set with them"
    )


def test_packed_bytes_end_the_run_when_they_are_met(tmp_path: Path, video: bytes) -> None:
    """Of a tar elsewhere they are seen no sooner."""
    shard = Path(write_tar(tmp_path / "t.tar", [("a.mp4", video)]))
    shard.write_bytes(gzip.compress(shard.read_bytes()))
    for workers in (0, 1):
        with pytest.raises(SceVideoError, match=r"t.tar: a gzip file: several readers cannot"):
            stream(plan([str(shard)]), workers=workers)


def test_layouts_of_downloaders(tmp_path: Path, video: bytes) -> None:
    """As video2dataset and img2dataset write them: a caption and a json beside each, no label."""
    about = b'{"key": "000000001", "status": "success", "caption": "a dog", "url": "https://x"}'
    labelled = about[:-1] + b', "label": 3}'
    jpeg = encoded(Image.fromarray(moving_square(1, 40, 60)[0]))
    for media, data in (("mp4", video), ("jpg", jpeg)):
        members = []
        for number, text in enumerate((about, labelled)):
            key = f"{number:09d}"
            members += [(f"{key}.{media}", data), (f"{key}.json", text), (f"{key}.txt", b"a dog")]
            members += [(f"{key}.en.vtt", b"WEBVTT")]
        path = Path(write_tar(tmp_path / media / "00000.tar", members))
        (path.parent / "00000.parquet").write_bytes(b"PAR1")
        (path.parent / "00000_stats.json").write_text("{}")
        assert expand(f"{path.parent}/*.tar") == [str(path)]
        with path.open("rb") as tar:
            found = list(tar_samples(tar, "t", VIDEOS if media == "mp4" else IMAGES))
        assert [(s.name, s.label, s.problem, s.unlabelled) for s in found] == [
            ("t/000000000", -1, "", ""),
            ("t/000000001", 3, "", ""),
        ]
        assert {s.data for s in found} == {data}


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_to_read_ends_at_once(tmp_path: Path, workers: int) -> None:
    empty = write_tar(tmp_path / "e.tar", [("a.jpg", b"x")])
    with pytest.raises(SceVideoError, match=r"e.tar: neither here nor in the other tars"):
        stream(plan([empty]), workers=workers)
    rotten = write_tar(tmp_path / "r.tar", [("a.mp4", b"x" * 99)])
    with pytest.raises(SceVideoError, match=r"^101 bad samples for one batch, the last .*r.tar/a"):
        stream(plan([rotten]), workers=workers)
    Path(empty).unlink()
    with pytest.raises(SceVideoError, match=r"e.tar: No such file or directory$"):
        stream(plan([empty]), workers=workers)


def test_tars_elsewhere_come_through_the_cache(
    server: Server, tmp_path: Path, video: bytes
) -> None:
    folder, cache = server.folder, Cache(tmp_path / "cache", 10**8)
    here = [
        write_tar(folder / f"{i}.tar", [(f"{n}.mp4", video) for n in range(3)]) for i in range(2)
    ]
    server.faults["0.tar"] = ["503", "503"]
    settings = [f"data.shards={server.url}/{{0..1}}.tar?token=secret", "data.epoch_samples=99"]
    settings += ["data.split=null", f"data.cache={cache.folder}", "train.batch_size=6"]
    found = open_data(load_config("demo.yaml", [*settings, "train.epochs=1"]), 0, 1)[1]
    assert isinstance(found, ForeignPlan)
    batches = stream(found)
    assert len(batches) == 16
    names = {name for b in batches for name in b.names}
    assert names == {f"{server.url}/{i}.tar/{n}" for i in range(2) for n in range(3)}
    assert server.gets == Counter({"0.tar": 2, "1.tar": 1})  # one GET after its HEAD failed
    (folder / "1.tar").write_bytes(Path(here[0]).read_bytes() + bytes(10240))
    stream(found)
    assert server.gets["1.tar"] == 2  # it has changed
    (folder / "1.tar").unlink()
    with pytest.raises(SceVideoError, match=r"/1.tar: not there$") as caught:
        stream(found)
    assert "secret" not in str(caught.value)
    assert len([p for p in cache.folder.iterdir() if len(p.name) == 64]) == 3


def test_images_of_tars_without_an_index(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(moving_square(1, 40, 60)[0]).save(buffer, "JPEG", quality=95)
    jpeg = buffer.getvalue()
    members = [(f"{n}.jpg", jpeg) for n in range(8)] + [("8.jpeg", jpeg[:-60]), ("8.cls", b"1")]
    tar = write_tar(tmp_path / "t.tar", members)
    crops = ((RandomResizedCrop((0.2, 1.0)), 16),) * 2
    sampler = RandomClips(crops, ClipTiming(1, 0.0), 0.0, seed=0)
    found = plan([tar], images=True, epoch_samples=8)
    batches = list(load(ForeignClips(found, sampler, 0), None, workers=0))
    assert len(batches) == 4
    assert batches[0].views[1].shape == (4, 1, 3, 16, 16)
    [[name, reason]] = {bad for batch in batches for bad in batch.bad}
    assert name.endswith("t.tar/8")
    assert reason == "does not decode: damaged image"


def test_the_first_label_that_is_not_readable_is_named_once(
    video: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        logging.getLogger("sce_video"), "propagate", True
    )  # a run's own log ends it
    members = [("mp4", video), ("json", b'{"label": [1]}')]
    tar = write_tar(
        tmp_path / "t.tar", [(f"{k}.{ext}", data) for k in "abcd" for ext, data in members]
    )
    batches = [*islice(ForeignClips(plan([tar]), SAMPLER, 0), 2)]
    assert [batch.labels.tolist() for batch in batches] == [[-1] * 4] * 2
    assert [batch.bad for batch in batches] == [[], []]
    [told] = [record.getMessage() for record in caplog.records]
    assert "its label is not readable ('label' in its json is [1]" in told
    assert told.endswith("it counts as none")

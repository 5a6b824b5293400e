"""``sce-video bench decode``: random clips out of videos, by this project and by other libraries.

CPU time of one core and one thread, of bytes in memory, to RGB frames: two random clips a video.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from sce_video.arguments import Parser
from sce_video.bench.chart import write_chart
from sce_video.bench.peers import Peer, find_peers
from sce_video.bench.sets import Machine, add_arguments, open_sets
from sce_video.bench.timing import Prepare, Spent, Work, measure, one_thread, print_table
from sce_video.errors import SceVideoError, run_command
from sce_video.shard.format import ShardIndex
from sce_video.shard.packets import PacketIndex
from sce_video.stream.clips import ClipSpec, ClipTiming, RandomClips, Video
from sce_video.stream.crops import RandomResizedCrop
from sce_video.stream.decode import decode_frames
from sce_video.stream.decode.planned import open_decoder, plan_packets
from sce_video.stream.loader import make_clips, needed_frames
from sce_video.stream.shards import ShardReader

CLIPS = 2  # a video
DIFFERENCE = 0.2
"""Probability of a temporal difference, which needs each frame's successor, in the rows with it."""
BASE = "pytorchvideo EncodedVideo"
_BARE = "bare libav"
_REFORMATTER = VideoReformatter()


@dataclass(frozen=True)
class Clips:
    """What is cut out of a video."""

    frames: int
    seconds: float
    size: int = 112

    def sampler(self, grid: int, difference: float) -> RandomClips:
        """As training draws them."""
        crops = ((RandomResizedCrop((0.2, 1.0)), self.size),) * CLIPS
        return RandomClips(crops, ClipTiming(self.frames, self.seconds, grid), difference, seed=0)


@dataclass(frozen=True)
class Sample:
    """A video of a set, in memory."""

    media: bytes
    idx: bytes
    video: Video
    name: str


@dataclass(frozen=True)
class Way:
    """One row: how clips are cut out of which kind of set."""

    kind: str
    grid: int
    difference: float
    prepare: Callable[[Sample, Sequence[ClipSpec]], Work]


def ours(sample: Sample, specs: Sequence[ClipSpec]) -> Work:
    """From the bytes of media and packet index, as a worker does."""
    numbers = _numbers(specs)
    return lambda: decode_frames(sample.media, numbers, PacketIndex.from_bytes(sample.idx))


def theirs(peer: Peer, sample: Sample, specs: Sequence[ClipSpec]) -> Work:
    """By another library."""
    return partial(peer, sample.media, [spec.frames for spec in specs], sample.video.fps)


def bare(sample: Sample, specs: Sequence[ClipSpec]) -> Work:
    """The packets that :func:`ours` feeds, made before, to an open decoder: what libav alone takes."""
    index = PacketIndex.from_bytes(sample.idx)
    numbers = _numbers(specs)
    wanted = set(numbers.tolist())
    runs: list[list[av.Packet | None]] = []
    for run in plan_packets(index, numbers):
        packets: list[av.Packet | None] = []
        for place in run.tolist():
            size, offset = int(index.size[place]), int(index.offset[place])
            packet = av.Packet(size)
            packet.update(sample.media[offset : offset + size])
            packet.opaque = int(index.number[place]) in wanted
            packets.append(packet)
        runs.append([*packets, None])
    context = open_decoder(index)
    context.open()
    return partial(_decode, context, runs)


def _decode(context: VideoCodecContext, runs: list[list[av.Packet | None]]) -> list[Any]:
    images = []
    for run in runs:
        for packet in run:
            for frame in context.decode(packet):
                if frame.opaque:
                    images.append(_REFORMATTER.reformat(frame, format="rgb24", threads=1))
        context.flush_buffers()
    return images


def _numbers(specs: Sequence[ClipSpec]) -> NDArray[np.int64]:
    return np.unique(np.concatenate([each for spec in specs for each in needed_frames(spec)]))


def find_ways(kinds: Sequence[str]) -> tuple[dict[str, Way], dict[str, str]]:
    """Rows that the kinds of sets allow, by name, and the libraries that are missing, with why."""
    peers, missing = find_peers()
    ways: dict[str, Way] = {}
    if "copy" in kinds:
        ways = {name: Way("copy", 1, 0.0, partial(theirs, peer)) for name, peer in peers.items()}
    for kind, grid in (("copy", 1), ("layered", 1), ("layered", 8)):
        if kind not in kinds:
            continue
        place = f"{kind}, grid {grid}"
        ways[f"ours, {place}"] = Way(kind, grid, 0.0, ours)
        ways[f"ours, {place}, difference"] = Way(kind, grid, DIFFERENCE, ours)
        ways[f"{_BARE}, {place}"] = Way(kind, grid, 0.0, bare)
        if grid == 8:
            for name in ("torchcodec, approximate", "PyAV, one pass"):
                if name in peers:
                    short = name.partition(",")[0]
                    ways[f"{short}, {place}"] = Way(kind, grid, 0.0, partial(theirs, peers[name]))
    return ways, missing


def read_set(index: ShardIndex, count: int) -> list[Sample]:
    """The first ``count`` videos of a set by path, in memory; those with a packet index."""
    reader, paths = ShardReader(index), index.strings("path")
    samples = []
    for row in sorted(range(len(paths)), key=paths.__getitem__)[:count]:
        packets = reader.packets(row)
        if packets is not None:
            media, video = reader.media(row), reader.video(row)
            samples.append(Sample(media, packets.to_bytes(), video, paths[row]))
    return samples


def bench_decode(
    sets: Mapping[str, ShardIndex], clips: Clips, *, count: int, rounds: int
) -> dict[str, Any]:
    """All tables, as JSON values.

    Args:
        sets: by kind, of the same videos.
        clips: to cut.
        count: videos.
        rounds: how often each row takes each video; other clips each time.
    """
    ways, missing = find_ways(list(sets))
    read = {kind: {s.name: s for s in read_set(index, count)} for kind, index in sets.items()}
    names = sorted(set.intersection(*(set(samples) for samples in read.values())))

    def prepare(way: Way, turn: int, name: str) -> Work:
        sample = read[way.kind][name]
        specs = clips.sampler(way.grid, way.difference)(sample.video, turn, names.index(name))
        return way.prepare(sample, specs)

    left_out = {}
    for video in names:
        for name, way in ways.items():  # warms up what is loaded on first use, too
            try:
                prepare(way, 0, video)()
            except Exception as error:  # noqa: BLE001  (libraries raise what they like)
                left_out[video] = f"{name}: {error}"
                break
    kept = [name for name in names if name not in left_out]
    if not kept:
        raise SceVideoError(f"no video that all rows can decode: {left_out or 'none is indexed'}")
    timed: dict[str, Prepare] = {
        name: lambda turn, number, way=way: prepare(way, turn, kept[number])
        for name, way in ways.items()
    }
    spent = measure(timed, rounds, len(kept))
    samples = {kind: [found[name] for name in kept] for kind, found in read.items()}
    rows = [_row(name, ways[name], spent, samples, clips, rounds) for name in ways]
    return {
        "videos": len(kept),
        "mbit_per_s": {kind: _rate(found) for kind, found in samples.items()},
        "rows": rows,
        "python_share": _python_share(spent),
        "targets": _targets({row["name"]: row["cpu_ms"] for row in rows}, _python_share(spent)),
        "parts": [_parts(index, grid, clips, count, rounds) for index, grid in _grids(sets)],
        "missing": missing,
        "left_out": left_out,
    }

"""Ways to cut random clips out of a video: this project's, other libraries', and libav alone."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import av
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from sce_video.config.recipes import RandomResizedCrop
from sce_video.shardset.index import ShardIndex
from sce_video.stream.clips import ClipSpec, ClipTiming, RandomClips
from sce_video.stream.cut import all_needed
from sce_video.stream.reader import ShardReader
from sce_video.video.container import number_of, number_packet
from sce_video.video.decode import decode_frames
from sce_video.video.decode.planned import keep_decoder, plan_packets, take_decoder
from sce_video.video.facts import Video
from sce_video.video.packets import PacketIndex
from tests.benchmarks.peers import Peer, find_peers
from tests.benchmarks.timing import Work

CLIPS = 2  # a video
DIFFERENCE = 0.2
"""Probability of a temporal difference, which needs the frames' successors, in rows with it."""
PLACES = (("copy", 1), ("layered", 1), ("layered", 8))
"""Kinds of shard sets and grids on which clips start."""

_REFORMATTER = VideoReformatter()


@dataclass(frozen=True)
class Clips:
    """What is cut out of a video."""

    frames: int
    seconds: float
    size: int

    def sampler(self, grid: int, difference: float = 0.0) -> RandomClips:
        """Two random clips, as training draws them."""
        crops = ((RandomResizedCrop((0.2, 1.0)), self.size),) * CLIPS
        return RandomClips(crops, ClipTiming(self.frames, self.seconds, grid), difference, seed=0)


@dataclass(frozen=True)
class Sample:
    """A video of a set, in memory."""

    media: bytes
    idx: bytes
    video: Video


@dataclass(frozen=True)
class Way:
    """One way: on which kind of set, which clips, and what is timed."""

    kind: str
    grid: int
    prepare: Callable[[Sample, Sequence[ClipSpec]], Work]
    difference: float = 0.0


def find_ways(kinds: Sequence[str]) -> tuple[dict[str, Way], dict[str, str]]:
    """Ways that these kinds of sets allow, by name; and peers that do not work, with why."""
    peers, missing = find_peers()
    ways: dict[str, Way] = {}
    if "copy" in kinds:
        ways |= {name: Way("copy", 1, partial(_theirs, peer)) for name, peer in peers.items()}
    for kind, grid in PLACES:
        if kind in kinds:
            ways[f"ours, {kind}, grid {grid}"] = Way(kind, grid, ours)
            ways[f"ours, {kind}, grid {grid}, difference"] = Way(kind, grid, ours, DIFFERENCE)
            ways[f"bare libav, {kind}, grid {grid}"] = Way(kind, grid, _bare)
    for name in ("torchcodec, approximate", "PyAV, one pass"):
        if "layered" in kinds and name in peers:
            short = name.partition(",")[0]
            ways[f"{short}, layered, grid 8"] = Way("layered", 8, partial(_theirs, peers[name]))
    return ways, missing


def read_set(index: ShardIndex, count: int) -> dict[str, Sample]:
    """The first ``count`` videos of a set by path, in memory; those with a packet index."""
    reader, paths = ShardReader(index), index.strings("path")
    samples = {}
    for row in sorted(range(len(paths)), key=paths.__getitem__)[:count]:
        packets = reader.packets(row)
        if packets is not None:
            samples[paths[row]] = Sample(reader.media(row), packets.to_bytes(), reader.video(row))
    return samples


def ours(sample: Sample, specs: Sequence[ClipSpec]) -> Work:
    """From the bytes of media and packet index, as a worker does."""
    numbers = all_needed(specs)
    return lambda: decode_frames(sample.media, numbers, PacketIndex.from_bytes(sample.idx))


def _theirs(peer: Peer, sample: Sample, specs: Sequence[ClipSpec]) -> Work:
    return partial(peer, sample.media, [spec.frames for spec in specs], sample.video.fps)


def _bare(sample: Sample, specs: Sequence[ClipSpec]) -> Work:
    """The packets that :func:`ours` feeds, made before, to a decoder that was kept: libav alone."""
    index, numbers = PacketIndex.from_bytes(sample.idx), all_needed(specs)
    wanted = set(numbers.tolist())
    runs: list[list[Any]] = []
    for run in plan_packets(index, numbers):
        packets: list[Any] = []
        for place in run:
            size, offset = int(index.size[place]), int(index.offset[place])
            packet = av.Packet(size)
            packet.update(sample.media[offset : offset + size])
            number_packet(packet, int(index.number[place]))
            packets.append(packet)
        runs.append([*packets, None])
    return partial(_decode, take_decoder(index), runs, index, wanted)


def _decode(
    context: VideoCodecContext,
    runs: Sequence[Sequence[Any]],
    index: PacketIndex,
    wanted: Container[int],
) -> list[Any]:
    images = []
    for run in runs:
        for packet in run:
            for frame in context.decode(packet):
                if number_of(frame) in wanted:
                    images.append(_REFORMATTER.reformat(frame, format="rgb24", threads=1))
        context.flush_buffers()
    keep_decoder(index, context)
    return images

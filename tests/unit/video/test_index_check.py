"""The door finds a packet index that lies, whichever kind of packet it lies about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sce_video.video import bitstream, indexer
from sce_video.video.bitstream import FREE, Reader
from sce_video.video.decode import DecodeError, decode_frames
from sce_video.video.decode.planned import plan_packets
from sce_video.video.examine import examine_video
from sce_video.video.facts import Facts
from sce_video.video.index_check import IndexCheck
from sce_video.video.packets import KEY, LAYER_SHIFT, PacketIndex
from tests.odd_videos import KINDS, encode
from tests.unit.video.layered import Frames, decode_all, layered
from tests.unit.video.test_planned import choices

HARMFUL = {
    "b-frames": 2,
    "open gop": 3,
    "no b-frames": 2,
    "intra refresh": 1,
    "adaptive b-frames": 3,
    "interlaced": 2,
    "annex b": 2,
    "edit list": 2,
    "transposed": 2,
    "several units under one size": 2,
    "slices under one size": 2,
    "b-frames avi": 2,
    "hevc": 3,
    "vp9": 1,
    "mpeg-4": 1,
    "mpeg-4 b avi": 1,
    "mpeg-1 avi": 1,
    "mpeg-2": 1,
}
"""Kind of video -> kinds of packet (as the parser tells them apart) that others need."""


def lying(victim: object) -> object:
    """A parser that says of one kind of packet that nobody needs it."""

    def reader(codec: str, extradata: bytes, *, strict: bool = False) -> Reader | None:
        honest = bitstream.reader(codec, extradata, strict=strict)
        assert honest is not None

        def read(packet: bytes) -> bitstream.Role:
            role = honest(packet)
            return role._replace(layer=FREE) if role.kind == victim and not role.key else role

        return read

    return reader


def harmful(data: bytes, index: PacketIndex, truth: Frames) -> bool:
    """Whether any choice of frames comes out wrong."""
    for numbers in choices(len(truth)):
        try:
            if not np.array_equal(decode_frames(data, numbers, index), truth[numbers]):
                return True
        except DecodeError:
            return True
    return False


def kinds_of(data: bytes, index: PacketIndex) -> set[object]:
    """Kinds of packets that are said to be needed."""
    read = bitstream.reader(index.codec, index.extradata)
    assert read is not None
    places = zip(index.offset.tolist(), index.size.tolist(), strict=True)
    roles = [read(data[at : at + size]) for at, size in places]
    return {role.kind for role in roles if role.layer != FREE and not role.key}


@pytest.mark.parametrize("kind", HARMFUL)
def test_a_parser_that_lies_about_a_kind_is_found_out(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = KINDS[kind](tmp_path).read_bytes()
    honest, truth = examine_video(data), decode_all(data)
    assert honest.packets is not None
    found = 0
    for victim in kinds_of(data, honest.packets):
        monkeypatch.setattr(indexer, "reader", lying(victim))
        caught: Facts = examine_video(data)
        with monkeypatch.context() as unchecked:
            unchecked.setattr(IndexCheck, "holds", lambda *_: True)
            index = examine_video(data).packets
        assert index is not None
        if harmful(data, index, truth):
            found += 1
            assert caught.packets is None, victim
            assert caught.unindexed == "its packets give other frames"
    assert found == HARMFUL[kind]


def test_a_wrong_place_to_start_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = KINDS["intra refresh"](tmp_path).read_bytes()

    def reader(codec: str, extradata: bytes, *, strict: bool = False) -> Reader:
        honest = bitstream.reader(codec, extradata, strict=strict)
        assert honest is not None
        return lambda packet: honest(packet)._replace(key=True)

    monkeypatch.setattr(indexer, "reader", reader)
    assert examine_video(data).unindexed == "its packets give other frames"


@pytest.mark.parametrize("kind", ["b-frames", "open gop"])
def test_an_index_that_somebody_has_is_checked_by_what_it_says(kind: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path).read_bytes()
    for data, facts in ((source, examine_video(source)), layered(source)):
        index = facts.packets
        assert index is not None
        assert (check := examine_video(data, told=index).check)
        assert check.holds(data, index)
        layers, keys = index.kind >> LAYER_SHIFT, index.kind & KEY
        for layer in range(FREE):
            victims = (layers == layer) & (keys == 0)
            kinds = np.where(victims, FREE << LAYER_SHIFT, index.kind).astype(np.uint8)
            told = replace(index, kind=kinds)
            assert (check := examine_video(data, told=told).check)
            assert check.holds(data, told) == (not victims.any())


def test_few_packets_are_decoded_again(tmp_path: Path) -> None:
    for frames in (300, 1200):
        path = encode(tmp_path / f"{frames}.mp4", ticks=range(0, 40 * frames, 40))
        facts = examine_video(path.read_bytes())
        assert facts.check is not None
        assert facts.packets is not None
        chosen = np.array(sorted(facts.check._chosen(facts.packets)))
        assert chosen.max() >= frames // 4  # not of the beginning alone
        fed = sum(map(len, plan_packets(facts.packets, chosen)))
        assert fed <= 6 + 0.03 * frames

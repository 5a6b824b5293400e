"""Readers of shard sets: manifest, index, tars, packet indexes, what a conversion notes."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sce_video.shard.convert import _Conversion
from sce_video.shard.output import output_folder
from sce_video.shard.plan import ConversionPlan, Settings, make_plan
from sce_video.shard.show import print_set
from sce_video.shard.sources import Options, find_source
from sce_video.shard.verify import verify
from sce_video.shardset.manifest import Manifest
from sce_video.stream.clips import UniformClips
from sce_video.stream.loader import ClipDataset
from sce_video.stream.order import Position, epoch_order
from sce_video.stream.reader import ShardReader, open_set
from sce_video.video.decode import decode_frames
from sce_video.video.examine import examine_video
from sce_video.video.packets import PacketIndex
from tests.faults.mutators.dice import one_of
from tests.faults.mutators.generic import damage
from tests.faults.mutators.packets import idx_file
from tests.faults.mutators.tables import table_file
from tests.faults.mutators.tars import tar_file
from tests.faults.mutators.text import csv_text, json_text, jsonl_text, lines_text
from tests.faults.targets.house import House
from tests.faults.targets.target import Target
from tests.odd_videos import KINDS

_VIEWS = UniformClips(2, 1, 2, 0.2, 16)
_STILL = UniformClips(1, 1, 1, 0.0, 16, short=8 / 7)
_UNREADABLE = (pa.ArrowException, OSError, LookupError, TypeError, ValueError, MemoryError)
"""What Arrow raises of a damaged table."""


def _shards(house: House, folder: Path) -> None:
    house.give(folder, house.shards.name)


def _images(house: House, folder: Path) -> None:
    house.give(folder, house.images.name)


def seal_index(folder: Path, place: str) -> None:
    """Have the manifest name the index that is there, and the shards that are named in it."""
    index = folder / place
    path = index.parent / "manifest.json"
    manifest, data = json.loads(path.read_text()), index.read_bytes()
    manifest["index_sha256"] = hashlib.sha256(data).hexdigest()
    with contextlib.suppress(*_UNREADABLE):
        named = pq.read_table(pa.BufferReader(data)).column("shard").to_pylist()
        [entry] = manifest["shards"]
        manifest["shards"] = [{**entry, "name": str(name)} for name in sorted({*named})] or [entry]
    path.write_text(json.dumps(manifest))


def read_set(folder: Path, place: str) -> None:
    """Print a set, then make clips of all of its samples as training and evaluation do."""
    root = folder / Path(place).parts[0]
    print_set(root)
    index = open_set(str(root))
    for split in (None, "train"):
        if split is None or split in index.manifest.splits.get("split", {}):
            rows = index.rows(split)
    shard_of = index.shard_numbers()
    if len(rows):
        rows = rows[epoch_order(shard_of[rows], 0, 0, index.digest)]
    views = _STILL if index.images else _VIEWS
    dataset = ClipDataset(ShardReader(index), views, substitutes=None)
    for row in rows.tolist():
        dataset.__getitems__([Position(0, row)])


def _read_whole(folder: Path, place: str) -> None:
    read_set(folder, place)
    verify(folder / Path(place).parts[0])


def _make_packets(house: House, folder: Path) -> None:
    for name, kind in zip("abcd", ("b-frames", "mpeg-4 b", "vp9", "motion jpeg"), strict=True):
        data = KINDS[kind](folder).read_bytes()
        index = examine_video(data).packets
        assert index is not None
        (folder / f"{name}.media").write_bytes(data)
        (folder / f"{name}.idx").write_bytes(index.to_bytes())


def _read_packets(folder: Path, place: str) -> None:
    index = PacketIndex.from_bytes((folder / place).read_bytes())
    media = (folder / place).with_suffix(".media").read_bytes()
    for numbers in ([0], [0, 7, 31, 59]):
        frames = decode_frames(media, numbers, index)
        assert np.stack(frames).dtype == np.uint8
        assert len(frames) == len(numbers)


def _plan(folder: Path) -> ConversionPlan:
    scan = find_source("folder").scan("folder", folder / "raw", Options())
    return make_plan(scan, Settings("toy", samples_per_shard=2))


def _make_unfinished(house: House, folder: Path) -> None:
    """A conversion that was stopped behind its last shard."""
    house.give(folder, house.raw.name)
    plan, out = _plan(folder), folder / "out"
    from tests.unit.shard.layouts import run

    run(plan, out)
    with output_folder(out, plan, overwrite=False) as (manifest, _):
        assert isinstance(manifest, Manifest)
    lines = [json.dumps([s.name, s.samples, s.bytes, s.sha256, []]) for s in manifest.shards]
    (out / ".journal.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (out / "manifest.json").unlink()


def _read_unfinished(folder: Path, place: str) -> None:
    plan, out = _plan(folder), folder / "out"
    with output_folder(out, plan, overwrite=False) as (found, lock):
        if not isinstance(found, Manifest):
            _Conversion(plan, out, lock, lambda state: None).reopen(found)


def _seal_journal(folder: Path, place: str) -> None:
    """Have the journal name the tar that is there."""
    path, tar = folder / "out/.journal.jsonl", folder / place
    if tar.suffix != ".tar":
        return
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line[0] == tar.name:
            line[3] = hashlib.sha256(tar.read_bytes()).hexdigest()
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def _read_texts(folder: Path, place: str) -> None:
    verify(folder / "shards")


TARGETS = (
    Target("manifest", _shards, {"shards/manifest.json": json_text}, read_set, share=3),
    Target("index", _shards, {"shards/index.parquet": table_file}, read_set, seal_index, share=4),
    Target("index of images", _images, {"images/index.parquet": table_file}, read_set, seal_index),
    Target("shard", _shards, {"shards/folder-000000.tar": one_of(tar_file, damage)}, _read_whole),
    Target(
        "texts of a set",
        _shards,
        {"shards/rejects.csv": csv_text, "shards/classes.txt": lines_text},
        _read_texts,
        share=1,
    ),
    Target(
        "packet index",
        _make_packets,
        dict.fromkeys((f"{name}.idx" for name in "abcd"), idx_file),
        _read_packets,
        share=3,
        replaced=False,
    ),
    Target(
        "unfinished conversion",
        _make_unfinished,
        {
            "out/.plan.json": json_text,
            "out/.journal.jsonl": jsonl_text,
            "out/toy-000000.tar": tar_file,
        },
        _read_unfinished,
        _seal_journal,
    ),
)

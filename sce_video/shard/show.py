"""What the converter tells people: plan and summary."""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path

from sce_video.shard.format import REJECTS_NAME, Manifest
from sce_video.shard.plan import Plan

_JSON = 1024
"""Bytes of a json member, padded."""
_IDX = 7 * 1024
"""Bytes of a packet index of some ten seconds, padded."""


def human_bytes(count: int) -> str:
    """``count`` bytes for people, in powers of 1,024."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, _ = value / 1024, units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def print_plan(plan: Plan, folder: Path) -> None:
    """What a conversion would do."""
    print(f"data set     {plan.settings.dataset}, {len(plan.classes):,} classes")
    print(f"samples      {plan.samples:,} {plan.media}s, {human_bytes(plan.bytes)}")
    print(f"shards       {len(plan.shards):,} in {folder}")
    for column in plan.columns:
        counts: dict[str, int] = {}
        for shard in plan.shards:
            for item in shard:
                value = item.record.splits.get(column, "")
                counts[value] = counts.get(value, 0) + 1
        shown = ", ".join(f"{value} {counts[value]:,}" for value in sorted(counts) if value)
        print(f"{column:<12} {shown}")
    needed, free = human_bytes(disk_needed(plan)), human_bytes(_room(folder))
    print(f"disk         about {needed} needed, {free} free")
    print(f"plan digest  {plan.digest}")
    left_out: dict[str, list[str]] = {}
    for path, reason in plan.rejects:
        left_out.setdefault(reason, []).append(path)
    for reason, paths in sorted(left_out.items()):
        print(f"{reason}: {len(paths):,}")
        for path in paths[:10]:
            print(f"  {path}")
        if len(paths) > 10:
            print(f"  ... and {len(paths) - 10:,} more")


def disk_needed(plan: Plan) -> int:
    """Bytes of the shards, about: raw files, and for each a json, a packet index and headers.

    What is transcoded is usually smaller.
    """
    block, record = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
    sizes = (item.record.size for shard in plan.shards for item in shard)
    beside = 2 * block + _JSON + (block + _IDX if plan.media == "video" else 0)
    samples = sum(size + -size % block + beside for size in sizes)
    return samples + len(plan.shards) * (record + 2 * block)


def _room(folder: Path) -> int:
    """Free bytes for the shards; those of an earlier run count as free."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    own = sum(path.stat().st_size for path in folder.glob("*.tar"))
    return shutil.disk_usage(existing).free + own


def warn_of_space(plan: Plan, folder: Path) -> None:
    """Say on standard error, before hours of work, that the disk is too small for the plan."""
    needed, room = disk_needed(plan), _room(folder)
    if needed > room:
        print(
            f"warning: {folder} needs {human_bytes(needed)}, there is room for {human_bytes(room)}",
            file=sys.stderr,
        )


def print_summary(manifest: Manifest, folder: Path, *, worked: bool) -> None:
    """What a finished set holds and what to do next."""
    if not worked:
        print(f"{folder} is complete and made from this very input: nothing to do")
    size = sum(shard.bytes for shard in manifest.shards)
    print(
        f"{manifest.samples:,} samples in {len(manifest.shards):,} shards, {human_bytes(size)}, "
        f"{len(manifest.classes):,} classes: {folder}"
    )
    for column, counts in manifest.splits.items():
        print(f"  {column}: {', '.join(f'{value} {count:,}' for value, count in counts.items())}")
    if manifest.rejected:
        print(f"left out (named in {folder / REJECTS_NAME}):")
        for reason, count in manifest.rejected.items():
            print(f"  {count:>9,}  {reason}")
    print(f"next: deepspeed sce_video/train.py data.shards={folder}")

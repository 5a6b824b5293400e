"""What the converter tells people: its plan, and what a set holds."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from sce_video.documents import DocumentError, parse_yaml
from sce_video.shard.plan import ConversionPlan
from sce_video.shardset.checks import IMAGE_EXTENSIONS
from sce_video.shardset.index import ShardIndex, open_shards
from sce_video.shardset.manifest import REJECTS_NAME
from sce_video.terminal import note, say
from sce_video.text import json_text, shell_word

_ENCODE = ("mode", "quality", "short_side")
"""Of the encode settings, what people are told; the rest follows from it."""
_NOTED = {
    "exif_orientation": "that EXIF wants turned: they are not",
    "interlaced": "interlaced: fields are not parted",
    "pixel_aspect": "with pixels that are not square: they are not stretched",
}
"""Facts that a set counts: what people are told."""
_JSON = 1024  # bytes of a json member, padded
_IDX = 7 * 1024  # bytes of a packet index of some ten seconds, padded


def human_bytes(count: int) -> str:
    """``count`` bytes for people, in powers of 1,024."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, _ = value / 1024, units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def print_plan(plan: ConversionPlan, folder: Path) -> None:
    """What a conversion would do."""
    say(f"data set     {plan.settings.dataset}, {len(plan.classes):,} classes")
    say(f"samples      {plan.samples:,} {plan.media}s, {human_bytes(plan.bytes)}")
    say(f"shards       {len(plan.shards):,} in {folder}")
    for column in plan.columns:
        counts = Counter(record.splits.get(column, "") for record in plan.records)
        shown = ", ".join(f"{value} {counts[value]:,}" for value in sorted(counts) if value)
        say(f"{column:<12} {shown}")
    needed, free = human_bytes(disk_needed(plan)), human_bytes(_room(folder))
    about = "about" if plan.settings.encoding is None else "at most"
    say(f"disk         {about} {needed} needed, {free} free")
    say(f"plan digest  {plan.digest}")
    for reason in sorted({reason for _, reason in plan.rejects}):
        paths = [path for path, why in plan.rejects if why == reason]
        say(f"{reason}: {len(paths):,}")
        say(*(f"  {path}" for path in paths[:10]))
        if len(paths) > 10:
            say(f"  ... and {len(paths) - 10:,} more")


def disk_needed(plan: ConversionPlan) -> int:
    """Bytes of the shards: raw files, and for each a json, a packet index and headers.

    What is transcoded is usually smaller. Two zipped archives at a time are unzipped beside them.
    """
    block, record = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
    beside = 2 * block + _JSON + (block + _IDX if plan.media == "video" else 0)
    samples, parts = len(plan.shards) * (record + 2 * block), Counter[Path | None]()
    for sample in plan.records:
        samples += sample.size + -sample.size % block + beside
        parts[sample.part] += sample.size if sample.part else 0
    return samples + sum(size for _, size in parts.most_common(2))


def _room(folder: Path) -> int:
    """Free bytes for the shards; those of an earlier run count as free."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    own = sum(path.stat().st_size for path in folder.glob("*.tar"))
    return shutil.disk_usage(existing).free + own


def warn_of_space(plan: ConversionPlan, folder: Path) -> None:
    """Say on standard error, before hours of work, that the disk is too small for the plan."""
    needed, room = disk_needed(plan), _room(folder)
    if needed > room:
        note(
            f"warning: {folder} needs {human_bytes(needed)}, there is room for {human_bytes(room)}"
        )


def print_set(folder: Path, *, as_json: bool = False) -> None:
    """Print what a shard set holds; with ``as_json`` one JSON object, sizes in bytes.

    Raises:
        UsageError, VerificationError: as :func:`~sce_video.shardset.index.open_shards`.
    """
    held = _contents(open_shards(folder))
    if as_json:
        say(json_text(held))
    else:
        _print_contents(folder, held)


def _print_contents(folder: Path, held: dict[str, Any]) -> None:
    def line(name: str, text: str) -> None:
        say(f"  {name:<13} {text}")

    samples, classes, packets = held["samples"], held["classes"], held["packet_indexes"]
    some = classes if len(classes) < 6 else [*classes[:4], "..."]
    encode = ", ".join(str(held["encode"][name]) for name in _ENCODE if name in held["encode"])
    say(f"{folder}: {held['dataset']}, format {held['format']}")
    line("samples", f"{samples:,} {held['media']}s in {held['shards']:,} shards")
    line("size", f"{human_bytes(held['bytes'])} ({held['bytes']:,} bytes)")
    if held["media"] == "video":
        line("length", f"{held['hours']:,.2f} h, {held['frames']:,} frames")
        indexed = {0: "none", samples: "all"}.get(packets, f"{packets:,} of {samples:,}")
        line("packet index", indexed)
    line("encoding", f"{_listed(held['encodings'])}; {encode}")
    line("classes", f"{len(classes):,}{': ' * bool(some)}{', '.join(some)}")
    for column, counts in held["splits"].items():
        line(column, _listed(counts))
    if held["unlabelled"]:
        line("unlabelled", f"{held['unlabelled']:,}")
    for fact, count in held["noted"].items():
        line("as stored", f"{count:,} {_NOTED[fact]}")
    for reason, count in held["rejected"].items():
        line("left out", f"{count:,} {reason}")
    line("plan digest", held["plan_digest"])


def _contents(shards: ShardIndex) -> dict[str, Any]:
    manifest = shards.manifest
    counted = shards.table.column("ext").value_counts()  # a list of them would be large
    extensions = Counter({pair["values"]: pair["counts"] for pair in counted.to_pylist()})
    return {
        **manifest.model_dump(mode="json", exclude={"index_sha256", "shards"}),
        "media": "image" if set(extensions) <= set(IMAGE_EXTENSIONS) else "video",
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "hours": float(shards.numbers("duration").sum()) / 3600,
        "frames": int(shards.numbers("frames").sum()),
        "unlabelled": int((shards.numbers("label") < 0).sum()),
        "encodings": dict(extensions.most_common()),
        "packet_indexes": int((shards.numbers("idx_offset") >= 0).sum()),
    }


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def print_summary(folder: Path, *, worked: bool, seconds: float) -> None:
    """What a conversion made, in what time, and what to do next."""
    if not worked:
        say(f"{folder} is complete and made from this very input: nothing to do")
    held = _contents(open_shards(folder))
    _print_contents(folder, held)
    if held["rejected"]:
        say(f"  what was left out is named in {folder / REJECTS_NAME}")
    if worked:
        say(f"made in {timedelta(seconds=round(seconds))}")
    if held["media"] == "video":
        splits = [f"{c}:{v}" for c, counts in held["splits"].items() for v in sorted(counts)]
        train = next((split for split in splits if split.endswith(":train")), None)
        split = f" {_override('data.split', train)}" if train else " data.split=null"
        own = _override("data.shards", str(folder))
        say(f"next: deepspeed sce_video/train.py {own}{split * (train != 'split:train')}")


def _override(key: str, value: str) -> str:
    """``key=value`` for a command line, of any value: YAML must read it as what it is."""
    try:
        same = parse_yaml(value) == value
    except DocumentError:
        same = False
    return f"{key}={shell_word(value if same else json_text(value))}"

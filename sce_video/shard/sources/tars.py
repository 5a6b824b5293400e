"""WebDataset tars made by others: ``ROOT/*.tar`` with ``KEY.mp4`` (or another video or image).

The class is ``KEY.cls`` (a number or a name), or ``class`` or ``label`` in ``KEY.json``; other
members, such as captions, are passed over. Where there are videos, pictures beside them are left
out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Record, Scan
from sce_video.shard.sources.archive import members, reading
from sce_video.shard.sources.scans import make_scan, nothing_found
from sce_video.shard.sources.tree import walk
from sce_video.shardset.labels import LabelError, label_member, number_classes, stated_classes
from sce_video.shardset.tar_members import LABEL_BYTES
from sce_video.video.kinds import Media


def scan(name: str, root: Path, options: Options) -> Scan:
    """List the tars below ``root``.

    Raises:
        UsageError: no tars, a damaged one, no media in them, or an unreadable label.
    """
    tree = walk(root, options, sets=True)
    tars = [file for file in tree.files if file.suffix == ".tar"]
    if not tars:
        raise nothing_found(tree, tree.files, "WebDataset shards *.tar")
    found = [(file, label) for tar in tars for file, label in _labelled(tar)]
    kinds = {file.media for file, _ in found}
    if kinds <= {None}:
        raise nothing_found(tree, (f for f, _ in found), "videos or images in its tars")
    tree.used |= {tar.path for tar in tars}
    labels = number_classes(label for _, label in found if label)
    media: Media = "video" if "video" in kinds else "image"
    return make_scan(tree, media, ((file, label, {}) for file, label in found), labels)


def _labelled(tar: Record) -> Iterator[tuple[Record, str]]:
    """Media members of one tar with their labels; ``""`` = none."""
    samples: dict[str, dict[str, Record]] = {}
    with reading(tar.source) as stream:
        for file in members(stream, tar.source, tar.path):
            folder, _, base = file.path.rpartition("/")
            key, _, field = base.partition(".")  # WebDataset cuts at the first dot
            samples.setdefault(f"{folder}/{key}", {})[field.lower()] = file
    with reading(tar.source) as raw:
        for key, sample in samples.items():
            try:
                member = label_member(sample)
                texts = {member: _label(raw, sample[member])} if member else {}
                label = next(stated_classes(texts), "")
            except LabelError as error:
                what = f"{tar.source}: {key}: its label is not readable ({error})"
                raise UsageError(what) from error
            yield from ((file, label) for file in sample.values() if file.kind)


def _label(tar: io.BufferedIOBase, file: Record) -> bytes:
    if not 0 <= file.size <= LABEL_BYTES:
        raise LabelError(f"larger than {LABEL_BYTES:,} bytes" if file.size > 0 else "no plain file")
    tar.seek(file.offset or 0)
    return tar.read(file.size)

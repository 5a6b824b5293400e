"""WebDataset tars made by others: ``ROOT/*.tar`` with ``KEY.mp4`` (or another video or image).

The class is ``KEY.cls`` (a number or a name), or ``class`` or ``label`` in ``KEY.json``; other
members, such as captions, are left. Where there are videos, pictures beside them are left, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Record, Scan
from sce_video.shard.sources.archive import members, reading
from sce_video.shard.sources.folder import media_of
from sce_video.shard.sources.listing import files, make_scan
from sce_video.shardset.labels import LABEL_MEMBERS, LabelError, number_classes, stated_classes


def scan(name: str, root: Path, options: Options) -> Scan:
    """List the tars below ``root``.

    Raises:
        UsageError: no tars, a damaged one, no media or both kinds in them, or an unreadable label.
    """
    tars = [file for file in files(root, root, deep=True) if file.suffix == ".tar"]
    if not tars:
        raise UsageError(f"{root}: expected WebDataset shards *.tar")
    found = [(file, label) for tar in tars for file, label in _labelled(tar)]
    videos = [file for file, _ in found if file.media == "video"]
    some = videos or [file for file, _ in found]
    media = media_of(root, some, "videos or images in its tars")
    labels = number_classes(label for _, label in found if label)
    return make_scan(media, ((f, label, {}) for f, label in found if f.media == media), labels)


def _labelled(tar: Record) -> Iterator[tuple[Record, str]]:
    """Media members of one tar with their labels; ``""`` = none."""
    samples: dict[str, dict[str, Record]] = {}
    with reading(tar.source) as stream:
        for file in members(stream, tar.source, tar.path):
            folder, _, base = file.path.rpartition("/")
            key, _, field = base.partition(".")  # WebDataset cuts at the first dot
            samples.setdefault(f"{folder}/{key}", {})[field.lower()] = file
    with tar.source.open("rb") as raw:
        for key, sample in samples.items():
            texts = {
                field: raw.read(file.size)
                for field, file in sample.items()
                if field in LABEL_MEMBERS and raw.seek(file.offset or 0) >= 0
            }
            try:
                label = next(stated_classes(texts), "")
            except LabelError as error:
                what = f"{tar.source}: {key}: its label is not readable ({error})"
                raise UsageError(what) from error
            yield from ((file, label) for file in sample.values() if file.media)

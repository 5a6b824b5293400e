"""ImageNet as class folders: ``train/WNID/*.JPEG`` and ``val/WNID/*.JPEG``; column ``split``.

Also other image sets laid out like it. Labels number the sorted WNIDs over all splits.
"""

from __future__ import annotations

from pathlib import Path

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, Scan
from sce_video.shard.sources.listing import split_class_folders

SPLITS = ("train", "val", "test")


def scan(name: str, root: Path, options: Options) -> Scan:
    """List an ImageNet root.

    Raises:
        UsageError: no class folders, or a split that is not there.
    """
    if unknown := [wanted for wanted in options.splits if wanted not in SPLITS]:
        raise UsageError(f"{name}: no split '{unknown[0]}'; it has {', '.join(SPLITS)}")
    return split_class_folders(root, "image", SPLITS, options.splits, "{split}/WNID/*.JPEG")

"""What is said of a folder that is no shard set."""

from __future__ import annotations

from pathlib import Path

import pytest

from sce_video.errors import UsageError
from sce_video.shardset.index import open_shards

SETS = ("ucf101/manifest.json", "hmdb51/manifest.json", "k400/manifest.json", "zoo/manifest.json")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "it is empty; make one: python -m sce_video.shard DATASET --out TMP"),
        (["notes.txt"], "make one: python -m sce_video.shard DATASET --out TMP"),
        (["classes.txt"], "make one: python -m sce_video.shard DATASET --out TMP"),
        (
            ["000.tar", "000.parquet", "000_stats.json", "001.tar"],
            "but 2 tars without an index: pretrain on 'TMP/*.tar' (with data.split=null "
            "data.epoch_samples=N), or make one of them: "
            "python -m sce_video.shard webdataset --root TMP --out shards/NAME",
        ),
        (
            ["a/1.MP4", "b/2.mp4"],
            "but videos: make one of them: "
            "python -m sce_video.shard folder --root TMP --out shards/NAME",
        ),
        (
            ["1.jpg", "2.png"],
            "but images: make one of them: "
            "python -m sce_video.shard folder --root TMP --out shards/NAME",
        ),
        (
            [".plan.json", "x-000000.tar"],
            "but one that is not finished, or has lost it; run its command again: "
            "python -m sce_video.shard DATASET --out TMP",
        ),
        (
            ["index.parquet", "rejects.csv", "x-000000.tar"],
            "but one that is not finished, or has lost it; run its command again: "
            "python -m sce_video.shard DATASET --out TMP",
        ),
        (list(SETS[:1]), "but sets below it: ucf101; give one of them, such as TMP/ucf101"),
        (
            [*SETS, "stray.mp4"],
            "but sets below it: hmdb51, k400, ucf101, ...; give one of them, such as TMP/hmdb51",
        ),
    ],
)
def test_folders(files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UsageError) as caught:
        open_shards(tmp_path)
    begin = f"{tmp_path}: no finished shard set (no manifest.json); "
    assert str(caught.value) == begin + message.replace("TMP", str(tmp_path))


def test_a_file_of_a_set(tmp_path: Path) -> None:
    for name in ("manifest.json", "index.parquet"):
        (tmp_path / name).touch()
        with pytest.raises(UsageError, match=f"it is a file; give its folder {tmp_path}$"):
            open_shards(tmp_path / name)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UsageError, match=r"it is a file; give a folder$"):
        open_shards(tmp_path / "index.parquet")


def test_a_folder_that_is_not_there_or_closed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"; make one: python -m sce_video.shard ucf101$"):
        open_shards("shards/ucf101")
    with pytest.raises(UsageError, match=r"^a\\x00b: no finished shard set .*; make one: "):
        open_shards("a\0b")  # as somebody's file names it
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="; make one: "):
        open_shards(link)

"""The manifest as bytes, and the list of what was left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from sce_video.errors import UsageError, VerificationError
from sce_video.shardset.manifest import (
    FORMAT_VERSION,
    Manifest,
    count_rejects,
    listed,
    read_manifest,
    read_rejects,
    write_rejects,
)

MANIFEST = Manifest(
    dataset="toy",
    plan_digest="0" * 64,
    encode={"mode": "copy"},
    classes=("a", "b"),
    splits={"split": {"train": 1}},
    samples=1,
    rejected={"cut off": 2},
    index_sha256="1" * 64,
    shards=(),
)


def test_there_and_back() -> None:
    assert read_manifest(MANIFEST.model_dump_json().encode(), "m") == MANIFEST


def test_damage_and_other_versions_are_told_apart() -> None:
    for data in (b"", b"{", b"[]", MANIFEST.model_dump_json().encode().replace(b"toy", b'",x')):
        with pytest.raises(VerificationError, match=r"^m: damaged: "):
            read_manifest(data, "m")
    other = MANIFEST.model_copy(update={"format": FORMAT_VERSION + 1})
    with pytest.raises(UsageError, match=rf"^m: format {FORMAT_VERSION + 1}, this version reads"):
        read_manifest(other.model_dump_json().encode(), "m")


def test_rejects_are_sorted_and_counted(tmp_path: Path) -> None:
    assert read_rejects(tmp_path) == []
    rejects = [("b, c.mp4", "cut off"), ('a"b.mp4', "unlisted"), ("é\n.mp4", "cut off")]
    write_rejects(tmp_path, rejects)
    assert read_rejects(tmp_path) == sorted(rejects)
    counted = count_rejects(rejects)
    assert list(counted.items()) == [("cut off", 2), ("unlisted", 1)]
    assert listed(counted) == {"cut off": 2}

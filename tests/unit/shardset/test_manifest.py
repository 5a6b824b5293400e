"""The manifest as bytes, and the list of what was left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sce_video.errors import UsageError, VerificationError
from sce_video.shardset.manifest import (
    FORMAT_VERSION,
    Manifest,
    ShardEntry,
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
    shards=(ShardEntry(name="toy-000000.tar", samples=1, bytes=10240, sha256="2" * 64),),
)


def test_there_and_back() -> None:
    assert read_manifest(MANIFEST.model_dump_json().encode(), "m") == MANIFEST


def test_damage_and_other_versions_are_told_apart() -> None:
    odd = (b"", b"{", b"[]", b"[" * 100_000, b" " * (1 << 26))
    text = MANIFEST.model_dump_json().encode()
    for data in (*odd, text.replace(b"toy", b'",x')):
        with pytest.raises(VerificationError, match=r"^m: damaged: "):
            read_manifest(data, "m")
    other = MANIFEST.model_copy(update={"format": FORMAT_VERSION + 1})
    with pytest.raises(UsageError, match=rf"^m: format {FORMAT_VERSION + 1}, this version reads"):
        read_manifest(other.model_dump_json().encode(), "m")


SHARD = {"name": "toy-000000.tar", "samples": 1, "bytes": 10240, "sha256": "2" * 64}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        *(
            ({"shards": [SHARD | {"name": name}]}, f"{name!r} is no name of a shard")
            for name in (
                *("/home/x/private.mp4", "/etc/x.tar", "../x.tar", "a/b.tar", "..", "", ".tar"),
                *(
                    "x.mp4",
                    ".hidden.tar",
                    "a\nb.tar",
                    "\x1b[2J.tar",
                    "x.tar\0.tar",
                    "é" * 200 + ".tar",
                ),
            )
        ),
        ({"shards": [SHARD, SHARD], "samples": 2}, "names shard 'toy-000000.tar' twice"),
        ({"shards": [SHARD | {"samples": -1}], "samples": -1}, "do not add up"),
        ({"shards": [SHARD | {"bytes": -1}]}, "do not add up"),
        ({"shards": [SHARD | {"bytes": 1 << 63}]}, "more than 64 bits"),
        ({"shards": [SHARD | {"bytes": 1.5}]}, "shards.0.bytes: Input should be a valid integer"),
        ({"shards": [SHARD | {"sha256": ""}]}, "'' is no sha256"),
        ({"shards": []}, "do not add up to 1 samples"),
        ({"shards": [], "samples": 0}, "it has no sample"),
        ({"index_sha256": "x"}, "'x' is no sha256"),
        ({"classes": ["a", "a"]}, "names class 'a' twice"),
        ({"classes": [""]}, "'' is no name"),
        ({"classes": ["a\tb"]}, r"'a\tb' is no name"),
        ({"classes": ["a\u2028b"]}, r"'a\u2028b' is no name"),
        ({"classes": ["a" * 1001]}, "is no name"),
        ({"splits": {"sp\nlit": {}}}, r"'sp\nlit' is no name"),
        ({"splits": {"split": {"\x1b": 1}}}, r"'\x1b' is no name"),
        ({"splits": {"split": {"train": -1}}}, "do not add up"),
        ({"rejected": {"a\nb": 1}}, "is no name"),
        ({"dataset": "a\nb"}, "is no name"),
        ({"encode": {"mode": "pipe"}}, "encode has no mode"),
        ({"encode": {}}, "encode has no mode"),
        ({"noted": {"other": 1}}, "notes something unknown"),
        ({"plan_digest": "\r"}, "is no digest"),
    ],
    ids=str,
)
def test_what_no_manifest_may_say(change: dict[str, Any], problem: str) -> None:
    text = json.dumps(MANIFEST.model_dump(mode="json") | change)
    with pytest.raises(VerificationError) as caught:
        read_manifest(text.encode(), "m")
    message = str(caught.value)
    assert message.startswith("m: damaged: ")
    assert problem in message
    assert message.isprintable()


def test_names_of_all_scripts_are_names() -> None:
    names = ["片段", "\u200f\u05d9\u05d5", "a b", "=1+1", "-", "x\u3000y"]
    data = json.dumps(MANIFEST.model_dump(mode="json") | {"classes": names})
    assert list(read_manifest(data.encode(), "m").classes) == names


def test_rejects_are_sorted_and_counted(tmp_path: Path) -> None:
    assert read_rejects(tmp_path) == []
    rejects = [("b, c.mp4", "cut off"), ('a"b.mp4', "unlisted"), ("é\n.mp4", "cut off")]
    write_rejects(tmp_path, rejects)
    cells = [('a"b.mp4', "unlisted"), ("b, c.mp4", "cut off"), ("é\\n.mp4", "cut off")]
    assert read_rejects(tmp_path) == cells
    write_rejects(tmp_path, cells)
    assert read_rejects(tmp_path) == cells
    counted = count_rejects(rejects)
    assert list(counted.items()) == [("cut off", 2), ("unlisted", 1)]
    assert listed(counted) == {"cut off": 2}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"path,reason\n" + b"x" * 200_000 + b",y\n", "no csv: field larger than field limit"),
        (b"path,reason\nx\n", "not lines of path,reason"),
        (b"path,reason\nx,y,z\n", "not lines of path,reason"),
        (b"path,path\n", "not lines of path,reason"),
        (b"\0\xff", "not lines of path,reason"),
    ],
)
def test_rejects_that_are_none(data: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "rejects.csv").write_bytes(data)
    with pytest.raises(VerificationError, match=rf"rejects\.csv: {problem}"):
        read_rejects(tmp_path)


def test_rejects_lines_are_no_formulas_and_one_line(tmp_path: Path) -> None:
    write_rejects(tmp_path, [("=cmd|x", "cut\noff"), ("\x1b[2J.mp4", "+1"), ("-a.mp4", "x")])
    text = (tmp_path / "rejects.csv").read_text()
    assert text == "path,reason\n'-a.mp4,x\n'=cmd|x,cut\\noff\n\\x1b[2J.mp4,'+1\n"
    assert sorted(text.splitlines()) == sorted({*text.splitlines()})

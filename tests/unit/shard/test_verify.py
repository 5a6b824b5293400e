"""What ``verify`` finds: flipped bits, cut and missing tars, a doctored index; and ``info``."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sce_video.errors import VerificationError
from sce_video.files import sha256_file
from sce_video.shard.show import print_set
from sce_video.shard.verify import verify
from sce_video.shard.verify_shard import verify_shard
from sce_video.shard.writer import TarWriter
from sce_video.shardset.index import open_shards, write_table
from sce_video.shardset.rows import index_row
from sce_video.video.packets import KEY, LAYER_SHIFT, PacketIndex
from tests.unit.shard.layouts import class_folders, plan_of, run

FINDING = re.compile(r"(?P<path>.+): (?P<key>\S+): bytes (?P<first>-?\d+)-(?P<last>-?\d+): (.+)")


@dataclass(frozen=True)
class Finding:
    shard: str
    key: str
    first: int
    last: int
    what: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """A sound set: 12 videos in 3 shards of 4."""
    root = class_folders(tmp_path_factory.mktemp("raw"), clips)
    folder = tmp_path_factory.mktemp("sets") / "toy"
    run(plan_of(root), folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of :func:`made` to be damaged."""
    shutil.copytree(made, tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture
def findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[Finding]]:
    def find(**options: Any) -> list[Finding]:
        code = verify(folder, **options)
        lines = capsys.readouterr().err.splitlines()
        assert code == (3 if lines else 0)
        if lines:
            assert f"{len(lines) - 1} findings" in lines.pop()
        found = []
        for line in lines:
            if "rows are not in the order of the tars" in line:
                continue
            match = FINDING.fullmatch(line)
            assert match, line
            path, key, first, last, what = match.groups()
            found.append(Finding(Path(path).name, key, int(first), int(last), what))
        return found

    return find


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << at % 8
    path.write_bytes(data)


def rows(folder: Path, shard: str = "toy-000001.tar") -> list[dict[str, Any]]:
    return [row for row in open_shards(folder).table.to_pylist() if row["shard"] == shard]


def doctor(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the index, and the manifest to match."""
    table = pq.read_table(folder / "index.parquet")
    table_rows = table.to_pylist()
    change(table_rows)
    write_table(folder / "index.parquet", pa.Table.from_pylist(table_rows, table.schema))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["index_sha256"] = sha256_file(folder / "index.parquet")
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_sound_set(folder: Path, findings: Callable[..., list[Finding]]) -> None:
    assert findings() == findings(decode=True, workers=2) == []


def test_one_flipped_bit_in_each_kind_of_place(
    folder: Path, findings: Callable[..., list[Finding]]
) -> None:
    path = folder / "toy-000001.tar"
    row, end = rows(folder)[2], path.stat().st_size
    media, size = row["media_offset"], row["media_size"]
    last = rows(folder)[-1]["key"]
    places = [
        (media - 512, "not the header"),
        (media - 1, "not the header"),
        (media, "mp4 has another sha256"),
        (media + size - 1, "mp4 has another sha256"),
        (media + size, "the padding of"),
        (row["json_offset"] - 300, "not the header"),
        (row["json_offset"] + 20, "json has another crc32"),
        (row["json_offset"] + row["json_size"], "the padding of"),
        (row["idx_offset"] + 70, "idx: packet index damaged"),
        (row["idx_offset"] + row["idx_size"] - 1, "idx: packet index damaged"),
    ]
    assert size % 512
    sound = path.read_bytes()
    for at, what in [*places, (end - 1024, "end of the archive"), (end - 1, "end of the archive")]:
        flip(path, at)
        [found] = findings()
        assert (found.shard, found.key) == (path.name, last if at >= end - 1024 else row["key"])
        assert found.first <= at <= found.last
        assert what in found.what
        assert "the index is not" not in found.what
        path.write_bytes(sound)


@pytest.mark.parametrize(
    "flips", [40, pytest.param(4000, marks=pytest.mark.soak)], ids=lambda n: f"{n}"
)
def test_a_flipped_bit_anywhere(
    flips: int, made: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    shards = open_shards(made)
    entry = shards.manifest.shards[1]
    path = tmp_path / entry.name
    shutil.copy(made / entry.name, path)
    draw = random.Random(flips)  # noqa: S311
    for _ in range(flips):
        at = draw.randrange(entry.bytes)
        flip(path, at)
        [line] = verify_shard(path, entry, rows(made, entry.name), shards.split_columns)
        match = FINDING.fullmatch(line)
        assert match
        assert int(match["first"]) <= at <= int(match["last"]), (at, line)
        flip(path, at)
    record_property("flips", flips)


@pytest.mark.parametrize("what", ["places", "starts", "layers"])
def test_decode_compares_the_packet_index(
    what: str, folder: Path, findings: Callable[..., list[Finding]]
) -> None:
    """An idx that is whole, in a tar that is as its manifest says, but not that of the video."""
    path, row = folder / "toy-000000.tar", rows(folder, "toy-000000.tar")[1]
    data = bytearray(path.read_bytes())
    place = slice(row["idx_offset"], row["idx_offset"] + row["idx_size"])
    index = PacketIndex.from_bytes(bytes(data[place]))
    kind = index.kind.copy()
    kind[-1] = KEY if what == "starts" else 2 << LAYER_SHIFT  # where no frame shows it
    other = {"offset": index.offset + 1} if what == "places" else {"kind": kind}
    assert not np.array_equal(kind, index.kind)
    data[place] = replace(index, **other).to_bytes()
    path.write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0]["sha256"] = sha256_file(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert findings() == []
    [found] = findings(decode=True)
    assert (found.shard, found.key) == (path.name, row["key"])
    assert "other packets than its idx says" in found.what


def test_another_sha256_in_the_manifest(
    folder: Path, findings: Callable[..., list[Finding]]
) -> None:
    text = (folder / "manifest.json").read_text()
    sha256 = sha256_file(folder / "toy-000001.tar")
    (folder / "manifest.json").write_text(text.replace(sha256, "0" * 64))
    [found] = findings()
    size = (folder / "toy-000001.tar").stat().st_size
    assert (found.shard, found.first, found.last) == ("toy-000001.tar", 0, size - 1)
    assert "all members are as the index says" in found.what


@pytest.mark.parametrize("where", ["media", "header", "end", "start"])
def test_a_cut_tar(where: str, folder: Path, findings: Callable[..., list[Finding]]) -> None:
    path = folder / "toy-000001.tar"
    shard, size = rows(folder), path.stat().st_size
    first = {"media": 2, "header": 2, "end": 3, "start": 0}[where]
    at = {
        "media": shard[2]["media_offset"] + 100,
        "header": shard[2]["media_offset"] - 512,
        "end": size - 700,
        "start": 0,
    }[where]
    with path.open("r+b") as stream:
        stream.truncate(at)
    [found] = findings()
    assert found == Finding(path.name, shard[first]["key"], at, size - 1, found.what)
    assert f"cut off, {0 if where == 'end' else 4 - first} samples" in found.what


def test_all_damage_is_found(folder: Path, findings: Callable[..., list[Finding]]) -> None:
    lost, size = rows(folder, "toy-000000.tar"), (folder / "toy-000000.tar").stat().st_size
    (folder / "toy-000000.tar").unlink()
    path = folder / "toy-000002.tar"
    a, _, b, c = rows(folder, path.name)
    flip(path, a["media_offset"] + 7)
    flip(path, b["json_offset"] + 7)
    with path.open("ab") as stream:
        stream.write(b"more")
    found = findings(decode=True)
    assert [(f.shard, f.key) for f in found] == [
        ("toy-000000.tar", lost[0]["key"]),
        (path.name, c["key"]),  # the bytes too many
        (path.name, a["key"]),
        (path.name, b["key"]),
    ]
    assert (found[0].first, found[0].last) == (0, size - 1)
    assert "missing, 4 samples" in found[0].what


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"label": 1, "class": "class1"}, "json and index differ in label, class"),
        ({"sha256": "0" * 64}, "json and index differ in sha256"),
        ({"frames": 3, "fps": 1.0}, "json and index differ in fps, frames"),
        ({"path": "x"}, "json and index differ in path"),
        ({"json_crc32": 5}, "json has another crc32"),
        ({"key": "other"}, "not the header of other.mp4"),
        ({"ext": "avi"}, "avi, "),
        ({"media_size": 5}, "not the header of"),
        ({"media_offset": 600}, "overlaps"),
        ({"json_offset": 512}, "overlaps"),
        ({"idx_offset": 512, "idx_size": 10}, "overlaps"),
    ],
)
def test_a_doctored_row(
    change: dict[str, Any], what: str, folder: Path, findings: Callable[..., list[Finding]]
) -> None:
    key = rows(folder)[1]["key"]
    number = open_shards(folder).strings("key").index(key)
    doctor(folder, lambda table: table[number].update(change))
    found = findings()
    assert any(what in f.what for f in found)
    assert all("the tar is as its manifest says, the index is not" in f.what for f in found)
    assert {f.shard for f in found} == {"toy-000001.tar"}
    assert change.get("key", key) in {f.key for f in found}


def test_rows_in_another_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor(folder, lambda table: table.insert(0, table.pop(1)))
    assert verify(folder) == 3
    assert "rows are not in the order of the tars" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda table: table.pop(5), "11 rows, not 12"),
        (lambda table: table.append(dict(table[11])), "13 rows, not 12"),
        (lambda table: table[0].update(shard="toy-000009.tar"), "row 0, shard 'toy-000009.tar'"),
        (lambda table: table[0].update(table[1]), "an earlier row has it, too"),
        (lambda table: table.clear(), "0 rows, not 12"),
        (lambda table: table[3].update(media_size=-5), "row 3, media_size '-5'"),
    ],
    ids=["row lost", "row twice", "foreign tar", "key twice", "no rows", "no size"],
)
def test_doctored_tables(
    change: Callable[[list[dict[str, Any]]], None], complaint: str, folder: Path
) -> None:
    doctor(folder, change)
    with pytest.raises(VerificationError, match=rf"index\.parquet: .*{complaint}"):
        verify(folder)


def test_an_index_of_another_kind(folder: Path) -> None:
    doctor(folder, lambda table: table[3].update(key=None))
    with pytest.raises(VerificationError, match=r"index\.parquet: .*column key has empty places"):
        verify(folder)
    for data in (b"PAR1 not", b""):
        (folder / "index.parquet").write_bytes(data)
        with pytest.raises(VerificationError, match=r"index\.parquet: missing or not the one"):
            verify(folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["index_sha256"] = hashlib.sha256(data).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(VerificationError, match="no parquet file"):
            verify(folder)


def test_decoding_finds_what_no_digest_can(
    folder: Path, findings: Callable[..., list[Finding]]
) -> None:
    """A whole set that was made wrong: json, index and manifest agree on what is not so."""
    path = folder / "toy-000001.tar"
    right = rows(folder)
    shard = [dict(row) for row in right]
    with tarfile.open(path) as old, TarWriter(path) as tar:
        for number, row in enumerate(shard):
            media = old.extractfile(f"{row['key']}.mp4")
            text = old.extractfile(f"{row['key']}.json")
            assert media is not None
            assert text is not None
            data, fields = media.read(), json.loads(text.read())
            if number == 1:
                fields |= {"frames": 99, "width": 640}
            if number == 2:
                data = b"not a video"
                fields["sha256"] = hashlib.sha256(data).hexdigest()
            parts = {"mp4": data, "json": json.dumps(fields).encode()}
            members = {ext: tar.add(f"{row['key']}.{ext}", part) for ext, part in parts.items()}
            row.update(index_row(path.name, row["key"], parts["json"], members, ("split",)))
        size, sha256 = tar.commit()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][1].update(bytes=size, sha256=sha256)
    (folder / "manifest.json").write_text(json.dumps(manifest))

    def put(table: list[dict[str, Any]]) -> None:
        table[4:8] = shard

    doctor(folder, put)
    assert findings() == []
    one, two = findings(decode=True, workers=2)
    assert (one.key, two.key) == (shard[1]["key"], shard[2]["key"])
    assert (one.first, one.last + 1 - one.first) == (
        shard[1]["media_offset"],
        right[1]["media_size"],
    )
    assert re.fullmatch(r"decodes to frames \d+, not 99, width 64, not 640", one.what)
    assert two.what == "does not decode: no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"


def test_info(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_set(made)
    text = capsys.readouterr().out
    for line in (
        "  samples       12 videos in 3 shards\n",
        "  encoding      mp4 12; copy\n",
        "  packet index  all\n",
        "  classes       3: class0, class1, class2\n",
    ):
        assert line in text
    print_set(made, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes"] == sum(path.stat().st_size for path in made.glob("*.tar"))
    assert facts["frames"] == sum(open_shards(made).numbers("frames"))
    assert (facts["packet_indexes"], facts["rejected"], facts["samples"]) == (12, {}, 12)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("toy-000001.tar", "damaged"),
        ("classes.txt", "not the classes"),
        ("rejects.csv", "not the rejects"),
    ],
)
def test_verify_finds_one_changed_byte(
    name: str,
    complaint: str,
    reference: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(reference, folder)
    data = bytearray((folder / name).read_bytes())
    data[-3] ^= 1
    (folder / name).write_bytes(data)
    assert verify(folder) == 3
    assert complaint in capsys.readouterr().err


def test_verify_finds_strays_and_missing(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(reference, folder)
    (folder / "toy-000001.tar").rename(folder / "toy-000009.tar")
    assert verify(folder) == 3
    complaints = capsys.readouterr().err
    assert "toy-000001.tar: v" in complaints
    assert "toy-000009.tar: not named" in complaints


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_a_finding(
    kind: str, folder: Path, findings: Callable[..., list[Finding]]
) -> None:
    path = folder / "toy-000001.tar"
    path.rename(folder / "other")
    if kind == "link":
        path.symlink_to("other")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    [found] = findings(decode=True)
    assert found.shard == path.name
    assert found.what.startswith("cannot be read: is ")


def test_texts_that_are_no_files_and_names_that_act_upon_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("classes.txt", "rejects.csv"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    (folder / "\x1b[2J\n.tar").write_bytes(b"")
    assert verify(folder) == 3
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"{folder}/") for line in lines[:-1]] == [
        "classes.txt: is not a regular file; shard again",
        "rejects.csv: is not a regular file; shard again",
        "\\x1b[2J\\n.tar: not named in the manifest",
    ]

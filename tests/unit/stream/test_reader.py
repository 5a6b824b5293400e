"""Shard sets by their index: the same samples from a folder, over HTTP and from S3."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from moto.server import ThreadedMotoServer

from sce_video.errors import SceVideoError, UsageError, VerificationError
from sce_video.shardset.index import ShardIndex, open_shards
from sce_video.stream.loader import ClipBatch, ClipDataset, load
from sce_video.stream.order import BatchPlan
from sce_video.stream.reader import ShardReader, open_set
from sce_video.stream.remote.cache import Cache
from sce_video.stream.remote.files import RemoteFile
from sce_video.video.decode import DecodeError, decode_frames
from tests.servers import Server
from tests.unit.stream.conftest import SAMPLER


def test_frames_by_number_are_those_of_a_full_decode(index: ShardIndex) -> None:
    data = ShardReader(index).media(0)
    everything = np.stack(decode_frames(data, range(20)))
    assert everything.shape == (20, 48, 64, 3)
    picked = decode_frames(data, [3, 4, 11, 19])
    np.testing.assert_array_equal(picked, everything[[3, 4, 11, 19]])
    with pytest.raises(DecodeError, match="ends before frame 20"):
        decode_frames(data, [0, 20])
    with pytest.raises(DecodeError, match="no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"):
        decode_frames(b"<html>not a video</html>" * 50, [0])


def _lost(path: Path, other: Path) -> None:
    path.unlink()


def _linked(path: Path, other: Path) -> None:
    path.rename(other.with_suffix(".elsewhere"))
    path.symlink_to(other.with_suffix(".elsewhere"))


def _piped(path: Path, other: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _cut(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _grown(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


def _replaced(path: Path, other: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(other.read_bytes()[:size].ljust(size, b"\0"))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_lost, "No such file or directory"),
        (_linked, "is a link; put the file itself there"),
        (_piped, "is not a regular file"),
        (_cut, r"[\d,]+ bytes, its manifest says [\d,]+: cut or changed"),
        (_grown, r"[\d,]+ bytes, its manifest says [\d,]+: cut or changed"),
        (_replaced, r"v\d\.mp4 is not where its index says"),
    ],
)
def test_a_shard_that_is_not_that_of_its_manifest_names_itself(
    change: Callable[[Path, Path], None], what: str, index: ShardIndex, tmp_path: Path
) -> None:
    shutil.copytree(index.folder, tmp_path / "set")
    reader = ShardReader(replace(index, folder=tmp_path / "set"))
    path, other = (tmp_path / "set" / reader.shard_names[n] for n in (2, 0))
    assert reader.shard_of[5] == 2
    change(path, other)
    with pytest.raises(SceVideoError, match=rf"^{path}: {what}; shard again$"):
        reader.media(5)


@pytest.mark.parametrize(
    ("change", "what"), [(_cut, "shorter than its index says"), (_replaced, "not where its index")]
)
def test_a_shard_that_is_written_over_while_it_is_open_gives_no_other_video(
    change: Callable[[Path, Path], None], what: str, index: ShardIndex, tmp_path: Path
) -> None:
    shutil.copytree(index.folder, tmp_path / "set")
    reader = ShardReader(replace(index, folder=tmp_path / "set"))
    path, other = (tmp_path / "set" / reader.shard_names[n] for n in (2, 0))
    before = reader.media(5), reader.packets(5)
    if change is _cut:
        os.truncate(path, 600)
    else:
        change(path, other)
    for read in (reader.media, reader.packets):
        with pytest.raises(SceVideoError, match=what):
            read(5)
    path.unlink()  # one that is replaced by a rename stays as it was
    shutil.copy(index.folder / path.name, path)
    again = ShardReader(replace(index, folder=tmp_path / "set"))
    assert again.media(5) == before[0]
    path.unlink()
    assert again.packets(5) is not None


def test_evaluation_wants_an_index(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"for pretraining only; .* sce_video.shard webdataset$"):
        open_set(str(tmp_path / "*.tar"))


def batches(index: ShardIndex, consumed: int, workers: int = 0) -> list[ClipBatch]:
    order = BatchPlan(
        rows=np.arange(len(index)),
        shard_of=ShardReader(index).shard_of,
        digest=index.digest,
        seed=0,
        epochs=2,
        batch_size=2,
    )
    dataset = ClipDataset(ShardReader(index), SAMPLER, substitutes=order.rows)
    return list(load(dataset, order.micro_batches(consumed), workers=workers))


def assert_same(here: list[ClipBatch], there: list[ClipBatch]) -> None:
    assert len(here) == len(there) > 0
    for a, b in zip(here, there, strict=True):
        assert a.rows.tolist() == b.rows.tolist()
        assert a.names == b.names
        for x, y in zip(a.views, b.views, strict=True):
            assert torch.equal(x, y)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_local_folder(
    shards: Path, server: Server, tmp_path: Path, workers: int
) -> None:
    there = open_set(f"{server.url}/set/", Cache.at(str(tmp_path / "cache")))
    here = open_shards(shards)
    assert there.digest == here.digest
    assert_same(batches(here, 0), batches(there, 0, workers))
    assert_same(batches(here, 4), batches(there, 4, workers))  # a resume
    tars = {name: count for name, count in server.gets.items() if name.endswith(".tar")}
    assert tars == {f"set/folder-00000{i}.tar": 1 for i in range(3)}


def test_a_kept_shard_that_is_written_over_is_named_by_its_address(
    shards: Path, server: Server, tmp_path: Path
) -> None:
    there = open_set(f"{server.url}/set/", Cache.at(str(tmp_path / "cache")))
    row = int(np.flatnonzero(there.shard_numbers() == 2)[0])
    ShardReader(there).media(row)
    [kept] = (tmp_path / "cache").glob("?" * 64)
    kept.write_bytes(bytes(kept.stat().st_size))
    told = rf"^{server.url}/set/folder-000002\.tar: .* its index says; empty the cache {tmp_path}/"
    with pytest.raises(SceVideoError, match=told):
        ShardReader(there).media(row)


def test_a_set_on_s3(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from s3fs import S3FileSystem

    service = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    service.start()
    S3FileSystem.clear_instance_cache()
    try:
        host, port = service.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        for path in shards.iterdir():
            client.upload_file(str(path), "bucket", f"sets/mine/{path.name}")
        cache = Cache.at(str(tmp_path / "cache"))
        there = open_set("s3://bucket/sets/mine", cache)
        assert_same(batches(open_shards(shards), 0), batches(there, 0))
        tar = "s3://bucket/sets/mine/folder-000000.tar"
        asked = RemoteFile.ask(tar)
        assert asked.size == (shards / "folder-000000.tar").stat().st_size
        client.upload_file(str(shards / "folder-000001.tar"), "bucket", "sets/mine/changed.tar")
        before = RemoteFile.ask("s3://bucket/sets/mine/changed.tar").key
        client.put_object(Bucket="bucket", Key="sets/mine/changed.tar", Body=b"x" * 10)
        assert RemoteFile.ask("s3://bucket/sets/mine/changed.tar").key != before
        with pytest.raises(SceVideoError, match=r"^s3://bucket/none/manifest.json: not there$"):
            open_set("s3://bucket/none")
    finally:
        service.stop()
        S3FileSystem.clear_instance_cache()


def test_manifest_and_index_must_belong_together(server: Server, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1 << 20)
    index = server.folder / "set/index.parquet"
    data = index.read_bytes()
    index.write_bytes(data[:-1] + b"x")
    with pytest.raises(SceVideoError, match=r"/set/index.parquet: twice not the bytes"):
        open_set(f"{server.url}/set", cache)
    index.write_bytes(data)
    manifest = server.folder / "set/manifest.json"
    manifest.write_text(manifest.read_text().replace('"format":', '"formt":'))
    with pytest.raises(VerificationError, match=r"^http.*/set/manifest.json: damaged"):
        open_set(f"{server.url}/set", cache)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(UsageError, match=r"^http://h/s/manifest.json: needs pip install 'sce-vid"):
        open_set("http://user:secret@h/s")
    with pytest.raises(UsageError, match=r"needs pip install 'sce-video\[remote\]'$"):
        open_set("gs://bucket/set")  # gcsfs is not among what the tests install

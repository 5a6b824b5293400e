"""Shard sets elsewhere: the same batches, whatever the connection does; a cache within bounds."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from moto.server import ThreadedMotoServer

from sce_video.config import load_config
from sce_video.config.recipes import RandomResizedCrop
from sce_video.errors import SceVideoError, UsageError, VerificationError
from sce_video.shard import plan
from sce_video.shard.__main__ import main as shard
from sce_video.shardset.index import ShardIndex, open_shards
from sce_video.stream.clips import ClipTiming, RandomClips
from sce_video.stream.data import open_data
from sce_video.stream.loader import ClipBatch, ClipDataset, load
from sce_video.stream.order import BatchPlan
from sce_video.stream.reader import RemoteIndex, ShardReader, open_set
from sce_video.stream.remote import files as remote
from sce_video.stream.remote.cache import Cache
from sce_video.stream.remote.files import RemoteFile
from tests.conftest import REPOSITORY
from tests.servers import Fault, Server, serving
from tests.videos import moving_square, write_video

SAMPLER = RandomClips(((RandomResizedCrop((0.2, 0.766)), 32),) * 2, ClipTiming(4, 0.4), 0.5, seed=0)
SIZE = 100_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_BACKOFF", 0.01)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A served folder with a shard set of three tars."""
    root = tmp_path_factory.mktemp("remote")
    for i in range(6):
        write_video(root / f"raw/c{i % 2}/v{i}.mp4", moving_square(20, seed=i))
    made = root / "served/set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SAMPLES_PER_SHARD", {"video": 2})
        done = shard(["folder", "--root", str(root / "raw"), "--out", str(made), "--workers", "1"])
    assert done == 0
    assert len(list(made.glob("*.tar"))) == 3
    return made


@pytest.fixture
def server(shards: Path, tmp_path: Path) -> Iterator[Server]:
    shutil.copytree(shards, tmp_path / "served/set")
    for name in ("a", "b", "c", "d"):
        (tmp_path / "served" / name).write_bytes(content(name))
    with serving(tmp_path / "served") as found:
        yield found


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 3 * SIZE)


def content(name: str) -> bytes:
    return np.random.default_rng(ord(name)).bytes(SIZE)


def file(server: Server, name: str) -> RemoteFile:
    sha256 = hashlib.sha256(content(name)).hexdigest()
    return RemoteFile.of_set(server.url, "digest", name, SIZE, sha256)


def fetched(cache: Cache, item: RemoteFile) -> bytes:
    descriptor = cache.open(item)
    with os.fdopen(descriptor, "rb") as stream:
        stream.seek(0)
        return stream.read()


def left(cache: Cache) -> set[str]:
    """What lies in the cache, its own lock apart."""
    return {path.name for path in cache.folder.iterdir()} - {".lock"}


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


@pytest.mark.parametrize("faults", [["drop"], ["cut"], ["503", "503"], ["wrong"], ["drop"] * 4])
def test_a_bad_connection_is_borne(server: Server, cache: Cache, faults: list[Fault]) -> None:
    server.faults["a"] = list(faults)
    item = file(server, "a")
    assert fetched(cache, item) == content("a")
    assert left(cache) == {item.key}
    assert fetched(cache, item) == content("a")
    assert server.gets["a"] == len(faults) + 1  # the second came from the cache


@pytest.mark.parametrize(
    ("faults", "gets", "message"),
    [
        (["503"] * 9, 5, r"/a: HTTP 503 \(5 attempts\)$"),
        (["drop"] * 9, 5, r"/a: .*payload.* \(5 attempts\)$"),
        (["cut"] * 9, 5, r"/a: 50000 of 100000 bytes came \(5 attempts\)$"),
        (["wrong"] * 9, 2, r"/a: twice not the bytes its manifest names \(sha256\); copy that"),
        (["403"], 1, r"/a: no permission to read it$"),
    ],
)
def test_what_does_not_get_better_is_one_line(
    server: Server, cache: Cache, faults: list[Fault], gets: int, message: str
) -> None:
    server.faults["a"] = faults
    with pytest.raises(SceVideoError, match=message) as caught:
        cache.open(file(server, "a"))
    assert "\n" not in str(caught.value)
    assert server.gets["a"] == gets
    assert left(cache) == set()


def test_a_missing_file_and_a_dead_server(server: Server, cache: Cache) -> None:
    with pytest.raises(SceVideoError, match=r"/e: not there$"):
        cache.open(RemoteFile.of_set(server.url, "d", "e", 5, ""))
    with pytest.raises(SceVideoError, match=r"Cannot connect.*\(5 attempts\)$"):
        cache.open(RemoteFile.of_set("http://127.0.0.1:1", "d", "a", 5, ""))
    with pytest.raises(SceVideoError, match=r"/none/manifest.json: not there$"):
        open_set(f"{server.url}/none", cache)
    assert left(cache) == set()


def test_files_of_foreign_tars_are_known_by_what_the_server_says(server: Server) -> None:
    url = f"{server.url}/a"
    asked = RemoteFile.ask(url)
    assert asked.size == SIZE
    assert asked.key == RemoteFile.ask(url).key != RemoteFile.ask(f"{server.url}/b").key
    (server.folder / "a").write_bytes(b"changed")
    assert asked.key != RemoteFile.ask(url).key
    server.faults["a"] = ["503"] * 4  # HEAD, then GET, twice
    assert RemoteFile.ask(url).size == 7
    server.faults["a"] = ["503"] * 20
    with pytest.raises(SceVideoError, match=r"HTTP 503 \(5 attempts\)$"):
        RemoteFile.ask(url)
    server.faults["a"], server.sized = [], False
    with pytest.raises(SceVideoError, match="its server tells no size"):
        RemoteFile.ask(url)


def test_two_sets_may_share_names(server: Server, cache: Cache) -> None:
    one = RemoteFile.of_set(server.url, "one", "a", SIZE, "")
    two = RemoteFile.of_set(server.url, "two", "a", SIZE, "")
    assert one.key != two.key
    assert fetched(cache, one) == fetched(cache, two)
    assert left(cache) == {one.key, two.key}


def test_the_least_recently_opened_leaves_and_a_reader_keeps_its_file(
    server: Server, cache: Cache
) -> None:
    a, b, c, d = (file(server, name) for name in "abcd")
    held = cache.open(a)
    for item in (b, c):
        os.close(cache.open(item))
    os.close(cache.open(b))
    os.utime(cache.folder / a.key, ns=(1, 1))
    assert fetched(cache, d) == content("d")
    assert left(cache) == {b.key, c.key, d.key}
    assert os.pread(held, SIZE, 0) == content("a")
    os.close(held)
    assert fetched(cache, a) == content("a")  # c was opened before b was opened again
    assert left(cache) == {b.key, d.key, a.key}


def test_what_is_not_the_caches_stays(server: Server, cache: Cache) -> None:
    cache.folder.mkdir()
    (cache.folder / "thesis.tex").write_bytes(b"x" * 10 * SIZE)
    killed = cache.folder / ("0" * 64 + ".part")  # left by a process that was killed
    killed.write_bytes(b"x" * SIZE)
    os.utime(killed, (1, 1))
    items = [file(server, name) for name in "abc"]
    for item in items:
        os.close(cache.open(item))
    assert left(cache) == {"thesis.tex", *(item.key for item in items)}


def test_a_cut_file_in_the_cache_is_fetched_again(server: Server, cache: Cache) -> None:
    item = file(server, "a")
    os.close(cache.open(item))
    os.truncate(cache.folder / item.key, 10)
    assert fetched(cache, item) == content("a")
    assert server.gets["a"] == 2


def test_more_than_the_cache_may_hold(server: Server, cache: Cache) -> None:
    small = Cache(cache.folder, SIZE - 1)
    with pytest.raises(SceVideoError, match=r"more than the whole cache .* raise data.cache_gib"):
        small.open(file(server, "a"))


def test_a_full_disk_names_the_cache(
    server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("posix_fallocate", "pwrite", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(SceVideoError) as caught:
                cache.open(file(server, "a"))
        text = str(caught.value)
        assert text.startswith(f"{cache.folder}: No space left on device for {server.url}/a (")
        assert "data.cache or $SCE_VIDEO_CACHE" in text
        assert left(cache) == set()
    assert server.gets["a"] == 2  # no attempt after the first: the disk does not get better


def test_a_really_full_disk(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from pathlib import Path; from sce_video.stream.remote.cache import Cache\n"
        "from sce_video.stream.remote.files import RemoteFile; import os\n"
        f"folder = Path({str(folder)!r})\n"
        f"try: Cache(folder, 1 << 30).open(RemoteFile('{server.url}/a', 'a' * 64, {SIZE}))\n"
        "except Exception as error: print(type(error).__name__, error, os.listdir(folder))\n"
    )
    mount = f'mount -t tmpfs -o size=64k none {folder} && exec {sys.executable} -c "$0"'
    done = subprocess.run(
        ["/usr/bin/unshare", "-rm", "sh", "-c", mount, code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no mounts here")
    assert done.stdout.startswith(f"SceVideoError {folder}: No space left on device"), done
    assert "['.lock']" in done.stdout


FILL = f"""
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sce_video.stream.remote.cache import Cache
from sce_video.stream.remote.files import RemoteFile
for name in "abcd":
    Cache(Path(sys.argv[2]), int(sys.argv[4])).open(
        RemoteFile.of_set(sys.argv[3], "digest", name, {SIZE}, "")
    )
"""


@pytest.mark.parametrize("room", [10, 1])
def test_processes_share_a_cache(server: Server, cache: Cache, room: int) -> None:
    server.pause = 0.2
    arguments = (str(REPOSITORY), str(cache.folder), server.url, str(room * SIZE))
    processes = [subprocess.Popen([sys.executable, "-c", FILL, *arguments]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    if room == 10:
        assert dict(server.gets) == dict.fromkeys("abcd", 1)
    names = left(cache)
    assert len(names) == min(room, 4)
    assert not any(name.endswith(".part") for name in names)


def test_manifest_and_index_must_belong_together(server: Server, cache: Cache) -> None:
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


def test_a_training_refuses_a_cache_below_a_window(server: Server, tmp_path: Path) -> None:
    settings = [f"data.shards={server.url}/set", "data.split=null", "train.batch_size=2"]
    settings += [f"data.cache={tmp_path / 'cache'}"]
    index, found = open_data(load_config("demo.yaml", settings), 0, 1)
    assert isinstance(index, RemoteIndex)
    assert (found.samples, found.digest) == (6, index.digest)
    with pytest.raises(
        UsageError, match=r"data.cache_gib: 9.54e-07 GiB hold less than the 16 shards"
    ):
        open_data(load_config("demo.yaml", [*settings, "data.cache_gib=0.00000095367432"]), 0, 1)
    with pytest.raises(UsageError, match=r"^http.*/set: no split 'train'"):
        open_data(load_config("demo.yaml", [*settings, "data.split=train"]), 0, 1)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCE_VIDEO_CACHE", raising=False)
    assert Cache.at().folder == Path.home() / ".cache/sce_video"
    monkeypatch.setenv("SCE_VIDEO_CACHE", "/elsewhere")
    assert Cache.at().folder == Path("/elsewhere")
    assert Cache.at("/here", 0.5) == Cache(Path("/here"), 2**29)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(UsageError, match=r"^http://h/s/manifest.json: needs pip install 'sce-vid"):
        open_set("http://user:secret@h/s")
    with pytest.raises(UsageError, match=r"needs pip install 'sce-video\[remote\]'$"):
        open_set("gs://bucket/set")  # gcsfs is not among what the tests install

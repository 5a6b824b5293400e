"""Files come whole whatever the connection does; the cache stays within its bounds."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sce_video.errors import SceVideoError, UsageError
from sce_video.stream.reader import open_set
from sce_video.stream.remote.cache import Cache
from sce_video.stream.remote.files import RemoteFile
from tests.conftest import REPOSITORY
from tests.servers import Fault, Server
from tests.unit.stream.remote.conftest import SIZE, content, file


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 3 * SIZE)


def fetched(cache: Cache, item: RemoteFile) -> bytes:
    descriptor = cache.open(item)
    with os.fdopen(descriptor, "rb") as stream:
        stream.seek(0)
        return stream.read()


def left(cache: Cache) -> set[str]:
    """What lies in the cache, its own lock apart."""
    return {path.name for path in cache.folder.iterdir()} - {".lock"}


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(["drop"], id="drop"),
        pytest.param(["cut"], id="cut"),
        pytest.param(["503", "503"], id="503 twice"),
        pytest.param(["wrong"], id="wrong"),
        pytest.param(["drop"] * 4, id="drop four times"),
    ],
)
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
        pytest.param(["503"] * 9, 5, r"/a: HTTP 503 \(5 attempts\)$", id="503"),
        pytest.param(["drop"] * 9, 5, r"/a: .*payload.* \(5 attempts\)$", id="drop"),
        pytest.param(["cut"] * 9, 5, r"/a: 50000 of 100000 bytes came \(5 attempts\)$", id="cut"),
        pytest.param(
            ["wrong"] * 9,
            2,
            r"/a: twice not the bytes its manifest names \(sha256\); copy that",
            id="wrong",
        ),
        pytest.param(["403"], 1, r"/a: no permission to read it$", id="403"),
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
    assert server.gets["a"] == 3  # no attempt after the first: the disk does not get better


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


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said(
    server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuses)
    with pytest.raises(SceVideoError, match=r"has no locks for .* put the cache elsewhere") as told:
        cache.open(file(server, "a"))
    assert str(told.value).startswith(f"{cache.folder}: its file system")
    assert not server.gets


def _link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "private")


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (_link, "is a link"),
    "pipe": (os.mkfifo, "is not a regular file"),
    "folder": (Path.mkdir, "is not a regular file|Is a directory"),
}


@pytest.mark.parametrize(("make", "said"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("suffix", ["", ".part"])
def test_what_lies_at_a_files_name_is_neither_read_nor_written(
    server: Server, cache: Cache, suffix: str, make: Callable[[Path], object], said: str
) -> None:
    private = cache.folder.parent / "private"
    private.write_bytes(b"x" * SIZE)
    cache.folder.mkdir()
    item = file(server, "a")
    at = cache.folder / f"{item.key}{suffix}"
    make(at)
    with pytest.raises(SceVideoError, match=said) as told:
        cache.open(item)
    assert str(told.value).startswith(f"{at}: ")
    assert private.read_bytes() == b"x" * SIZE
    assert not server.gets


def test_a_cache_that_is_no_folder_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "pipe", "link", "file/below"):
        with pytest.raises(SceVideoError, match=f"{name}: (is no folder|Not a directory) for "):
            Cache(tmp_path / name, 3 * SIZE).open(file(server, "a"))


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCE_VIDEO_CACHE", raising=False)
    assert Cache.at().folder == Path.home() / ".cache/sce_video"
    monkeypatch.setenv("SCE_VIDEO_CACHE", "/elsewhere")
    assert Cache.at().folder == Path("/elsewhere")
    assert Cache.at("/here", 0.5) == Cache(Path("/here"), 2**29)
    assert Cache.at("/here", 1e300).limit > 2**50
    told = r"^~nobody-of-ours/x: there is no such home folder; put the cache else"
    with pytest.raises(UsageError, match=told):
        Cache.at("~nobody-of-ours/x")

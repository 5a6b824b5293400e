"""Servers that lie, dawdle or send elsewhere: one line each, and no waiting without an end."""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

import pytest

from sce_video.errors import SceVideoError
from sce_video.stream.reader import open_set
from sce_video.stream.remote import files, web
from sce_video.stream.remote.cache import Cache
from sce_video.stream.remote.files import RemoteFile, fetch_small
from tests.servers import Server, serving
from tests.unit.stream.remote.conftest import SIZE, content, file

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 3 * SIZE)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stretch is short, and there is one attempt."""
    monkeypatch.setattr(web, "PATIENCE", 0.2)
    monkeypatch.setattr(web, "LEAST", 10_000)
    monkeypatch.setattr(files, "_ATTEMPTS", 1)


def sends(*pieces: bytes, then: Iterable[bytes] = ()) -> Callable[[], Iterator[bytes]]:
    return lambda: chain(pieces, then)


def length(size: int) -> bytes:
    return OK + f"Content-Length: {size}\r\n\r\n".encode()


DAWDLING = {
    "silence": sends(then=repeat(b"", 100)),
    "a head by bytes": sends(OK + b"X: ", then=repeat(b"x")),
    "heads without an end": sends(OK, then=repeat(b"X: y\r\n")),
    "silence after the head": sends(length(SIZE), then=repeat(b"", 100)),
    "a body by bytes": sends(length(SIZE), then=repeat(b"x")),
    "a chunk's size by bytes": sends(CHUNKED + b"1;x=", then=repeat(b"x")),
    "chunks by bytes": sends(CHUNKED, then=repeat(b"1\r\nx\r\n")),
}


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("answer", DAWDLING.values(), ids=DAWDLING)
def test_a_server_that_dawdles_ends_in_a_line(
    server: Server, cache: Cache, answer: Callable[[], Iterable[bytes]]
) -> None:
    server.raw["a"], server.drip = answer, 0.02
    slow = r"/a: fewer than 10,000 bytes a second came for 0.2 s \(1 attempts\)$"
    with pytest.raises(SceVideoError, match=slow):
        cache.open(file(server, "a"))
    with pytest.raises(SceVideoError, match=slow):
        fetch_small(f"{server.url}/a")
    assert server.gets["a"] == 2
    assert {path.name for path in cache.folder.iterdir()} <= {".lock"}


def test_a_server_that_keeps_the_pace_may_take_many_stretches(
    server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PATIENCE", 2.0)
    monkeypatch.setattr(web, "LEAST", 10_000)
    data = content("a")
    pieces = [data[i : i + 2000] for i in range(0, SIZE, 2000)]
    server.raw["a"], server.drip = sends(length(SIZE), *pieces), 0.01  # five stretches
    descriptor = cache.open(file(server, "a"))
    assert Path(f"/proc/self/fd/{descriptor}").read_bytes() == data


def test_a_small_file_has_a_time_and_a_size(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = sends(CHUNKED, then=repeat(b"2710\r\n" + bytes(10_000) + b"\r\n"))
    server.raw["a"] = endless
    with monkeypatch.context() as patch:
        patch.setattr(files, "LARGEST", 50_000)
        with pytest.raises(SceVideoError, match=r"/a: larger than 50,000 bytes; is it"):
            fetch_small(f"{server.url}/a")
    server.raw["b"] = sends(length(1 << 60))
    with pytest.raises(SceVideoError, match=r"/b: larger than 268,435,456 bytes; is it"):
        fetch_small(f"{server.url}/b")
    monkeypatch.setattr(files, "_SMALL_TIME", 0.1)
    with pytest.raises(SceVideoError, match=r"/a: [\d,]+ bytes came in 0.1 s; too slow$"):
        fetch_small(f"{server.url}/a")
    assert server.gets == {"a": 2, "b": 1}


PACKED = gzip.compress(content("a"))
LIES = {
    "a longer file": (length(SIZE + 1), "more than 100000 bytes came", 5),
    "a file of 2^60 bytes": (length(1 << 60), "more than 100000 bytes came", 5),
    "nothing": (length(0), "0 of 100000 bytes came", 5),
    "a shorter body": (CHUNKED + b"1\r\nx\r\n0\r\n\r\n", "1 of 100000 bytes came", 5),
    "a length that is none": (OK + b"Content-Length: -1\r\n\r\n", "", 5),
    "a length of 5,000 digits": (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "", 5),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", "", 5),
    "a page": (OK + b"Content-Type: text/html\r\n\r\n<h1>Log in</h1>", "a web page came", 1),
    "gzip": (
        OK + b"Content-Encoding: gzip\r\n" + length(len(PACKED)).removeprefix(OK) + PACKED,
        r"comes packed \(gzip\)",
        1,
    ),
    "a range": (b"HTTP/1.1 206 Part\r\nContent-Range: bytes 5-9/10\r\n\r\nabcde", "HTTP 206", 5),
    "no such range": (b"HTTP/1.1 416 No\r\n\r\n", "HTTP 416", 5),
    "nothing new": (b"HTTP/1.1 304 Not Modified\r\n\r\n", "HTTP 304", 5),
    "gone": (b"HTTP/1.1 410 Gone\r\n\r\n", "not there", 1),
    "a redirect to nowhere": (b"HTTP/1.1 302 Found\r\n\r\n", "HTTP 302", 5),
}


@pytest.mark.parametrize(("answer", "said", "gets"), LIES.values(), ids=LIES)
def test_a_server_that_lies_ends_in_a_line_and_takes_no_room(
    server: Server,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    said: str,
    gets: int,
) -> None:
    reserved: list[int] = []
    monkeypatch.setattr("os.posix_fallocate", lambda *place: reserved.append(place[2]))
    server.raw["a"] = sends(answer)
    with pytest.raises(SceVideoError, match=rf"/a: .*{said}") as caught:
        cache.open(file(server, "a"))
    assert "\n" not in str(caught.value)
    assert server.gets["a"] == gets
    assert set(reserved) == ({SIZE} if b"chunked" in answer else set())  # it tells no size
    assert {path.name for path in cache.folder.iterdir()} <= {".lock"}


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        ("7200", [60.0]),
        ("3", [3.0]),
        ("Fri, 31 Dec 9999 23:59:59 GMT", [60.0]),
        ("9" * 5000, [60.0]),
        ("-5", [0.01]),
        ("soon", [0.01]),
    ],
)
def test_a_server_that_asks_to_wait_is_not_waited_for_without_end(
    server: Server, monkeypatch: pytest.MonkeyPatch, asked: str, waits: list[float]
) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=time.monotonic)
    monkeypatch.setattr(files, "time", clock)
    monkeypatch.setattr(files, "_ATTEMPTS", 2)
    server.raw["a"] = sends(f"HTTP/1.1 429 Busy\r\nRetry-After: {asked}\r\n\r\n".encode())
    with pytest.raises(SceVideoError, match=r"/a: HTTP 429(, to be asked again in [\d,]+ s)? \(2"):
        fetch_small(f"{server.url}/a")
    assert slept == waits


def found_at(address: str) -> Callable[[], Iterator[bytes]]:
    return sends(f"HTTP/1.1 302 Found\r\nLocation: {address}\r\n\r\n".encode())


@pytest.mark.parametrize("address", ["/b", "b", "//{host}/b", "http://{host}/b", "x/../b?c#d"])
def test_a_redirect_on_the_same_host_is_followed(
    server: Server, cache: Cache, address: str
) -> None:
    server.raw["a"] = found_at(address.format(host=server.url.removeprefix("http://")))
    assert fetch_small(f"{server.url}/a") == content("b")
    item = RemoteFile.ask(f"http://me:secret@{server.url.removeprefix('http://')}/a")
    assert item.size == SIZE
    assert cache.open(item)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("file:///etc/passwd", "file://"),
        ("ftp://127.0.0.1/b", "ftp://127.0.0.1:21"),
        ("http://169.254.169.254/latest/meta-data/", "http://169.254.169.254:80"),
        ("http://localhost:{port}/b", "http://localhost:{port}"),
        ("http://127.0.0.1:1/b", "http://127.0.0.1:1"),
        ("https://127.0.0.1:{port}/b", "https://127.0.0.1:{port}"),
        ("//other.example/b?key=secret", "http://other.example:80"),
        ("http://127.0.0.1:{port}@evil.example/", "http://evil.example:80"),
        ("http://[", None),
    ],
)
def test_a_redirect_elsewhere_is_refused(server: Server, address: str, told: str | None) -> None:
    port = server.url.rpartition(":")[2]
    server.raw["a"] = found_at(address.format(port=port))
    line = f"sends on to {re.escape((told or '').format(port=port))}, which is not asked"
    with pytest.raises(SceVideoError, match=line if told else "sends on to what is no address"):
        fetch_small(f"{server.url}/a")
    with pytest.raises(SceVideoError, match="sends on to"):
        RemoteFile.ask(f"{server.url}/a")
    assert set(server.gets) == {"a"}


def test_a_redirect_to_another_server_reaches_it_never(server: Server, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"private")
    with serving(tmp_path) as other:
        server.raw["a"] = found_at(f"{other.url}/b")
        with pytest.raises(SceVideoError, match="sends on to"):
            fetch_small(f"{server.url}/a")
        assert not other.gets


def test_only_the_same_host_by_https_counts_as_the_same() -> None:
    from yarl import URL

    here = URL("http://h.example/a")
    assert web._stays(here, URL("https://h.example/a"))
    assert not web._stays(here, URL("https://h.example:8443/a"))
    assert not web._stays(URL("https://h.example/a"), here)
    assert not web._stays(here, URL("https://x.h.example/a"))


def test_redirects_end(server: Server) -> None:
    server.raw["a"] = found_at("/a")
    with pytest.raises(SceVideoError, match=r"/a: sends on more than 5 times$"):
        fetch_small(f"{server.url}/a")
    assert server.gets["a"] == 6


def test_a_page_instead_of_a_manifest_is_said(server: Server, cache: Cache) -> None:
    server.raw["none/manifest.json"] = sends(OK + b"Content-Type: text/html\r\n\r\n<h1>")
    with pytest.raises(SceVideoError, match=r"/none/manifest.json: a web page came, not the file"):
        open_set(f"{server.url}/none", cache)


@pytest.mark.parametrize("name", ["ETag", "etag", "ETAG"])
def test_a_file_is_known_by_its_etag_however_it_is_written(server: Server, name: str) -> None:
    keys = set()
    for version in ("one", "two"):
        head = f"{name}: {version}\r\ncontent-length: {SIZE}\r\n\r\n"
        server.raw["a"] = sends(OK + head.encode())
        keys.add(RemoteFile.ask(f"{server.url}/a").key)
    assert len(keys) == 2

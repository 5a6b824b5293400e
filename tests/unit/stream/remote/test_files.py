"""Files elsewhere: known by what their server says of them."""

from __future__ import annotations

import pytest

from sce_video.errors import SceVideoError, UsageError
from sce_video.stream.remote.files import RemoteFile, bare_url, is_remote, on_this_machine
from tests.servers import Server
from tests.unit.stream.remote.conftest import SIZE


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


@pytest.mark.parametrize(
    "location",
    [
        "pipe:cat /etc/passwd",
        "file:///etc/passwd",
        "ftp://host/x",
        "HTTP://host/x",
        " http://host/x",
        "zip://a::http://host/x.zip",
        "simplecache::http://host/x",
        "{http,file}://host/x",
        "memory://x",
        "http://",
        "http:///x",
        "http://:80/x",
        "http://me:word@/x",
        "http://[",
        "http://[::1/x",
        "http://ho st/x",
        "http://host/x\r\nHost: y",
        "http://host/\0",
        "http://host/\ud800",
        "s3://",
        "s3:///key",
        "gs:///key",
    ],
)
def test_what_is_no_address_is_refused(location: str) -> None:
    with pytest.raises(UsageError):
        is_remote(location)


@pytest.mark.parametrize(
    ("location", "bare"),
    [
        ("http://me:w@rd@host:80/x?key=secret#y", "http://host:80/x"),
        ("https://[::1]:8000/a/b", "https://[::1]:8000/a/b"),
        ("http://host/a@b", "http://host/a@b"),
        ("http://host/{0..9}.tar", "http://host/{0..9}.tar"),
        ("http://me:word@host?key=secret", "http://host"),
        ("s3://bucket/key", "s3://bucket/key"),
    ],
)
def test_addresses_are_shown_without_secrets(location: str, bare: str) -> None:
    assert is_remote(location)
    assert bare_url(location) == bare


def test_messages_about_what_is_no_address_hold_no_secret() -> None:
    with pytest.raises(UsageError) as told:
        is_remote("http://me:word@/x?key=secret")
    assert str(told.value) == "http:///x: no address; give http://HOST/PATH"


@pytest.mark.parametrize("path", ["here", "/a/b", "//[", "a:b", "[::1]", "x::y", ""])
def test_paths_are_paths(path: str) -> None:
    assert not is_remote(path)
    assert bare_url(path) == path
    assert on_this_machine(path, "run", "") == path


def test_what_a_file_names_is_not_asked() -> None:
    line = r"^run: names the set https://host/x; what a file names is not asked: give --shards$"
    with pytest.raises(UsageError, match=line):
        on_this_machine("https://me:word@host/x?key=secret", "run", "give --shards")


def test_names_of_a_sets_files_do_not_end_an_address() -> None:
    names = {"a b.tar": "a%20b.tar", "a#b?c%20.tar": "a%23b%3Fc%2520.tar"}
    for name, quoted in names.items():
        assert RemoteFile.of_set("http://h/s", "d", name, 1, "").url == f"http://h/s/{quoted}"
    assert RemoteFile.of_set("s3://b/s", "d", "a#b", 1, "").url == "s3://b/s/a#b"

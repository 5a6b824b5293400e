"""Files that count: whole or not at all, as readable as others."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sce_video.files import (
    PARTIAL,
    is_plain_name,
    named,
    read_plain,
    sha256_file,
    whole_file,
    write_whole,
)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with whole_file(path) as partial:
        assert partial == tmp_path / f"a.json{PARTIAL}"
        partial.write_bytes(b"new")
        partial.chmod(0o600)  # as some libraries write
        assert not path.exists()
    assert path.read_bytes() == b"new"
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sha256_file(path) == hashlib.sha256(b"new").hexdigest()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"old")

    def fail() -> None:
        with whole_file(path) as partial:
            partial.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass  # nothing was written
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.read_bytes() == b"old"


def test_the_umask_holds(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"theirs")
    (tmp_path / f"a{PARTIAL}").symlink_to(tmp_path / "other")
    write_whole(tmp_path / "a", b"ours")
    assert (tmp_path / "other").read_bytes() == b"theirs"
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"ours"


def test_several_may_write_a_shared_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with whole_file(path, shared=True) as first, whole_file(path, shared=True) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"first"  # the one that ended last


def test_modes_are_left_alone_where_they_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("this file system has no modes")

    monkeypatch.setattr(Path, "chmod", refuse)
    write_whole(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.json"

    def write() -> None:
        with whole_file(path) as partial:
            partial.symlink_to("/dev/full")
            partial.write_bytes(b"text")

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_safetensors_words_of_the_system_s_errors_are_understood(tmp_path: Path) -> None:
    """It raises no OSError of its own."""

    def write() -> None:
        with named(tmp_path / "encoder.safetensors"):
            save_file({"a": np.zeros(9)}, tmp_path / "nowhere" / "a")

    with pytest.raises(FileNotFoundError) as caught:
        write()
    assert caught.value.filename == str(tmp_path / "encoder.safetensors")


@pytest.mark.parametrize("name", ["a.tar", "Größe 片段.tar", "k400-000000.tar"])
def test_a_plain_name(name: str) -> None:
    assert is_plain_name(name, ".tar")


@pytest.mark.parametrize(
    "name",
    [
        *("", ".tar", ".a.tar", "a", "a.tar ", "/a.tar", "../a.tar", "a/b.tar", "a.tar/"),
        *("a\n.tar", "a\0.tar", "\x1b.tar", "\udcff.tar", "\ud800.tar", "mp4\u202e.tar"),
        "x" * 300 + ".tar",
    ],
)
def test_no_plain_name(name: str) -> None:
    assert not is_plain_name(name, ".tar")


def test_only_regular_files_are_read_and_none_waited_for(tmp_path: Path) -> None:
    plain, link, pipe = tmp_path / "plain", tmp_path / "link", tmp_path / "pipe"
    plain.write_bytes(b"12345")
    link.symlink_to(plain)
    os.mkfifo(pipe)
    assert read_plain(plain, limit=5) == b"12345" == read_plain(link, follow=True)
    for path, words in (
        (link, "is a link"),
        (pipe, "not a regular file"),
        (tmp_path, "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / "none", "No such file"),
        (Path("a\0b"), "no such file"),
    ):
        with pytest.raises(OSError, match=words) as caught:
            read_plain(path)
        assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_plain("/proc/self/mem")  # a regular file, of which nothing can be read
    assert caught.value.filename == "/proc/self/mem"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        read_plain(tmp_path / "loop", follow=True)
    with pytest.raises(OSError, match="not a regular file"):
        sha256_file(pipe)


@pytest.mark.parametrize(
    "error",
    [OSError("No such device (os error 19)"), ValueError("x (os error 19)"), OSError(19, "x")],
)
def test_an_error_of_the_system_gets_the_name_of_its_file(error: Exception) -> None:
    with pytest.raises(OSError, match="No such device") as caught, named(Path("a")):
        raise error
    assert (caught.value.errno, caught.value.filename) == (19, "a")


def test_a_file_has_a_size_whatever_it_says(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    sparse.touch()
    os.truncate(sparse, 1 << 40)
    with pytest.raises(OSError, match="larger than 268,435,456 bytes"):
        read_plain(sparse)
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_plain("/proc/self/status", limit=10)  # whose size is 0 until it is read

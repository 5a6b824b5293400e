"""Bad inputs: every one is read, or refused in a line; the harness blames the right one."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sce_video.errors import SceVideoError
from tests.conftest import REPOSITORY
from tests.faults.attempt import Case, Limits
from tests.faults.children import run
from tests.faults.mutators.dice import OUTSIDE, Dice, dice
from tests.faults.mutators.generic import damage
from tests.faults.targets.target import Target

LIMITS = Limits(memory=200 << 20, asked=1 << 30, cpu=5.0)


@pytest.mark.parametrize(
    ("inputs", "seed"),
    [(1_000, 0), pytest.param(20_000, 1, marks=pytest.mark.soak)],
)
def test_no_input_fails(
    inputs: int, seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    table = tmp_path / "table.json"
    # A process of its own: children are forked, and this one may have threads.
    command = [sys.executable, "-m", "tests.faults", "--inputs", str(inputs), "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--json", str(table)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert table.is_file(), done.stderr[-3_000:]
    found = json.loads(table.read_text())
    for name in ("tried", "targets"):
        record_property(name, found[name])
    assert found["tried"] >= inputs
    assert done.returncode == 0, done.stdout


def _nothing(folder: Path, place: str) -> None:
    (folder / place).read_bytes()


def _hang(folder: Path, place: str) -> None:
    time.sleep(1_000)


def _eat(folder: Path, place: str) -> None:
    bytearray(b"x") * (600 << 20)


def _eat_and_hide(folder: Path, place: str) -> None:
    try:
        bytearray(2 << 30)
    except MemoryError as error:
        raise SceVideoError("damaged") from error


def _crash(folder: Path, place: str) -> None:
    ctypes.string_at(0)


def _leave(folder: Path, place: str) -> None:
    os._exit(0)


def _escape(folder: Path, place: str) -> None:
    (folder.parent / "beside").write_text("x")


def _peep(folder: Path, place: str) -> None:
    (folder / f"../{OUTSIDE}").open("rb")


def _escape_natively(folder: Path, place: str) -> None:
    ctypes.CDLL(None).mkdir(str(folder.parent / "beside").encode(), 0o700)


def _ask(folder: Path, place: str) -> None:
    socket.create_connection(("127.0.0.1", 9))


def _start(folder: Path, place: str) -> None:
    os.system("true")  # noqa: S605, S607


def _print(folder: Path, place: str) -> None:
    print("\x1b[2J")


def _spin(folder: Path, place: str) -> None:
    end = time.process_time() + 0.4
    while time.process_time() < end:
        pass


def _spin_for_ever(folder: Path, place: str) -> None:
    while True:
        pass


def _raise(error: BaseException) -> Callable[[Path, str], None]:
    def read(folder: Path, place: str) -> None:
        raise error

    return read


@pytest.mark.parametrize(
    ("name", "read", "kind"),
    [
        ("foreign", _raise(ValueError("x")), "ValueError"),
        ("exit", _raise(SystemExit(2)), "SystemExit"),
        ("no name", _raise(OSError(28, "No space left on device")), "OSError"),
        ("lines", _raise(OSError(5, "a\nb", "c")), "message that acts on a terminal"),
        ("turned", _raise(OSError(5, "a\u202eb", "c")), "message that acts on a terminal"),
        ("empty", _raise(SceVideoError("")), "empty message"),
        ("hangs", _hang, "waits for ever"),
        ("eats", _eat, "memory"),
        ("hides", _eat_and_hide, "out of memory"),
        ("crashes", _crash, "killed by SIGSEGV"),
        ("leaves", _leave, "ends the process with 0"),
        ("escapes", _escape, "left its folder"),
        ("peeps", _peep, "left its folder"),
        ("escapes natively", _escape_natively, "left its folder"),
        ("asks", _ask, "left its folder"),
        ("starts", _start, "left its folder"),
        ("prints", _print, "print that acts on a terminal"),
        ("spins", _spin, "time"),
        ("spins for ever", _spin_for_ever, "does not end"),
    ],
)
def test_what_fails_is_blamed_on_its_input(
    name: str, read: Callable[[Path, str], None], kind: str, tmp_path: Path
) -> None:
    def some(folder: Path, place: str) -> None:
        (read if folder.name in ("1", "3") else _nothing)(folder, place)

    (tmp_path / "good").mkdir()
    (tmp_path / "good/a").write_bytes(b"good")
    target = Target(name, lambda house, folder: None, {"a": damage}, some, replaced=False)
    if kind == "waits for ever":
        limits = replace(LIMITS, idle=1.0)
    else:
        limits = replace(LIMITS, cpu=0.3) if name.startswith("spins") else LIMITS
    results = list(run([(Case(target, tmp_path / "good", 0), range(5))], tmp_path, limits, 1))
    assert [result.number for result in results] == list(range(5))
    outcomes = [result.verdict.outcome for result in results]
    assert outcomes == ["read", "failed", "read", "failed", "read"]
    assert {result.verdict.kind for result in results} == {"", kind}
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_a_harness_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good/a").write_bytes(b"good")

    def broken(data: bytes, d: Dice) -> bytes:
        raise TypeError("of the mutator")

    target = Target("t", lambda house, folder: None, {"a": broken}, _nothing, replaced=False)
    results = list(run([(Case(target, tmp_path / "good", 0), [0, -1])], tmp_path, LIMITS, 1))
    assert [result.verdict.outcome for result in results] == ["failed", "read"]
    assert "TypeError" in results[0].verdict.why


def test_what_is_refused_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good/a").write_bytes(b"good")
    target = Target(
        "t",
        lambda house, folder: None,
        {"a": damage},
        lambda folder, place: (folder / "none").read_bytes(),
    )
    case = Case(target, tmp_path / "good", 0)
    results = list(run([(case, [0, 1])], tmp_path, LIMITS, 2))
    assert [result.verdict.outcome for result in results] == ["refused", "refused"]
    [result] = run([(case, [-1])], tmp_path, LIMITS, 1)
    assert result.verdict.kind == "good input refused"


def test_the_same_number_is_the_same_input(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good/a").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "good/b").write_bytes(b"other")
    target = Target(
        "t", lambda house, folder: None, {"a": damage, "b": damage}, _nothing, replaced=False
    )
    made = []
    for folder in ("first", "second"):
        places = [
            target.input(tmp_path / "good", tmp_path / folder / str(n), 5, n) for n in range(20)
        ]
        assert places[:3] == ["a", "b", "a"]
        made.append([(tmp_path / folder / str(n) / p).read_bytes() for n, p in enumerate(places)])
    assert made[0] == made[1]
    assert len(set(made[0])) > 15
    assert damage(b"x" * 99, dice(1)) == damage(b"x" * 99, dice(1))


def test_other_things_lie_in_the_place_of_files(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good/a").write_bytes(b"good")
    target = Target("t", lambda house, folder: None, {"a": damage}, _nothing)
    kinds = set()
    for number in range(400):
        folder = tmp_path / str(number)
        target.input(tmp_path / "good", folder, 0, number)
        [mode] = [path.lstat().st_mode for path in folder.iterdir()] or [0]
        kinds.add(stat.S_IFMT(mode))
    assert kinds == {0, stat.S_IFIFO, stat.S_IFLNK, stat.S_IFDIR, stat.S_IFREG}

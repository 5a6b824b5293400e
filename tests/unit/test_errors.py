"""How a command ends: one line, an exit code, and nothing that a closed stream could add."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

import pytest

from sce_video import errors
from sce_video.errors import run_command
from sce_video.terminal import OutputClosed, say
from tests.conftest import REPOSITORY

NAME = r"a\ud800"


NO_ROOM = "the memory is used up; give less at a time (a batch, a queue, workers)"


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> NoReturn:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.SceVideoError("a"), 1, "sce-video: a"),
        (errors.UsageError("b\n\x1b[2J"), 2, "sce-video: b\\n\\x1b[2J"),
        (errors.VerificationError("c"), 3, "sce-video: c"),
        (errors.Interrupted("d"), 130, "sce-video: d"),
        (KeyboardInterrupt(), 130, "sce-video: interrupted"),
        (OSError(errno.ENOSPC, "full", "/x/\udcff"), 1, "sce-video: /x/\\xff: full"),
        (OSError(errno.ENOSPC, "full", b"/x\n"), 1, "sce-video: /x\\n: full"),
        (OSError(errno.EIO, "broken"), 1, "sce-video: broken"),
        (OSError("a library's\nown"), 1, "sce-video: a library's"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "sce-video: Broken pipe"),
        (OutputClosed(errno.EPIPE, "Broken pipe"), 1, ""),
        (
            UnicodeEncodeError("utf-8", "a\ud800" * 200, 1, 2, "surrogates not allowed"),
            1,
            f"sce-video: {NAME * 100}: cannot be written in utf-8; give another name, or set "
            "LC_ALL=C.UTF-8",
        ),
        (MemoryError(), 1, f"sce-video: {NO_ROOM}"),
        (
            RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory"),
            1,
            f"sce-video: {NO_ROOM}",
        ),
        (RuntimeError("CUDA out of memory. Tried"), 1, f"sce-video: {NO_ROOM}"),
    ],
)
def test_a_failure_is_one_line_and_its_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raising(error)) == code
    assert capsys.readouterr().err == (f"{line}\n" if line else "")
    assert run_command(raising(error), quiet=True) == code
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC  # said by every rank
    assert (capsys.readouterr().err == "") != full


def test_a_traceback_that_is_asked_for_stays_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(errors.UsageError("\x1b[2J\rno")), verbose=True) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback ")
    assert "\\x1b[2J\\rno" in shown
    assert shown.replace("\n", "").isprintable()


def test_a_name_of_megabytes_leaves_the_file_and_the_way_out() -> None:
    text = str(errors.UsageError(f"a.yaml: no '{'x' * 10**7}'; give another"))
    assert text.startswith("a.yaml: no 'xxx")
    assert text.endswith("xxx'; give another")
    assert len(text) < 3_100


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))


CODE = """
import os, subprocess, sys
from sce_video.errors import run_command
from sce_video.terminal import note, say

CHILD = "import os; [os.fstat(number) for number in range(3)]"

def command():
    assert os.open(os.devnull, os.O_RDONLY) > 2
    subprocess.run([sys.executable, "-S", "-c", CHILD], check=True)
    note("a\\nb\\ud800")
    for _ in range(9):
        say("x" * 9000, "\\ud800")
    print("\\ud800", "y" * 9000)
    return 0

sys.exit(run_command(command))
"""
FULL = "sce-video: standard output: No space left on device"


@pytest.mark.parametrize(
    ("streams", "code", "told"),
    [
        (">/dev/full", 1, ["a\\nb\\ud800", FULL]),
        ("2>/dev/full", 0, []),
        (">/dev/full 2>/dev/full", 1, []),
        (">&-", 0, ["a\\nb\\ud800"]),
        ("2>&-", 0, []),
        ("<&- >&- 2>&-", 0, []),
        ("2>&- | true", 1, []),
        ("2>&1 >/dev/null | true", 0, []),
        (">/dev/null", 0, ["a\\nb\\ud800"]),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_that_are_closed_or_full_add_nothing(
    unbuffered: str, streams: str, code: int, told: list[str]
) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", f'"$0" -c "$1" {streams}; exit $PIPESTATUS', sys.executable, CODE],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={
            **os.environ,
            "LC_ALL": "C",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": unbuffered,
        },
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines() == told
    assert "a\\nb" not in done.stdout


def test_a_stream_of_the_users_own_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have no more than print asks for."""

    class Copy:
        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> int:
            self.text += text
            return len(text)

        def flush(self) -> None:
            """There is nothing to do."""

    def command() -> int:
        say("a")
        return 0

    copy = Copy()
    monkeypatch.setattr(sys, "stdout", copy)
    assert run_command(command) == 0
    assert copy.text == "a\n"

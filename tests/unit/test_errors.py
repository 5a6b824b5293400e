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
from tests.conftest import REPOSITORY


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
        (MemoryError(), 1, "sce-video: the memory is used up; give less at a time"),
    ],
)
def test_a_failure_is_one_line_and_its_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raising(error)) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))


CODE = """
import os, sys
from sce_video.errors import run_command

def command():
    print("x" * 9000, "\\ud800")
    assert os.open(os.devnull, os.O_RDONLY) > 2
    return 0

sys.exit(run_command(command))
"""


@pytest.mark.parametrize(
    ("streams", "code"),
    [
        ("> /dev/full", 1),
        ("> /dev/full 2> /dev/full", 1),
        (">&-", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        ("| true", 0),
        ("> /dev/null", 0),
    ],
)
def test_streams_that_are_closed_or_full_add_nothing(streams: str, code: int) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -c "$1" {streams}', sys.executable, CODE],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "LC_ALL": "C", "PYTHONPATH": str(REPOSITORY)},
    )
    told = done.stderr.splitlines()
    assert done.returncode == code, told
    assert told == (["sce-video: No space left on device"] if streams == "> /dev/full" else [])

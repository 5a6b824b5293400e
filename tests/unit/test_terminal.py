"""What is printed: one line each, harmless, and lost where nobody can read it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sce_video.terminal import note, say
from tests.conftest import REPOSITORY


def test_what_is_printed_is_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb", 1, "\x1b[2J")
    note("c\rd", "\udcff")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("a\\nb\n1\n\\x1b[2J\n", "c\\rd\n\\xff\n")


def test_without_standard_error_a_note_is_no_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    note("a")
    assert capsys.readouterr().out == ""


CODE = """
import multiprocessing, os, sys
from sce_video.terminal import note, say, settle_streams, unread

settle_streams()
with unread():
    say("a" * 9000)
note("b" * 9000)
with unread():
    say("c")
for stream in (sys.stdout, sys.stderr):  # as a start of a process does
    stream.flush()
process = multiprocessing.get_context("spawn").Process(target=len, args=((),))
process.start()
process.join()
sys.exit(process.exitcode)
"""


@pytest.mark.parametrize("streams", [">/dev/full 2>/dev/full", "2>&1 | true", ">&- 2>&-"])
def test_work_whose_output_nobody_reads_goes_on(streams: str) -> None:
    command = f'"$0" -c "$1" {streams}; exit $PIPESTATUS'
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": ""}
    start = ["/bin/bash", "-c", command, sys.executable, CODE]
    done = subprocess.run(start, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

"""Verbs: how they are found, listed and asked for help."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sce_video import __version__
from sce_video.cli import VERBS, main
from tests.conftest import REPOSITORY

SPLIT = {"search": ("build", "query"), "shard": ("", "verify", "info")}
"""Verbs that have verbs."""


def test_the_help_lists_every_verb_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split(maxsplit=1) for line in lines if line.startswith("  ")]
    assert listed == [[verb, about] for verb, about in VERBS.items()]
    assert main([]) == 2
    assert capsys.readouterr().out.splitlines() == lines


def test_version_and_unknown_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--local_rank=1", "--version"]) == 0  # as deepspeed's launcher calls it
    assert capsys.readouterr().out == f"{__version__}\n"
    assert main(["retrive"]) == 2
    assert "unknown verb 'retrive'; did you mean 'retrieve'?" in capsys.readouterr().err
    assert main(["xyz"]) == 2
    assert f"unknown verb 'xyz'; there are {', '.join(list(VERBS)[:12])}" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_tracebacks(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for inner in SPLIT.get(verb, ("",)):
        words = [verb, inner] if inner else [verb]
        with pytest.raises(SystemExit) as caught:
            main([*words, "--help"])
        assert caught.value.code == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: sce-video {' '.join(words)} ")
        assert "-v, --verbose" in shown


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("--help >/dev/full", 1, "sce-video: standard output: No space left on device\n"),
        ("shard --help >/dev/full", 1, "sce-video: standard output: No space left on device\n"),
        ("--version >/dev/full 2>&-", 1, ""),
        ("configs --keys | true", 1, ""),
        ("--version >&-", 0, ""),
        ("shard -h 2>/dev/full >&-", 0, ""),
        ("nosuch 2>&-", 2, ""),
        ("shard demo --no-such-flag 2>/dev/full", 2, ""),
        ("shard verify /nonexistent 2>&- >/dev/full", 2, ""),
        ("$'shard\\n\\e[2J'", 2, "sce-video: unknown verb 'shard\\n\\x1b[2J'; did you mean"),
        ("shard demo --$'\\377'", 2, "sce-video shard: unrecognized arguments: --\\xff"),
    ],
)
def test_streams_and_words_of_any_kind(line: str, code: int, told: str) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", f'"$0" -m sce_video {line}; exit $PIPESTATUS', sys.executable],
        capture_output=True,
        cwd=REPOSITORY,
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    )
    shown = done.stderr.decode("ascii")
    assert done.returncode == code, shown
    assert shown.startswith(told)
    assert shown.count("\n") == bool(told)
    assert done.stdout == b""

"""Verbs: how they are found, listed and asked for help."""

from __future__ import annotations

import pytest

from sce_video import __version__
from sce_video.cli import VERBS, main

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

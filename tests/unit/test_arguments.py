"""Command lines: what is read, what is run with it, and how mistakes are told."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from sce_video.arguments import Parser, between, did_you_mean, nearest, whole
from sce_video.errors import UsageError


def parser() -> Parser:
    made = Parser(prog="it")
    made.add_argument("--number", type=whole(1))
    made.add_argument("--few", type=whole(1, 9))
    made.add_argument("--share", type=between(0, 1))
    made.add_argument("words", nargs="*")
    return made


def test_the_code_is_the_command_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert parser().run(["a"], lambda args: None) == 0
    assert parser().run(["a"], lambda args: 3) == 3

    def fail(args: Namespace) -> None:
        raise UsageError("not so")

    assert parser().run([], fail) == 2
    assert capsys.readouterr().err == "sce-video: not so\n"
    assert parser().run(["-v"], fail) == 2
    assert "Traceback" in capsys.readouterr().err
    assert parser().run([], fail, quiet=True) == 2
    assert capsys.readouterr().err == ""


def test_options_may_stand_between_words_where_a_verb_says_so() -> None:
    found: list[list[str]] = []
    line = ["a", "--number", "2", "b"]
    assert parser().run(line, lambda args: found.append(args.words), intermixed=True) == 0
    assert found == [["a", "b"]]


def test_a_folder_that_was_deleted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert parser().run([], lambda args: 0) == 2
    assert capsys.readouterr().err == (
        "sce-video: the current folder is not there any more; go to another\n"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(["--number", "0"], "'0' is no whole number of 1 or more", id="too-small"),
        pytest.param(["--number", "1.5"], "'1.5' is no whole number", id="not-whole"),
        pytest.param(["--number", "9" * 20], f"'{'9' * 20}' is no whole number", id="too-large"),
        pytest.param(["--number", "9" * 5000], f"'{'9' * 20}' is no whole number", id="long"),
        pytest.param(["--number", "٣"], "'٣' is no whole number", id="other-digits"),
        pytest.param(["--number", "²"], "'²' is no whole number", id="no-digit"),
        pytest.param(["--number", "--1"], "expected one argument", id="two-signs"),
        pytest.param(["--few", "10"], "'10' is no whole number from 1 to 9", id="too-many"),
        pytest.param(["--number", "1\x1b\n"], r"'1\x1b\n' is no whole", id="controls"),
        pytest.param(["--share", "inf"], "'inf' is no number from 0 to 1", id="infinite"),
        pytest.param(["--share", "0" * 500 + "2"], f"'{'0' * 20}' is no", id="long-share"),
        pytest.param(["--share", "nan"], "'nan' is no number from 0 to 1", id="no-number"),
        pytest.param(["--nummer", "1"], "did you mean '--number'? (--help", id="near-flag"),
        pytest.param(
            ["--foo", "1"], "--foo; there are --number, --few, --share, --verb", id="no-near-flag"
        ),
        pytest.param(["-x"], "-x; there are --number, --few, --share, --verbose", id="short-flag"),
    ],
)
def test_a_mistake_is_one_line(
    line: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().run(line, lambda args: None)
    assert caught.value.code == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("retrive", "retrieve"),
        ("RETRIEVE", "retrieve"),
        ("k400", "Kinetics400"),  # a short form
        ("kinetics", "Kinetics400"),
        ("r", None),
        ("xyzzy", None),
        ("", None),
    ],
)
def test_a_name_is_near_if_it_is_a_slip_or_a_short_form(name: str, near: str | None) -> None:
    assert nearest(name, ["retrieve", "Kinetics400", "report"]) == near


def test_where_nothing_is_near_the_first_names_are_listed() -> None:
    assert (
        did_you_mean("momentm", ["lr", "momentum"], "optim.") == "; did you mean 'optim.momentum'?"
    )
    assert (
        did_you_mean("xyzzy", ["lr", "momentum"], "optim.")
        == "; there are optim.lr, optim.momentum"
    )
    names = [f"name{n}" for n in range(12)]
    assert did_you_mean("xyzzy", names) == f"; there are {', '.join(names)}"
    assert did_you_mean("xyzzy", [*names, "more"]) == f"; there are {', '.join(names)}, …"
    assert did_you_mean("xyzzy", names, listed=False) == ""
    assert did_you_mean("xyzzy", []) == ""

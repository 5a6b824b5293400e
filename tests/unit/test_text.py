"""Text of others on terminals, in log lines and in sheets."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess

import pytest

from sce_video.text import cell, json_text, one_line, printable, shell_word


@pytest.mark.parametrize("text", ["", "plain", "Größe 片段 ✓", "a b", "👩‍👩‍👧", "50 % = a+b @ -1"])
def test_what_is_harmless_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("a\r\tb\0", "a\\r\\tb\\x00"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),  # what C1 calls the same as ESC [
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("mp4.\u202eexe\u2066", "mp4.\\u202eexe\\u2066"),
        ("\udcff.mp4", "\\xff.mp4"),
        ("\ud83d", "\\ud83d"),
    ],
)
def test_what_acts_upon_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).encode().decode().splitlines() == [shown]
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_is_no_formula(text: str) -> None:
    assert cell(text) == f"'{printable(text)}"


def test_other_cells_stay_and_a_row_is_one_line() -> None:
    assert [cell(text) for text in ("", "a=1", "'a", "a-b")] == ["", "a=1", "'a", "a-b"]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow([cell("a\nb"), cell('"\n')])
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("text", ["", "plain", "/a b/c", "it's", "-x", "Größe", "$(id) `id` \\"])
def test_a_plain_word_of_a_shell_is_quoted_as_ever(text: str) -> None:
    assert as_a_shell_reads(shell_word(text)) == text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a\n1", "$'a\\0121'"),
        ("\x1b[2J'\\", "$'\\033[2J\\047\\134'"),
        ("\udcff$(id)", "$'\\377$(id)'"),
        ("\u202eé", "$'\\342\\200\\256é'"),
    ],
)
def test_another_word_is_one_line_and_the_same_to_a_shell(text: str, word: str) -> None:
    assert shell_word(text) == printable(word) == word
    assert as_a_shell_reads(word) == text


def as_a_shell_reads(word: str) -> str:
    command = ["/bin/bash", "-c", f"printf %s {word}"]
    return os.fsdecode(subprocess.run(command, capture_output=True, check=True).stdout)


def test_json_to_be_shown_is_ascii_and_means_the_same() -> None:
    value = {"a\x7f\x9b\u202e": ["\udcff", "é", 1.5, None]}
    text = json_text(value)
    assert text == printable(text)
    assert text.isascii()
    assert json.loads(text) == value
    assert len(json_text(value, indent=1).splitlines()) == 8


def test_a_name_that_is_kept_loses_its_lines_and_not_its_direction() -> None:
    assert one_line("a\n\x1b\u2028\udcff") == "a\\n\\x1b\\u2028\\xff"
    assert one_line("\u200f\u05d9 \u3000") == "\u200f\u05d9 \u3000"

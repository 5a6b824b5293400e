"""Braces in names: what they stand for, counted before anything is built."""

from __future__ import annotations

import re

import pytest
from braceexpand import braceexpand
from hypothesis import given
from hypothesis import strategies as st

from sce_video.errors import UsageError
from sce_video.stream.foreign import braces
from sce_video.stream.foreign.braces import expand_braces

PIECES = ["{", "}", ",", "..", "a", "b", "-", "0", "12", "\\"]


@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join))
def test_never_fewer_than_there_are(pattern: str) -> None:
    """Of any pattern that is taken the count bounds what is built."""
    try:
        found = expand_braces(pattern)
    except UsageError:
        return
    assert len(found) <= braces._count(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *("x", "", "{00..12}", "{3..1}", "{1..9..2}", "{a..e}", "{Z..b}", "{a,b{1..3},}{x,y}"),
        *("{a}", r"\{1..3\}", "{}", "{,}", "t-{0..1}/{00..02}.tar", "{-3..3}", "{1..9..0}"),
        "{a,{b,{c,d}}}",
    ],
)
def test_what_is_taken_is_expanded(pattern: str) -> None:
    assert expand_braces(pattern) == list(braceexpand(pattern))


@pytest.mark.parametrize(
    ("pattern", "problem"),
    {
        "{1..1000000000}": "more than 250,000 tars",
        "{-999999999999999999..999999999999999999}": "more than 250,000 tars",
        "{0..%s}" % ("9" * 4000): "more than 250,000 tars",
        "{1..1000000000..0}": "more than 250,000 tars",
        "{a,b}" * 30: "more than 250,000 tars",
        "{a,b,{1..900000000}}": "more than 250,000 tars",
        "{0..999}{0..999}": "more than 250,000 tars",
        "{a,{1..600}{1..600}}": "more than 250,000 tars",
        "{a..z}" * 8: "more than 250,000 tars",
        "{" * 9 + "a,b" + "}" * 9: "more than 8 braces in braces",
        "{" * 2000 + "}" * 2000: "more than 8 braces in braces",
        "{" * 900: "a brace is not closed",
        "}{x{1..1000000000}y": "a brace is not closed",
        "{1..1000000000": "a brace is not closed",
        "{a,b}" * 1000: "more than 4,096 characters",
        "{1..200000}" + "x" * 2000: "names are longer than 134,217,728 characters",
    }.items(),
)
def test_too_many_are_one_line(pattern: str, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)) as caught:
        expand_braces(pattern)
    assert "\n" not in str(caught.value)

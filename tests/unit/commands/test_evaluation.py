"""What the evaluation verbs share."""

from __future__ import annotations

from sce_video.commands.evaluation import count_missing


def test_three_of_many_missing_samples_are_named() -> None:
    assert count_missing([]) == "0 unreadable"
    assert count_missing(["a/b: why: so", "c"], "missing") == "2 missing (a/b, c)"
    assert count_missing(list("abcde")) == "5 unreadable (a, b, c, ...)"

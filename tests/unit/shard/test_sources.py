"""All sources: names, options, and what is said to a wrong folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from sce_video.errors import UsageError
from sce_video.shard.sources import SOURCES, find_source
from tests.unit.shard.layouts import scan


def test_unknown_name_has_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean kinetics400"):
        find_source("kinetic400")
    with pytest.raises(UsageError, match=r"Known: kinetics400, .*folder"):
        find_source("zzz")


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_empty_root_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("hello")
    options = {"classes": tmp_path / "README.txt"} if name == "kinetics200" else {}
    with pytest.raises(UsageError, match=str(tmp_path)) as caught:
        scan(name, tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert "expected" in str(caught.value)


def test_options_that_do_not_apply(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ucf101 takes no --split"):
        scan("ucf101", tmp_path, splits=("train",))
    with pytest.raises(UsageError, match="imagenet takes no --classes"):
        scan("imagenet", tmp_path, classes=tmp_path)
    with pytest.raises(UsageError, match="imagenet takes no --unlabelled"):
        scan("imagenet", tmp_path, unlabelled=True)

"""Memory of a conversion does not grow with the number of videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sce_video.shard.convert import ConversionState, convert
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Options, find_source
from sce_video.video.encode import Encoding
from tests.memory import resident_mib


@pytest.mark.parametrize("videos", [400, pytest.param(2_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("encoding", [None, Encoding(quality="fast")], ids=["copy", "layered"])
def test_memory_is_flat(
    videos: int,
    encoding: Encoding | None,
    clips: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    (tmp_path / "raw" / "c").mkdir(parents=True)
    for number in range(videos):
        (tmp_path / "raw" / "c" / f"{number}.mp4").symlink_to(clips / f"clip{number % 4}.mp4")
    scan = find_source("folder").scan("folder", tmp_path / "raw", Options())
    memory: list[tuple[int, float]] = []

    def look(progress: ConversionState) -> None:
        if progress.samples % 10 == 0:
            memory.append((progress.samples, resident_mib()))

    plan = make_plan(scan, Settings("toy", samples_per_shard=60, encoding=encoding))
    convert(plan, tmp_path / "toy", workers=2, on_progress=look)
    early = max(mib for done, mib in memory if 0.2 * videos <= done <= 0.5 * videos)
    late = max(mib for done, mib in memory if done >= 0.7 * videos)
    record_property("mib_early", round(early, 1))
    record_property("mib_late", round(late, 1))
    # A container that is not closed keeps 0.4 MiB: over a hundred videos, some 40.
    assert late < early + 12

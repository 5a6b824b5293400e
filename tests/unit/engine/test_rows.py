"""Rows are means of the steps since the last one."""

from __future__ import annotations

from sce_video.engine.rows import RowMeans


def test_means_since_the_last_row() -> None:
    rows = RowMeans()
    rows.add({"loss": 1.0, "lr": 0.1, "bad_samples": 0.0, "probe": 0.5})
    rows.add({"loss": 4.0, "lr": 0.2, "bad_samples": 3.0})
    assert rows.take() == {"loss": 2.5, "lr": 0.2, "bad_samples": 3.0, "probe": 0.5}
    rows.add({"loss": 7.0})
    assert rows.take() == {"loss": 7.0}
    assert rows.take() == {}

"""Runs side by side."""

from __future__ import annotations

from sce_video.report.compare import compare
from tests.report_run import side


def test_best_of_several_runs_and_what_differs() -> None:
    runs = [side(0.5, size=112), side(None, "optim: {lr: 2}\nrun: {dir: x}"), side(0.25, size=112)]
    found = compare(["a", "b", "c"], runs)
    row = next(row for row in found["rows"] if row["name"] == "R@1")
    assert [cell["text"] for cell in row["cells"]] == ["50.0 %", "-", "25.0 %"]
    assert [cell["best"] for cell in row["cells"]] == [True, False, False]
    [difference] = found["differences"]
    assert difference["name"] == "optim.lr"
    assert [cell["text"] for cell in difference["cells"]] == ["1", "2", "1"]


def test_weights_of_others_have_no_configuration_to_differ_in() -> None:
    runs = [side(0.5), side(0.25, None), side(0.75, "optim: {lr: 2}")]
    found = compare(["a", "foreign", "b"], runs)
    assert found["configured"] == ["a", "b"]
    [difference] = found["differences"]
    assert [cell["text"] for cell in difference["cells"]] == ["1", "2"]
    states = [cell["text"].partition(" ·")[0] for cell in found["rows"][0]["cells"]]
    assert states[:2] == ["how it ended is unknown", "weights of others, not trained here"]
    assert compare(["a", "foreign"], runs[:2])["differences"] == []


def test_figures_of_other_protocols_have_no_best() -> None:
    found = compare(["a", "b"], [side(0.5, size=112), side(0.25, size=128)])
    row = next(row for row in found["rows"] if row["name"] == "R@1")
    assert not any(cell["best"] for cell in row["cells"])
    assert "size: 112 / 128" in found["notes"][0]

"""What objectives cost: time beside bare products and lightly, and memory at their peak."""

from __future__ import annotations

import json
import sys
from multiprocessing import get_context

import pytest
import torch

from tests.benchmarks.objective import (
    OBJECTIVES,
    OURS,
    PEER,
    extra_memory,
    find_works,
    main,
)

pytestmark = pytest.mark.slow


def test_time_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--queue", "32768", "--rounds", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {"bare products, 3", "bare products, 2", *OBJECTIVES, OURS, PEER}
    assert not result["missing"]
    for name, (_, products) in OBJECTIVES.items():
        bare = rows[f"bare products, {products}"]["cpu_ms"]
        assert rows[name]["x_bare"] == pytest.approx(rows[name]["cpu_ms"] / bare)
        assert 1 < rows[name]["extra"] <= 4
    assert rows["bare products, 2"]["extra"] == pytest.approx(1, abs=0.4)
    targets = {target["name"]: target for target in result["targets"]}
    assert targets["sce: time, times its bare products"]["value"] == rows["sce"]["x_bare"]
    speed = targets[f"{OURS}: times as fast as {PEER}"]
    assert speed["value"] == pytest.approx(rows[PEER]["cpu_ms"] / rows[OURS]["cpu_ms"])
    assert speed["least"] == 1
    for name in OBJECTIVES:
        memory = targets[f"{name}: extra memory, times the similarities"]
        assert memory["value"] == rows[name]["extra"]
        assert (memory["most"], memory["met"]) == (4, True)


def test_no_second_copy_of_the_queue() -> None:
    """Eight queries need little beside a queue of 64 MiB; lightly copies its bank."""
    queue = 256 * 65536 * 4
    with get_context("spawn").Pool(1) as pool:
        extra = pool.apply(extra_memory, (8, 256, 65536))
    assert extra.pop(PEER) > queue
    assert set(extra) > set(OBJECTIVES)
    assert all(used < queue / 2 for used in extra.values()), extra


def test_lightly_does_the_same_work() -> None:
    works, _ = find_works(8, 16, 200)
    torch.testing.assert_close(works[OURS](), works[PEER]())


def test_without_lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightly.loss", None)  # importing it fails
    works, missing = find_works(2, 8, 128)
    assert PEER not in works
    assert "lightly" in missing[PEER]


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--queue", "64"])
    assert caught.value.code == 2
    assert "no whole number of 128 or more" in capsys.readouterr().err

"""Which process this is, by the variables of each launcher."""

from __future__ import annotations

import os

import pytest

from sce_video.engine.ranks import Place, place, stand_alone

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, Place(0, 1, 0, 1), id="no launcher"),
        pytest.param(
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            Place(5, 8, 1, 4),
            id="torchrun",
        ),
        pytest.param(
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_SIZE": "4"},
            Place(5, 8, 1, 4),
            id="deepspeed",
        ),
    ],
)
def test_the_place_among_the_processes(
    given: dict[str, str], expected: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert place() == expected
    monkeypatch.setattr(os, "environ", dict(os.environ))
    stand_alone()
    assert place() == expected
    assert os.environ["RANK"] == str(expected.rank)

"""A layered video for the tests of its packets."""

from __future__ import annotations

import pytest

from sce_video.video.packets import PacketIndex
from tests.odd_videos import encode
from tests.unit.video.layered import layered


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, PacketIndex]:
    """A layered video of 100 frames."""
    path = encode(tmp_path_factory.mktemp("g") / "v.mp4", ticks=range(0, 4000, 40))
    data, facts = layered(path.read_bytes())
    assert facts.packets is not None
    return data, facts.packets

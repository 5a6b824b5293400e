"""What the index of a file says of its packets: where they lie."""

from __future__ import annotations

from pathlib import Path

from sce_video.video.examine import examine_video
from tests.odd_videos import KINDS


def test_offsets_are_those_of_the_file(tmp_path: Path) -> None:
    """In Matroska a packet's position is that of its block, not of its data."""
    path = KINDS["late start mkv"](tmp_path)
    packets = examine_video(path.read_bytes()).packets
    assert packets is not None
    first = path.read_bytes()[int(packets.offset[0]) :][: int(packets.size[0])]
    assert int.from_bytes(first[:4], "big") < len(first)  # a NAL unit behind its length

"""Which reasons mean that something of a data set is lost."""

from __future__ import annotations

from sce_video.shardset import reasons
from sce_video.shardset.manifest import listed


def test_what_is_lost_and_what_only_lies_beside() -> None:
    lost = [reasons.MISSING, reasons.TWICE, reasons.NOWHERE, *reasons.NOT_READ.values(), "cut off"]
    beside = [reasons.ELSEWHERE, *reasons.NOT_MEDIA.values(), *reasons.BESIDE.values()]
    beside += [reasons.REPLACED, reasons.SHARD_SET, reasons.AGAIN, reasons.ABOVE, "unlisted"]
    assert listed(dict.fromkeys([*lost, *beside], 1)) == dict.fromkeys(lost, 1)

"""What is known of the published data sets before one of their files is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """One data set, by the name that its shard set has."""

    classes: int
    samples: Mapping[str, int] = field(default_factory=dict)
    """Training samples by split, as a configuration names it."""


PUBLISHED: Mapping[str, Published] = {
    # What is left of it, as MMAction2 and VideoMAE V2 count it.
    "kinetics400": Published(400, {"train": 240_436}),
    "kinetics600": Published(600),
    "kinetics700": Published(700),
    # 400 of each class, as Mini-Kinetics was made (Xie et al. 2018).
    "kinetics200": Published(200, {"train": 80_000}),
    "imagenet": Published(1000, {"train": 1_281_167}),  # ILSVRC 2012
    "cifar10": Published(10, {"train": 50_000}),  # Krizhevsky 2009
    # Soomro et al. 2012.
    "ucf101": Published(101, {"split1:train": 9_537, "split2:train": 9_586, "split3:train": 9_624}),
    # Kuehne et al. 2011.
    "hmdb51": Published(51, {f"split{n}:train": 3_570 for n in (1, 2, 3)}),
}
"""Name -> what a plan counts with where there are no shards."""

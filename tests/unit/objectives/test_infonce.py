"""MoCo and MoCo v3 against the reference implementations."""

from __future__ import annotations

import pytest
from torch import Tensor

from sce_video.objectives import (
    info_nce_loss,
    mocov3_loss,
)
from tests.unit.objectives.golden import (
    check_paired,
    given,
    same,
)


@pytest.mark.parametrize("name", ["moco_loss", "mocov3_loss"])
def test_golden(name: str) -> None:
    check_paired(name)


def test_mocov3_is_info_nce_of_the_batch(batch: dict[str, Tensor]) -> None:
    q, k, more = batch["q"], batch["k"], given(batch, ("keys",))
    expected, _ = info_nce_loss(q, k, **more, temp=0.3)
    same(mocov3_loss(q, k, **more, temp=0.3)[0], 0.6 * expected, q)

"""Every objective gives the reference implementations' numbers on the device, too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from sce_video import objectives
from tests.conftest import GOLDEN
from tests.unit.objectives import test_instance, test_ring, test_sce, test_simclr, test_snclr
from tests.unit.objectives.golden import PAIRED, cases, check_paired

pytestmark = pytest.mark.gpu


def every_case(name: str, check: Callable[..., None], *, shared: bool = False) -> None:
    """``check`` of each case of a file."""
    for parameter in cases(name, shared=shared):
        check(*parameter.values)


def check_both_forms() -> None:
    """SCE whose target holds the positive, and SCE as the paper has it."""
    test_sce.test_sce_against_the_queue("zero_logit", "expected")
    test_sce.test_sce_against_the_queue("masked", "expected_positive_masked")


CHECKS: dict[str, Callable[[], None]] = {
    **{name: partial(check_paired, name) for name in PAIRED},
    "sce_loss_queue_only": check_both_forms,
    "sce_symmetric_step": partial(every_case, "sce_symmetric_step", test_sce.test_symmetric_steps),
    "simclr_loss": partial(every_case, "simclr_loss", test_simclr.test_golden),
    "snclr_loss": partial(every_case, "snclr_loss", test_snclr.test_golden),
    "ring_moco": partial(every_case, "ring_moco", test_ring.test_ring_of_a_queue, shared=True),
    "ring_ir": partial(every_case, "ring_ir", test_instance.test_ring_of_a_bank, shared=True),
}
"""Golden file -> the check of tests/unit/objectives that reads it, in fp32 and fp64."""


LOSSES = {name for name in vars(objectives) if name.endswith("_loss")}
READERS = (test_instance, test_ring, test_sce, test_simclr, test_snclr)


def test_every_file_of_an_objective_is_read() -> None:
    kinds = ("*_loss*", "sce_*", "ring_*")
    found = {path.stem for kind in kinds for path in GOLDEN.glob(f"{kind}.json")}
    assert found - {"ring_annealing"} == set(CHECKS)  # annealing computes with no tensor


@pytest.mark.parametrize("name", CHECKS)
def test_golden(name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    for loss, call in PAIRED.items():
        monkeypatch.setitem(PAIRED, loss, as_in_training(call, device))
    for reader in READERS:
        for made in {"Queue", "Bank", "nearest", *LOSSES} & set(vars(reader)):
            monkeypatch.setattr(reader, made, as_in_training(getattr(reader, made), device))
    with device:  # where the readers put their tensors
        CHECKS[name]()


def as_in_training(call: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """``call`` without a default device; modules are made on the CPU and moved."""

    def called(*arguments: Any, **more: Any) -> Any:
        with torch.device("cpu"):
            made = call(*arguments, **more)
        return made.to(device) if isinstance(made, nn.Module) else made

    return called

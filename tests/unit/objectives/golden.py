"""Numbers of the reference implementations: cases, tensors, comparisons."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sce_video.objectives import info_nce_loss, mocov3_loss, ressl_loss, sce_loss
from tests.conftest import GOLDEN

Case = dict[str, Any]

DTYPES = ("float64", "float32")


def document(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return loaded


def cases(name: str, *, shared: bool = False) -> list[Any]:
    """A parameter ``case, dtype, tolerance`` a case and dtype; ``shared``: case 0 holds inputs."""
    whole = document(name)
    return [
        pytest.param(case, dtype, whole["tolerance"][dtype], id=f"{case['name']}-{dtype}")
        for case in whole["cases"][int(shared) :]
        for dtype in DTYPES
    ]


def tensor(values: Any, dtype: str) -> Tensor:
    return torch.tensor(values, dtype=getattr(torch, dtype))


def optional(values: Any, dtype: str) -> Tensor | None:
    return None if values is None else tensor(values, dtype)


def leaf(values: Any, dtype: str) -> Tensor:
    return tensor(values, dtype).requires_grad_()


def unit(x: Tensor, dim: int = 1) -> Tensor:
    return F.normalize(x, dim=dim)


def random_unit(*shape: int, seed: int, dim: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(*shape, generator=generator, dtype=torch.float64), dim)


def gradient(loss: Tensor, x: Tensor) -> Tensor:
    """Of a scalar."""
    (found,) = torch.autograd.grad(loss, x, retain_graph=True)
    return found


def check(loss: Tensor, expected: float, tolerance: dict[str, float]) -> None:
    assert loss.item() == pytest.approx(expected, rel=tolerance["rtol"], abs=tolerance["atol"])


def check_gradient(loss: Tensor, x: Tensor, expected: Any, tolerance: dict[str, float]) -> None:
    wanted = torch.tensor(expected, dtype=x.dtype)
    close(gradient(loss, x), wanted, tolerance)


def close(found: Tensor, expected: Tensor, tolerance: dict[str, float]) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance["rtol"], atol=tolerance["atol"])


def same(a: Tensor, b: Tensor, q: Tensor) -> None:
    """Equal values and gradients."""
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient(a, q), gradient(b, q), rtol=1e-11, atol=1e-14)


CANDIDATES = pytest.mark.parametrize(
    "names", [("queue",), ("queue", "keys"), ("keys",)], ids="+".join
)


def given(batch: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Any]:
    rank = 1 if "keys" in names else 0
    return {"rank": rank, **{name: batch[name] for name in names}}


PAIRED: dict[str, Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]] = {
    "sce_loss_keys": sce_loss,
    "sce_loss_queue_only": sce_loss,
    "moco_loss": info_nce_loss,
    "ressl_loss": ressl_loss,
    "mocov3_loss": mocov3_loss,
}


def paired(name: str, case: Case, dtype: str, **more: Any) -> tuple[Any, Tensor, Any]:
    """Loss, query and parts of an objective of queries against keys."""
    inputs, params = case["inputs"], case["params"]
    q = leaf(inputs["q"], dtype)
    keys = tensor(inputs["k_global"], dtype) if params["use_keys"] else None
    settings = {key: params[key] for key in ("coeff", "temp", "temp_m") if key in params}
    loss, parts = PAIRED[name](
        q,
        tensor(inputs["k"], dtype),
        optional(inputs["queue_DxK"], dtype),
        keys,
        params["rank"],
        **settings,
        **more,
    )
    return loss, q, parts


def check_paired(name: str) -> None:
    """Values and gradients of queries against keys, in every case of a file."""
    for parameter in cases(name):
        case, dtype, tolerance = parameter.values
        loss, q, _ = paired(name, case, dtype)
        check(loss, case["expected"][dtype]["loss"], tolerance)
        check_gradient(loss, q, case["expected"][dtype]["grad_q"], tolerance)

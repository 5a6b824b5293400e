"""Numbers of the reference implementations: cases, tensors, comparisons."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.conftest import GOLDEN

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

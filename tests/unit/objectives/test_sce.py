"""The SCE loss against the reference implementation's numbers, and against slow formulas."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from sce_video.objectives.sce import SCE, PositiveInTarget, sce_loss
from tests.conftest import GOLDEN


def golden_cases(name: str) -> list[Any]:
    document = json.loads((GOLDEN / f"{name}.json").read_text())
    return [
        pytest.param(case, document["tolerance"][dtype], dtype, id=f"{case['name']}-{dtype}")
        for case in document["cases"]
        for dtype in ("float64", "float32")
    ]


def run(case: dict[str, Any], dtype: str, form: PositiveInTarget) -> dict[str, Any]:
    params = case["params"]
    to = {"dtype": getattr(torch, dtype)}
    inputs = {name: torch.tensor(value, **to) for name, value in case["inputs"].items() if value}
    q = inputs["q"].requires_grad_()
    loss, parts = sce_loss(
        q,
        inputs["k"],
        inputs.get("queue_DxK"),
        inputs["k_global"] if params["use_keys"] else None,
        params["rank"],
        coeff=params["coeff"],
        temp=params["temp"],
        temp_m=params["temp_m"],
        positive_in_target=form,
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    return {"loss": loss.item(), "grad_q": q.grad, **{k: v.item() for k, v in parts.items()}}


def check(result: dict[str, Any], expected: dict[str, Any], tolerance: dict[str, float]) -> None:
    assert result["loss"] == pytest.approx(
        expected["loss"], rel=tolerance["rtol"], abs=tolerance["atol"]
    )
    gradient = torch.tensor(expected["grad_q"], dtype=result["grad_q"].dtype)
    torch.testing.assert_close(
        result["grad_q"], gradient, rtol=tolerance["rtol"], atol=tolerance["atol"]
    )


@pytest.mark.parametrize(("case", "tolerance", "dtype"), golden_cases("sce_loss_keys"))
def test_keys_golden(case: dict[str, Any], tolerance: dict[str, float], dtype: str) -> None:
    result = run(case, dtype, "masked")
    check(result, case["expected"][dtype], tolerance)
    if dtype == "float64":
        for part in ("infonce", "relational", "ceiling"):
            assert result[part] == pytest.approx(case["derived_float64"][part], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("case", "tolerance", "dtype"), golden_cases("sce_loss_queue_only"))
def test_queue_only_golden(case: dict[str, Any], tolerance: dict[str, float], dtype: str) -> None:
    check(run(case, dtype, "zero_logit"), case["expected"][dtype], tolerance)
    result = run(case, dtype, "masked")
    check(result, case["expected_positive_masked"][dtype], tolerance)
    if dtype == "float64":
        derived = case["derived_float64_positive_masked"]
        for part in ("infonce", "relational", "ceiling"):
            assert result[part] == pytest.approx(derived[part], rel=1e-9, abs=1e-12)


def unit(*shape: int, seed: int, dim: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=dim)


def test_coefficient_one_is_info_nce() -> None:
    q, k, queue = unit(6, 8, seed=0), unit(6, 8, seed=1), unit(8, 20, seed=2, dim=0)
    loss, parts = sce_loss(q, k, queue, coeff=1.0, temp=0.2, temp_m=0.05)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue], 1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts["infonce"], expected)


def test_three_terms_add_up_and_only_q_gets_a_gradient() -> None:
    q, k, queue = unit(6, 8, seed=0), unit(6, 8, seed=1), unit(8, 20, seed=2, dim=0)
    for tensor in (q, k, queue):
        tensor.requires_grad_()
    loss, parts = sce_loss(q, k, queue, coeff=0.3)
    total = 0.3 * parts["infonce"] + 0.7 * (parts["relational"] + parts["ceiling"])
    torch.testing.assert_close(loss.detach(), total)
    loss.backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    assert k.grad is None
    assert queue.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_inputs_under_autocast_are_computed_in_fp32(dtype: torch.dtype) -> None:
    q, k, queue = unit(6, 8, seed=0), unit(6, 8, seed=1), unit(8, 20, seed=2, dim=0)
    half = [x.to(dtype) for x in (q, k, queue)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = sce_loss(half[0], half[1], half[2])
    expected, _ = sce_loss(half[0].float(), half[1].float(), half[2].float())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_bad_settings_are_refused() -> None:
    q = unit(1, 8, seed=0)
    with pytest.raises(ValueError, match="no candidate"):
        sce_loss(q, q, keys=q)
    with pytest.raises(ValueError, match="width 8"):
        sce_loss(q, q, unit(4, 8, seed=1))
    with pytest.raises(ValueError, match="must be below"):
        SCE(temp=0.1, temp_m=0.1)

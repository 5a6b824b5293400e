"""Heads: layers, shapes, counts and forward passes of the published ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from sce_video.config.sections import HeadConfig, PredictorConfig
from sce_video.model.heads import mlp_head
from tests.conftest import GOLDEN

GOLD = json.loads((GOLDEN / "modules.json").read_text())
CASES = {case["name"]: case for case in GOLD["cases"]}
DTYPES = [torch.float64, torch.float32]


def build(params: dict[str, Any]) -> nn.Sequential:
    """Ours, from the parameters of the reference."""
    assert params["norm_layer"] == "bn_1D"
    assert (params["affine"], params["bias"], params["last_affine"]) == (True, False, False)
    return mlp_head(
        params["input_dim"],
        params["output_dim"],
        layers=params["num_layers"],
        hidden=params["hidden_dims"][0],
        norm=True,
        last_norm=params["last_norm"],
        last_bias=params["last_bias"],
    )


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("head/")])
def test_layers_shapes_and_counts_golden(name: str) -> None:
    expected = CASES[name]["expected"]
    head = build(CASES[name]["params"])
    assert [type(layer).__name__ for layer in head] == expected["layers"]
    parameters = {f"layers.{key}": list(value.shape) for key, value in head.named_parameters()}
    buffers = {f"layers.{key}": list(value.shape) for key, value in head.named_buffers()}
    assert parameters == expected["parameters"]
    assert buffers == expected["buffers"]
    assert sum(p.numel() for p in head.parameters()) == expected["num_parameters"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("head_forward/")])
def test_forward_golden(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    tolerance = GOLD["tolerance"][str(dtype).removeprefix("torch.")]
    head = build(case["params"]).to(dtype)
    for key, value in case["inputs"]["parameters"].items():
        parameter = head.get_parameter(key.removeprefix("layers."))
        parameter.data.copy_(torch.tensor(value, dtype=dtype))
    x = torch.tensor(case["inputs"]["x"], dtype=dtype)
    train = head(x)
    found = {f"layers.{key}": value for key, value in head.named_buffers()}
    expected = {
        "train_out": train,
        "eval_out_after": head.eval()(x),
        **{key: found[key] for key in case["expected"]["buffers_after_train_forward"]},
    }
    wanted = {**case["expected"], **case["expected"]["buffers_after_train_forward"]}
    for key, value in expected.items():
        gold = torch.tensor(wanted[key], dtype=value.dtype)
        torch.testing.assert_close(value.detach(), gold, **tolerance)
    assert set(found) == set(case["expected"]["buffers_after_train_forward"])


LINEAR, BN, RELU = "Linear", "BatchNorm1d", "ReLU"


@pytest.mark.parametrize(
    ("count", "norm", "last_norm", "last_bias", "layers", "biases"),
    [
        (2, False, False, True, [LINEAR, RELU, LINEAR], 2),
        (1, True, False, True, [LINEAR], 1),
        (2, True, True, False, [LINEAR, BN, RELU, LINEAR, BN], 0),
    ],
    ids=["MoCo v2", "MoCo v1, CMC, Ring", "predictor of SNCLR, MoCo v3"],
)
def test_heads_of_the_other_methods(
    count: int, norm: bool, last_norm: bool, last_bias: bool, layers: list[str], biases: int
) -> None:
    head = mlp_head(
        6, 4, layers=count, hidden=5, norm=norm, last_norm=last_norm, last_bias=last_bias
    )
    assert [type(layer).__name__ for layer in head] == layers
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [layer.bias is not None for layer in linear].count(True) == biases
    if layers[-1] == BN:
        assert head[-1].weight is None
    assert head(torch.randn(3, 6)).shape == (3, 4)


def test_the_configs_defaults_are_the_published_heads() -> None:
    projector = CASES["head/projector_r3d18"]["expected"]
    predictor = CASES["head/predictor_r3d18"]["expected"]
    heads = [
        mlp_head(512, **HeadConfig().model_dump()),
        mlp_head(256, 256, **PredictorConfig().model_dump()),
    ]
    for head, expected in zip(heads, [projector, predictor], strict=True):
        assert [type(layer).__name__ for layer in head] == expected["layers"]
        assert sum(p.numel() for p in head.parameters()) == expected["num_parameters"]

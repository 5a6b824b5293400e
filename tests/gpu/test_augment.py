"""Views made on the device are those of the CPU, in single precision, TF32 off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sce_video.augment import ops
from sce_video.augment.apply import Augmenter
from sce_video.augment.fused import FusedView
from sce_video.augment.kernels import EAGER, Kernels
from sce_video.config.recipes import RECIPES, Recipe
from tests.unit.augment.test_apply import some_clips
from tests.unit.augment.test_ops import clips

pytestmark = pytest.mark.gpu

TOLERANCE = 1e-5  # of levels in [0,1]; of views in units of their standard deviation
MEAN, STD = torch.tensor([0.45, 0.4, 0.5]), torch.tensor([0.225, 0.3, 0.2])

OPS: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
    "brightness": (ops.brightness, [torch.tensor([0.0, 0.7, 1.8])]),
    "contrast": (ops.contrast, [torch.tensor([0.0, 0.7, 1.8])]),
    "saturation": (ops.saturation, [torch.tensor([0.0, 0.7, 1.8])]),
    "hue": (ops.hue, [torch.tensor([-0.5, 0.1, 0.37])]),
    "grayscale": (ops.grayscale, []),
    "blur": (partial(ops.blur, kernel=23), [torch.tensor([0.1, 1.0, 2.0])]),
    "solarize": (ops.solarize, []),
    "normalise": (ops.normalise, [MEAN, STD]),
}


@pytest.mark.parametrize("name", OPS)
def test_an_op_is_the_cpu_s(name: str, device: torch.device) -> None:
    op, parameters = OPS[name]
    x = clips(3, 2, 40, 33)
    made = op(x.to(device), *(p.to(device) for p in parameters))
    assert made.device == device
    torch.testing.assert_close(made.cpu(), op(x, *parameters), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_cpu_s(name: str, device: torch.device) -> None:
    compare(RECIPES[name], device, EAGER)


def test_a_whole_view_compiled_is_the_cpu_s(device: torch.device) -> None:
    """What long runs take; fewer taps than the recipe's are sooner compiled."""
    recipe = RECIPES["kinetics_strength_1.0"]
    views = tuple(replace(view, kernel=5) for view in recipe.views)
    compare(replace(recipe, views=views), device, Kernels(view=FusedView()))


def compare(recipe: Recipe, device: torch.device, kernels: Kernels) -> None:
    rows = np.arange(24)
    views = [some_clips(24, side) for _, side in recipe.crops(48)]
    here: Any = Augmenter(recipe, 7, torch.device("cpu"))(views, rows * 0, rows)
    augmenter = Augmenter(recipe, 7, device, kernels)
    there = augmenter(views, rows * 0, rows)
    assert augmenter.kernels is kernels
    for made, expected in zip(there, here, strict=True):
        assert made.device == device
        assert made.is_contiguous(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(made.cpu(), expected, rtol=0, atol=TOLERANCE)

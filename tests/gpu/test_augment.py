"""Views made on the device are those of the CPU, in single precision, TF32 off."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sce_video.augment import ops
from sce_video.augment.apply import Augmenter
from sce_video.config.recipes import RECIPES
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
    recipe, rows = RECIPES[name], np.arange(24)
    views = [some_clips(24, side) for _, side in recipe.crops(48)]
    here: Any = Augmenter(recipe, 7, torch.device("cpu"))(views, rows * 0, rows)
    there = Augmenter(recipe, 7, device)(views, rows * 0, rows)
    for made, expected in zip(there, here, strict=True):
        assert made.device == device
        assert made.is_contiguous(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(made.cpu(), expected, rtol=0, atol=TOLERANCE)

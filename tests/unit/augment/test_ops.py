"""Every op against torchvision on each clip alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from sce_video.augment import ops


def clips(b: int = 3, t: int = 2, size: int = 12) -> torch.Tensor:
    x = torch.rand(b, t, 3, size, size, generator=torch.Generator().manual_seed(0))
    x[0, 0, :, 0, 0] = 0.5  # grey: hue undefined
    x[0, 0, :, 0, 1] = torch.tensor([1.0, 0.0, 0.0])
    return x


CASES: list[tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor], list[float]]] = [
    (ops.brightness, tv.adjust_brightness, [0.2, 1.0, 1.8]),
    (ops.contrast, tv.adjust_contrast, [0.2, 1.0, 1.8]),
    (ops.saturation, tv.adjust_saturation, [0.6, 1.0, 1.4]),
    (ops.hue, tv.adjust_hue, [-0.2, 0.0, 0.37]),
]


@pytest.mark.parametrize(("ours", "theirs", "factors"), CASES)
def test_colour_ops_equal_torchvision(
    ours: Callable[..., torch.Tensor], theirs: Callable[..., torch.Tensor], factors: list[float]
) -> None:
    x = clips()
    result = ours(x.clone(), torch.tensor(factors))
    expected = torch.stack([theirs(clip, f) for clip, f in zip(x, factors, strict=True)])
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)


def test_gray_blur_and_solarize_equal_torchvision() -> None:
    x = clips()
    sigmas = [0.3, 1.0, 2.0]
    torch.testing.assert_close(ops.grayscale(x), tv.rgb_to_grayscale(x, 3), rtol=0, atol=2e-6)
    torch.testing.assert_close(ops.solarize(x, 0.5), tv.solarize(x, 0.5), rtol=0, atol=0)
    expected = torch.stack(
        [tv.gaussian_blur(c, [5, 5], [s]) for c, s in zip(x, sigmas, strict=True)]
    )
    result = ops.blur(x, torch.tensor(sigmas), 5)
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)

"""Every op against torchvision on each clip alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from sce_video.augment import ops


def clips(b: int = 3, t: int = 2, height: int = 12, width: int = 14, seed: int = 0) -> torch.Tensor:
    """Random pixels, among them grey, saturated and tied ones, and values on solarize's edge."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(b, t, 3, height, width, generator=generator)
    x[0, 0, :, 0, 0] = 0.5
    x[0, 0, :, 0, 1] = torch.tensor([1.0, 0.0, 0.0])
    x[0, 0, :, 0, 2] = torch.tensor([0.7, 0.7, 0.1])
    x[0, 0, :, 0, 3] = torch.tensor([0.1, 0.7, 0.7])
    x[0, 0, :, 0, 4] = torch.tensor([0.7, 0.1, 0.7])
    x[0, :, :, 1:3] = (x[0, :, :, 1:3] * 8).round() / 8  # ties of all kinds
    return x


COLOUR: list[tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor], float, float]] = [
    (ops.brightness, tv.adjust_brightness, 0.0, 1.8),
    (ops.contrast, tv.adjust_contrast, 0.0, 1.8),
    (ops.saturation, tv.adjust_saturation, 0.0, 1.8),
    (ops.hue, tv.adjust_hue, -0.5, 0.5),
]


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"), COLOUR, ids=[ours.__name__ for ours, *_ in COLOUR]
)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_colour_ops_equal_torchvision(
    ours: Callable[..., torch.Tensor],
    theirs: Callable[..., torch.Tensor],
    low: float,
    high: float,
    data: st.DataObject,
) -> None:
    factors = data.draw(st.lists(st.floats(low, high), min_size=3, max_size=3))
    x = clips(seed=data.draw(st.integers(0, 100)))
    before = x.clone()
    result = ours(x, torch.tensor(factors))
    expected = torch.stack([theirs(clip, f) for clip, f in zip(x, factors, strict=True)])
    torch.testing.assert_close(result, expected, rtol=0, atol=5e-6)
    assert torch.equal(x, before)
    assert result.is_contiguous()


def test_gray_and_solarize_equal_torchvision() -> None:
    x = clips()
    torch.testing.assert_close(ops.grayscale(x), tv.rgb_to_grayscale(x, 3), rtol=0, atol=2e-6)
    torch.testing.assert_close(ops.solarize(x), tv.solarize(x, 0.5), rtol=0, atol=0)
    assert ops.grayscale(x).is_contiguous()


@pytest.mark.parametrize(
    ("height", "width", "kernel"),
    [(12, 12, 23), (33, 40, 23), (65, 31, 23), (112, 112, 23), (12, 64, 5)],
)
def test_blur_equals_torchvision(height: int, width: int, kernel: int) -> None:
    x = clips(3, 2, height, width)
    sigmas = [0.1, 1.0, 2.0]
    expected = torch.stack(
        [tv.gaussian_blur(c, [kernel] * 2, [s] * 2) for c, s in zip(x, sigmas, strict=True)]
    )
    result = ops.blur(x, torch.tensor(sigmas), kernel)
    torch.testing.assert_close(result, expected, rtol=0, atol=5e-6)


def test_blur_refuses_clips_too_small_to_reflect() -> None:
    with pytest.raises(ValueError, match="11x12 pixels are too few for a blur of 23 taps"):
        ops.blur(clips(1, 1, 11, 12), torch.ones(1), 23)


def test_normalise_equals_torchvision_in_the_layout_of_3d_convolutions() -> None:
    x = clips()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    result = ops.normalise(x, torch.tensor(mean), torch.tensor(std))
    expected = tv.normalize(x, list(mean), list(std)).transpose(1, 2)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    assert result.is_contiguous(memory_format=torch.channels_last_3d)

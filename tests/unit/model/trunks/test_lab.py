"""CIELab against known values and a slow formula; CMC's two trunks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sce_video.model.encoder import EncoderSpec, load_encoder, save_encoder
from sce_video.model.trunks import build_trunk
from sce_video.model.trunks.lab import LabTrunk, rgb_to_lab

MEAN, STD = (0.45, 0.4, 0.35), (0.225, 0.25, 0.2)
COLOURS = ["white", "black", "red", "green", "blue", "yellow", "cyan", "magenta", "grey", "dark"]
LOW, HIGH = np.array([0, -86.183, -107.857]), np.array([100, 98.233, 94.478])


def slow_lab(pixel: np.ndarray) -> list[float]:
    """The definition, a pixel at a time in float64, with sRGB's primaries as chromaticities."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in pixel]
    xy = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]])
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in xy]).T
    white = np.array([0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290])
    xyz = columns @ (np.linalg.solve(columns, white) * linear)
    f = [
        t ** (1 / 3) if t > (6 / 29) ** 3 else (t * (29 / 6) ** 2 / 3 + 4 / 29) for t in xyz / white
    ]
    return [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((1, 1, 0), (97.14, -21.55, 94.48)),
        ((0, 1, 1), (91.11, -48.09, -14.13)),
        ((1, 0, 1), (60.32, 98.23, -60.82)),
        # mid grey: L = 50 is a relative luminance of ((50 + 16) / 116) ** 3 = 0.184187
        ((0.4663266,) * 3, (50, 0, 0)),
        # below the cube root's edge: L = (29 / 3) ** 3 Y
        ((0.04,) * 3, (903.2963 * 0.04 / 12.92, 0, 0)),
    ],
    ids=COLOURS,
)
def test_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = rgb_to_lab(torch.tensor(rgb, dtype=torch.float32))
    torch.testing.assert_close(found, torch.tensor(lab, dtype=torch.float32), rtol=0, atol=0.02)


def test_the_slow_formula_agrees_on_random_colours() -> None:
    pixels = np.random.default_rng(0).random((500, 3)) ** 2
    expected = torch.tensor([slow_lab(pixel) for pixel in pixels])
    found = rgb_to_lab(torch.tensor(pixels, dtype=torch.float32)).double()
    # The matrix of BT.709 is rounded to six places, the chromaticities to four.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    grey = rgb_to_lab(torch.linspace(0, 1, 256)[:, None].expand(-1, 3))
    assert grey[:, 1:].abs().max() < 1e-3


def test_gradients_are_finite_at_black_and_white() -> None:
    rgb = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0, 1, 0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(rgb_to_lab(rgb).sum(), rgb)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("autocast", [False, True])
def test_split_undoes_the_normalisation_and_standardises(autocast: bool) -> None:
    trunk = LabTrunk("r3d_18", 4, MEAN, STD)
    pixels = np.random.default_rng(1).random((2, 3, 2, 4, 4))
    clip = (torch.tensor(pixels) - torch.tensor(MEAN).view(3, 1, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1, 1
    )
    clip = clip.float().contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        lightness, colour = trunk.split(clip)
    assert (lightness.shape, colour.shape) == ((2, 1, 2, 4, 4), (2, 2, 2, 4, 4))
    found = torch.cat([lightness, colour], 1)
    assert found.dtype == torch.float32
    assert colour.is_contiguous(memory_format=torch.channels_last_3d)
    for index in np.ndindex(2, 2, 4, 4):
        b, *place = index
        lab = np.array(slow_lab(pixels[b, :, *place]))
        expected = torch.tensor((lab - LOW) / (HIGH - LOW) * 2 - 1).float()
        torch.testing.assert_close(found[b, :, *place], expected, rtol=0, atol=5e-4)


@pytest.mark.parametrize("kind", ["r3d_18", "resnet18_small"])
def test_each_trunk_sees_its_channels_alone(kind: str) -> None:
    trunk = LabTrunk(kind, 4, MEAN, STD)
    clip = torch.rand(2, 3, 2, 32, 32)
    lightness, colour = trunk.split(clip)
    feature = trunk.eval()(clip)
    assert feature.shape == (2, trunk.features) == (2, 64)
    torch.testing.assert_close(feature[:, :32], trunk.lightness(lightness))
    torch.testing.assert_close(feature[:, 32:], trunk.colour(colour))
    for name, half in (("lightness", feature[:, :32]), ("colour", feature[:, 32:])):
        trunk.zero_grad()
        half.sum().backward(retain_graph=True)
        reached = {
            key.split(".")[0]
            for key, p in trunk.named_parameters()
            if p.grad is not None and p.grad.any()
        }
        assert reached == {name}


def test_an_encoder_file_rebuilds_both_trunks_and_old_files_open(tmp_path: Path) -> None:
    spec = EncoderSpec(
        trunk="resnet18_small",
        width=4,
        colour="lab",
        frames=1,
        seconds=0,
        size=32,
        mean=MEAN,
        std=STD,
    )
    trunk = LabTrunk(spec.trunk, spec.width, spec.mean, spec.std).eval()
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, trunk, spec)
    loaded, found = load_encoder(tmp_path)
    assert found == spec
    image = torch.rand(2, 3, 1, 32, 32)
    torch.testing.assert_close(loaded(image), trunk(image), rtol=0, atol=0)

    header = spec.model_dump(mode="json")
    del header["colour"]  # as before the key existed
    tensors = build_trunk(spec.trunk, spec.width).state_dict()
    save_file(tensors, path, metadata={"sce_video": json.dumps(header)})
    loaded, found = load_encoder(path)
    assert found.colour == "rgb"
    assert loaded(image).shape == (2, 32)

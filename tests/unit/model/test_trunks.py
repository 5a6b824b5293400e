"""Trunks: layer by layer the published ones, slim ones of all names, memory layouts."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import resnet18, resnet50
from torchvision.models.video import r2plus1d_18

from sce_video.config.recipes import RECIPES
from sce_video.config.sections import ModelConfig
from sce_video.config.trunks import TRUNKS
from sce_video.errors import UsageError
from sce_video.model.trunks import build_trunk
from tests.conftest import GOLDEN

CASES = {case["name"]: case for case in json.loads((GOLDEN / "trunks.json").read_text())["cases"]}
OURS = {
    "r3d_18": "r3d18_no_head",
    "r3d_50": "r3d50_slow_no_head",
    "r2plus1d_18": "torchvision_r2plus1d_18_no_fc",
    "resnet18_small": "resnet18_small_input_no_fc",
    "resnet50": "resnet50_no_fc",
}
LAST = {"r3d_18": 8, "r3d_50": 32, "r2plus1d_50": 32, "resnet50": 32}
FAMILIES = ["r3d_18", "r2plus1d_18_small", "resnet18", "resnet18_small"]


@functools.cache
def slim(name: str, width: int = 16, channels: int = 3) -> nn.Module:
    """Fresh weights; shared, so left as they are."""
    torch.manual_seed(0)
    return build_trunk(name, width, channels)


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build_trunk(name)


def parameters(trunk: nn.Module) -> int:
    return sum(p.numel() for p in trunk.parameters())


def features(trunk: nn.Module) -> int:
    assert isinstance(trunk.features, int)
    return trunk.features


@pytest.mark.parametrize("name", OURS)
def test_every_layer_is_the_published_one(name: str) -> None:
    expected = CASES[OURS[name]]["expected"]
    trunk = on_meta(name)
    layers = [
        [path, list(m.weight.shape), [int(s) for s in m.stride], list(m.padding)]
        for path, m in trunk.named_modules()
        if isinstance(m, nn.Conv2d | nn.Conv3d)
    ]
    assert layers == expected["conv_layers"]
    assert parameters(trunk) == expected["num_parameters"]
    shape = expected["input_shape"]
    clip = torch.empty(shape if len(shape) == 5 else [*shape[:2], 1, *shape[2:]], device="meta")
    if "blocks" in dict(trunk.named_children()):
        unpooled = clip
        for block in trunk.get_submodule("blocks").children():
            unpooled = block(unpooled)
        assert list(unpooled.shape) == expected["output_shape"]
    assert trunk(clip).shape == (1, expected["output_shape"][1]) == (1, features(trunk))


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_is_what_its_row_says(name: str) -> None:
    known, trunk = TRUNKS[name], on_meta(name)
    assert (parameters(trunk), features(trunk)) == (known.parameters, known.features)
    assert trunk(torch.empty(2, 3, 8, 64, 64, device="meta")).shape == (2, known.features)
    convolutions = [m for m in trunk.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    assert {isinstance(m, nn.Conv2d) for m in convolutions} == {known.images}
    if known.input:
        assert known.input.recipe in RECIPES
        assert (known.input.frames == 1) == (known.input.seconds == 0) == known.images


def test_r2plus1d_18_is_torchvisions() -> None:
    ours = build_trunk("r2plus1d_18").eval()
    theirs = r2plus1d_18(weights=None)
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    clip = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(ours(clip), theirs.eval()(clip), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "builder"),
    [("resnet18", resnet18), pytest.param("resnet50", resnet50, marks=pytest.mark.slow)],
)
def test_resnets_are_torchvisions_from_the_first_weight_on(name: str, builder: Any) -> None:
    torch.manual_seed(3)
    theirs = builder(weights=None)
    theirs.fc = nn.Identity()
    torch.manual_seed(3)
    ours = build_trunk(name)
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[key]), key
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 1, 48, 48)
    expected = theirs.eval()(image[:, :, 0])
    torch.testing.assert_close(ours.eval()(image), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet18_small", "resnet50"])
def test_features_of_a_clip_are_the_mean_of_its_frames(name: str) -> None:
    trunk = copy.deepcopy(slim(name)).eval()
    clip = torch.randn(2, 3, 3, 32, 32)
    frames = torch.stack([trunk(clip[:, :, t : t + 1]) for t in range(3)])
    torch.testing.assert_close(trunk(clip), frames.mean(0), rtol=1e-4, atol=1e-5)


QUICK = [("r2plus1d_18", 3), ("resnet18", 1)]
OTHERS = [*((name, 3) for name in TRUNKS), *((name, 1) for name in FAMILIES)]


@pytest.mark.parametrize(
    ("name", "channels"),
    [*QUICK, *(pytest.param(*x, marks=pytest.mark.slow) for x in OTHERS if x not in QUICK)],
)
def test_slim_trunks_have_the_same_layers_and_train(name: str, channels: int) -> None:
    trunk = copy.deepcopy(slim(name, 16 if channels == 3 else 4, channels))
    assert list(trunk.state_dict()) == list(on_meta(name).state_dict())
    width = LAST.get(name, 8) * (16 if channels == 3 else 4)
    clip = torch.randn(2, channels, 4, 32, 32).contiguous(memory_format=torch.channels_last_3d)
    feature = trunk(clip)
    assert feature.shape == (2, width) == (2, features(trunk))
    feature.square().sum().backward()
    for key, parameter in trunk.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    first = next(trunk.parameters()).grad
    assert first is not None
    assert first.any()


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_of_clips_in_channels_last_are_right(name: str) -> None:
    # oneDNN's are not, or it crashes, in strided 1x1 convolutions of images below 16 channels.
    trunk = build_trunk(name, 4).eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    inputs: list[torch.Tensor] = []
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 4:
            module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))

    def gradient(clip: torch.Tensor) -> torch.Tensor:
        trunk.zero_grad()
        trunk(clip).square().sum().backward()
        grads = [p.grad for p in trunk.parameters() if p.grad is not None]
        return torch.cat([grad.double().flatten() for grad in grads])

    found = gradient(clip.contiguous(memory_format=torch.channels_last_3d))
    assert bool(inputs) == name.startswith("resnet")
    assert all(x.is_contiguous() for x in inputs)
    trunk.double()
    expected = gradient(clip.double())
    assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """On one, torch takes another kernel for small batches, which loses the layout."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", TRUNKS)
def test_channels_last_is_kept_through_every_layer(name: str) -> None:
    trunk = copy.deepcopy(slim(name)).eval()
    clip = torch.randn(2, 3, 4, 32, 32).contiguous(memory_format=torch.channels_last_3d)
    addresses = []

    def check(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        addresses.append(inputs[0].data_ptr())
        for x in (inputs[0], output):
            layout = torch.channels_last_3d if x.dim() == 5 else torch.channels_last
            assert x.dim() == 2 or x.is_contiguous(memory_format=layout), (module, x.shape)

    for module in trunk.modules():
        if not list(module.children()):
            module.register_forward_hook(check)
    with torch.no_grad():
        trunk(clip)
    assert addresses[0] == clip.data_ptr()  # frames are a view of the clip


@pytest.mark.parametrize("name", TRUNKS)
def test_fresh_weights(name: str) -> None:
    trunk = slim(name)
    video = not name.startswith("resnet")
    zero = 0
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            fan = module.out_channels * module.weight[0, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.2)
            assert module.bias is None
        elif isinstance(module, _BatchNorm):
            assert not module.bias.any()
            assert not module.weight.any() or bool((module.weight == 1).all())
            assert (module.eps, module.momentum) == (1e-5, 0.1)
            zero += not module.weight.any()
    assert zero == ((16 if name.endswith("50") else 8) if video else 0)
    if video:  # each residual branch ends in zero: a block passes its shortcut on
        last = [m for m in trunk.modules() if type(m).__name__ in ("ResBlock", "BasicBlock")][1]
        x = torch.rand(2, 16 * (4 if name.endswith("50") else 1), 2, 4, 4)
        torch.testing.assert_close(copy.deepcopy(last)(x), x)


def test_trunk_names_are_those_of_the_config_and_typos_get_a_hint() -> None:
    assert set(TRUNKS) == set(ModelConfig.model_fields["trunk"].annotation.__args__)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="did you mean 'r2plus1d_18'"):
        build_trunk("r2plus1d18")
    with pytest.raises(UsageError, match="unknown 'vit'; there are r3d_18, "):
        build_trunk("vit")

"""A trunk is found behind any prefix, and what does not fit wholly is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sce_video.errors import UsageError
from sce_video.model.recognise import Place, choose, fill_trunk, find_places
from sce_video.model.tensor_file import read_tensors
from tests.unit.model.layouts import (
    HEAD,
    OPEN,
    OTHER,
    QUEUE,
    R18,
    R50,
    SLOW,
    expected,
    under,
    weights,
)


def tensors_of(content: Any, folder: Path) -> dict[str, Tensor]:
    """What is read of a file with that content."""
    torch.save(content, folder / "x.pth")
    return read_tensors(folder / "x.pth")


@pytest.mark.parametrize("layout", OPEN)
def test_published_layouts_are_recognised(layout: str, tmp_path: Path) -> None:
    content, trunk, prefix = OPEN[layout]
    tensors = tensors_of(content, tmp_path)
    place = choose(find_places(tensors, "x"), "x", None)
    assert place == Place(trunk, prefix)
    found = place.take(tensors)
    own = {key: t for key, t in expected(layout).items() if key in found}
    assert len(own) >= {"resnet18": 100, "r2plus1d_18": 185}.get(trunk, 265)
    for key, tensor in own.items():
        assert torch.equal(found[key], tensor), key


def refused(tensors: Mapping[str, Tensor], name: str = "") -> str:
    with pytest.raises(UsageError) as caught:
        find_places(dict(tensors), "x.pth", name)
    message = str(caught.value)
    assert message.startswith("x.pth: nearest to ")
    assert "\n" not in message
    assert len(message) < 700
    return message


def test_what_is_lacking_is_named() -> None:
    less = {key: t for key, t in R18.items() if key != "layer3.1.bn2.bias"}
    assert "nearest to resnet18, but lacks layer3.1.bn2.bias; its tensors are" in refused(less)
    other = R18 | {"layer4.1.conv2.weight": torch.ones(512, 512, 1, 1)}
    says = "lacks layer4.1.conv2.weight [512, 512, 3, 3] (is [512, 512, 1, 1]); its"
    assert says in refused(other)
    behind = under("state_dict.module.encoder_q.", less)
    assert "resnet18 behind 'state_dict.module.encoder_q', but lacks" in refused(behind)
    counted = R18 | {"conv1.weight": torch.ones(64, 3, 7, 7).to(torch.int8)}  # quantized
    assert "lacks conv1.weight" in refused(counted)
    sharded = {key: t.new_zeros(0) for key, t in R18.items()}  # of ZeRO-3
    assert "lacks conv1.weight [64, 3, 7, 7] (is [0])" in refused(sharded)
    assert "resnet50, but lacks layer1.0.conv1.weight" in refused(R18, "resnet50")


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "sparse": lambda t: t.clone().to_sparse(),
    "meta": lambda t: t.to("meta"),
    "quantized": lambda t: torch.quantize_per_tensor(t.clone(), 0.1, 0, torch.qint8),
    "complex": lambda t: t.to(torch.complex64),
    "float4": lambda t: torch.zeros(t.shape, dtype=torch.float4_e2m1fn_x2),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.filterwarnings("ignore")  # of torch, that quantized tensors will go
def test_tensors_without_a_number_at_each_place_are_lacking(odd: str, tmp_path: Path) -> None:
    content = dict(R18) | {"conv1.weight": ODD[odd](R18["conv1.weight"])}
    message = refused(tensors_of(content, tmp_path))
    is_ = tensors_of(content, tmp_path)["conv1.weight"]
    says = f"is [64, 3, 7, 7], {is_.dtype}, {is_.layout}, on {is_.device}"
    assert f"nearest to resnet18, but lacks conv1.weight [64, 3, 7, 7] ({says}); " in message


@pytest.mark.parametrize(
    ("counter", "taken"),
    [
        (torch.tensor(7), 7),
        (torch.tensor([7]), 7),
        (torch.tensor(7.0).half(), 7),
        (torch.zeros(3).long(), 0),
        (torch.zeros(0).long(), 0),
        (torch.tensor([7]).to_sparse(), 0),
        (torch.tensor(7, device="meta"), 0),
        (torch.tensor(7j), 0),
        (torch.zeros(1, dtype=torch.float4_e2m1fn_x2), 0),
    ],
)
def test_counters_of_any_kind_are_no_obstacle(counter: Tensor, taken: int) -> None:
    name = "layer1.0.bn1.num_batches_tracked"
    tensors = dict(R18) | {name: counter}
    assert find_places(tensors, "x") == [Place("resnet18", "")]
    state = fill_trunk(tensors, "resnet18").state_dict()
    assert torch.equal(state[name], torch.tensor(taken))
    assert torch.equal(state["conv1.weight"], R18["conv1.weight"])


def test_buffers_that_were_saved_as_parameters_stay_buffers() -> None:
    tensors = {key: nn.Parameter(t) if t.is_floating_point() else t for key, t in R18.items()}
    trunk = fill_trunk(tensors, "resnet18")
    assert "bn1.running_mean" in dict(trunk.named_buffers())
    assert "bn1.running_mean" not in dict(trunk.named_parameters())


@pytest.mark.parametrize(
    ("deeper", "trunk", "first"),
    [
        ("resnet34", "resnet18", "layer1.2.conv1.weight"),
        ("resnet101", "resnet50", "layer3.6.conv1.weight"),
        ("resnet152", "resnet50", "layer2.4.conv1.weight"),
    ],
)
def test_deeper_networks_are_refused(deeper: str, trunk: str, first: str) -> None:
    """They have all tensors of the shallower, and layers between them."""
    for prefix in ("", "module.encoder_q."):
        message = refused(under(prefix, weights(deeper)))
        behind = f" behind '{prefix[:-1]}'" if prefix else ""
        assert f"nearest to {trunk}{behind}, but has more layers: {first}, " in message
    more = R18 | {"layer5.0.conv1.weight": torch.ones(1)}
    assert "has more layers: layer5.0.conv1.weight; " in refused(more)
    block = SLOW | {"blocks.3.res_blocks.6.branch2.conv_a.weight": torch.ones(1)}
    assert "nearest to r3d_50, but has more layers: blocks.3.res_blocks.6" in refused(block)


@pytest.mark.parametrize("other", ["wide_resnet50_2", "resnext50_32x4d"])
def test_networks_of_other_widths_are_refused(other: str) -> None:
    assert "nearest to resnet50, but lacks layer1.0.conv" in refused(weights(other))


def test_other_networks_are_refused_with_their_names() -> None:
    net = weights("mobilenet_v2")
    assert refused(net).endswith("its tensors are features (312), classifier.1 (2)")
    assert "nearest to resnet18, but lacks conv1.weight, bn1.weight, bn1.bias and 97" in refused(
        net
    )
    renamed = {  # as mmaction's
        "backbone." + key.replace("stem.0.", "conv1.conv.").replace("conv1.0.0", "conv1.conv"): t
        for key, t in weights("r2plus1d_18").items()
    }
    message = refused(renamed | under("cls_head.", HEAD))
    assert "nearest to r2plus1d_18 behind 'backbone', but lacks stem.0.weight, layer1.0" in message
    assert message.endswith("its tensors are backbone (224), cls_head.head.0 (2)")
    with pytest.raises(UsageError, match="x: holds no tensors"):
        find_places({}, "x")
    assert "its tensors are queue (1), queue_ptr (1)" in refused(QUEUE)


def test_heads_beside_a_trunk_are_no_layers() -> None:
    for head in (
        "fc.0.weight",
        "head.mlp.0.weight",
        "projection_head.0.weight",
        "prototypes.weight",
        "bn.bias",
    ):
        assert find_places(R18 | {head: torch.ones(2, 2)}, "x") == [Place("resnet18", "")]
    pool = SLOW | {"blocks.5.proj.0.weight": torch.ones(2, 2)}
    assert find_places(pool, "x") == [Place("r3d_50", "")]


TWO = [Place("resnet18", prefix) for prefix in ("a.encoder", "a.encoder_k", "b.module.encoder")]


@pytest.mark.parametrize(
    ("prefix", "taken"),
    [
        (None, "a.encoder"),
        ("encoder", "a.encoder"),  # of two the first
        ("encoder_k", "a.encoder_k"),
        ("a.encoder_k.", "a.encoder_k"),
        ("b", "b.module.encoder"),
        ("module.encoder", "b.module.encoder"),
        ("b.module._orig_mod.encoder", "b.module.encoder"),
    ],
)
def test_a_prefix_chooses(prefix: str | None, taken: str) -> None:
    assert choose(TWO, "x", prefix).prefix == taken
    assert choose([*TWO, Place("resnet18", "")], "x", "").prefix == ""


def test_a_prefix_that_does_not_fit_lists_those_that_do() -> None:
    there = r"#a.encoder \(resnet18\), #a.encoder_k \(resnet18\), #b.module.encoder \(resnet18\)"
    for wrong in ("encode", "a.module.encoder", "encoder_q", ""):
        with pytest.raises(UsageError, match=f"x: no trunk behind '{wrong}'; there is {there}$"):
            choose(TWO, "x", wrong)
    many = [Place("resnet18", f"nets.{i}") for i in range(20)]
    with pytest.raises(UsageError, match=r"#nets.5 \(resnet18\) and 14 more$"):
        choose(many, "x", "c")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("encoder_q", "encoder_k"),
        ("query_encoder", "key_encoder"),
        ("online_network", "target_network"),
        ("base_encoder", "momentum_encoder"),
        ("encoder", "encoder_m"),
        ("backbone", "backbone_ema"),
        ("state_dict", "state_dict_ema"),
        ("teacher_backbone", "student_backbone"),
        ("teacher", "backbone"),
    ],
)
def test_of_two_the_one_that_papers_evaluate_is_taken(first: str, second: str) -> None:
    places = [Place("resnet18", first), Place("resnet18", second)]
    assert choose(places, "x", None).prefix == first
    assert choose(places[::-1], "x", None).prefix == first


def test_two_networks_in_a_file(tmp_path: Path) -> None:
    """As of distillation: the trunk that is named is taken."""
    tensors = tensors_of({"student": R18, "teacher": R50, "more": OTHER}, tmp_path)
    assert find_places(tensors, "x", "resnet50") == [Place("resnet50", "teacher")]
    both = [Place("resnet18", "student"), Place("resnet18", "more")]
    assert find_places(tensors, "x", "resnet18") == both
    assert len(find_places(tensors, "x")) == 3

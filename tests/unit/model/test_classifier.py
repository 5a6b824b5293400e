"""The classifier: its head, its file, and a frozen trunk that nothing moves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sce_video.errors import UsageError
from sce_video.model.classifier import Classifier, load_classifier, save_classifier
from sce_video.model.encoder import EncoderSpec, build_encoder, load_encoder, save_encoder

SPEC = EncoderSpec(
    trunk="r3d_18",
    width=4,
    frames=4,
    seconds=0.6,
    size=32,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
)
CLASSES = ["jump", "run", "sit"]


def make(*, frozen: bool, dropout: float = 0.0) -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_encoder(SPEC), len(CLASSES), frozen=frozen, dropout=dropout)


def steps(net: Classifier, count: int = 3) -> None:
    """As the engine takes them, which sets the mode of the whole network."""
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0, momentum=0.9, weight_decay=0.1)
    for _ in range(count):
        net.train()
        loss = nn.functional.cross_entropy(net(torch.randn(4, 3, 4, 32, 32)), torch.arange(4) % 3)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def test_a_frozen_trunk_stays_bit_for_bit_and_a_trained_one_moves() -> None:
    for frozen in (True, False):
        net = make(frozen=frozen)
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        steps(net)
        same = {name for name, x in net.state_dict().items() if torch.equal(x, before[name])}
        trunk = {name for name in before if name.startswith("trunk.")}
        assert any("running_var" in name for name in trunk)
        assert same == (trunk if frozen else set())
        assert {m.training for m in net.trunk.modules()} == {not frozen}
        assert net.linear.training
        assert net.eval().trunk.training is False


def test_a_frozen_trunk_keeps_no_graph() -> None:
    net = make(frozen=True)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape), lambda x: x):
        net(torch.randn(2, 3, 4, 32, 32))
    assert torch.Size([2, 3, 4, 32, 32]) not in kept
    assert max(shape.numel() for shape in kept) <= 2 * 32  # the linear layer's input


def test_the_head_is_the_published_one() -> None:
    net = Classifier(build_encoder(SPEC), 5000, dropout=0.8)
    assert net.linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not net.linear.bias.any()
    assert net.dropout.p == 0.8
    with torch.no_grad():
        clip = torch.randn(2, 3, 4, 32, 32)
        net.eval()
        torch.testing.assert_close(net(clip), net.linear(net.trunk(clip)))


def test_a_classifier_comes_back_as_it_was(tmp_path: Path) -> None:
    net = make(frozen=False, dropout=0.5)
    steps(net, 1)
    save_classifier(tmp_path / "classifier.safetensors", net, SPEC, CLASSES, "finetune")
    assert [path.name for path in tmp_path.iterdir()] == ["classifier.safetensors"]
    clip = torch.randn(2, 3, 4, 32, 32)
    for path in (tmp_path, tmp_path / "classifier.safetensors"):
        found, spec, classes = load_classifier(path)
        assert (spec, classes) == (SPEC, CLASSES)
        assert not any(module.training for module in found.modules())
        with torch.no_grad():
            assert torch.equal(found(clip), net.eval()(clip))


def test_the_group_may_read_a_classifier(tmp_path: Path, for_the_group: int) -> None:
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, make(frozen=True), SPEC, CLASSES, "linear")
    assert path.stat().st_mode & 0o777 == for_the_group


def test_what_is_no_classifier_is_refused_in_one_line(tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            load_classifier(tmp_path)
        assert "\n" not in str(caught.value)

    refused("no classifier; give the folder of a finished run of task linear or finetune")
    path = tmp_path / "classifier.safetensors"
    save_encoder(path, build_encoder(SPEC), SPEC)
    refused("not a classifier of sce-video")
    save_classifier(path, make(frozen=True), SPEC, CLASSES, "linear")
    with pytest.raises(UsageError, match=r"not an encoder .* kind \(task, classes, spec\)$"):
        load_encoder(path)
    tensors = load_file(path)
    header = {"task": "linear", "classes": CLASSES, "spec": SPEC.model_dump()}
    del tensors["linear.bias"]
    save_file(tensors, path, {"sce_video": json.dumps(header)})
    refused(r"its tensors are not its network's: .*linear\.bias")
    header["classes"] = ["a"] * 5
    save_file(
        load_file(path) | {"linear.bias": torch.zeros(3)}, path, {"sce_video": json.dumps(header)}
    )
    refused(r"linear\.weight is \[3, 32\], not \[5, 32\]")
    header["classes"] = []
    save_file(tensors, path, {"sce_video": json.dumps(header)})
    refused("classes: Tuple should have at least 1 item")
    path.write_bytes(b"no")
    refused("not a classifier of sce-video")

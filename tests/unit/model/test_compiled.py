"""Compiled trunks: every part in whole graphs, for each kind one, copies and checkpoints apart.

What inductor makes of the graphs is compared in tests/dist/test_switches.py.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from sce_video.config.recipes import RECIPES
from sce_video.errors import UsageError
from sce_video.model import compiled
from sce_video.model.compiled import compile_trunk, compile_trunks
from sce_video.model.momentum import momentum_copy
from sce_video.model.recompute import checkpoint_activations
from sce_video.model.syncbn import convert_sync_bn
from sce_video.model.trunks import build_trunk
from sce_video.model.trunks.lab import LabTrunk

CPU = torch.device("cpu")


@pytest.fixture(params=["eager"])
def graphs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Graphs are made as ever, and run by torch: no C++ compiler takes its time."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=request.param))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def trunk_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "lab":
        return convert_sync_bn(LabTrunk("resnet18_small", 4, *RECIPES["imagenet_two_view"].stats))
    return convert_sync_bn(build_trunk(name, 4))


def clips(*sides: int) -> list[Tensor]:
    made = [torch.randn(2, 3, 2, side, side) for side in sides]
    return [clip.contiguous(memory_format=torch.channels_last_3d) for clip in made]


def step(online: nn.Module, momentum: nn.Module, views: list[Tensor]) -> Tensor:
    """Queries of all views, keys of the first; the backward pass in a thread, as for CUDA."""
    with torch.no_grad():
        key = momentum(views[0])
    loss = torch.stack([(online(view) * key).sum() for view in views]).sum()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    return loss.detach()


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(
    ("name", "parts", "kinds", "sides", "again"),
    [
        # A stem, and two kinds of block a stage but one in the first.
        ("r2plus1d_18", 9, 8, [32], True),
        pytest.param("r2plus1d_18", 9, 8, [32, 48], False, marks=pytest.mark.slow),
        pytest.param("r3d_50", 17, 9, [32, 48], True, marks=pytest.mark.slow),
        # Two streams; a ResNet's stem is no module.
        pytest.param("lab", 16, 7, [32], True, marks=pytest.mark.slow),
    ],
)
def test_no_part_falls_back_to_eager(
    name: str, parts: int, kinds: int, sides: list[int], again: bool
) -> None:
    online = trunk_of(name)
    momentum = momentum_copy(online)
    for trunk in (online, momentum):
        assert len(compile_trunk(trunk)) == parts
    if again:
        checkpoint_activations(online)
    step(online, momentum, clips(*sides))
    made = counters["stats"]["unique_graphs"]
    # Queries of all sizes, keys of the first; torch 2.11 makes some of them twice.
    assert kinds * (len(sides) + 1) <= made < 2 * kinds * (len(sides) + 1)
    step(online, momentum, clips(*sides))  # all there is has been met
    assert counters["stats"]["unique_graphs"] == made
    assert counters["frames"]["total"] == counters["frames"]["ok"] == made
    assert not counters["graph_break"]


@pytest.mark.usefixtures("graphs")
def test_a_deep_copy_is_eager_and_apart() -> None:
    trunk = trunk_of("r2plus1d_18").get_submodule("layer1")  # two equal blocks
    names, clip = list(trunk.state_dict()), torch.randn(2, 4, 2, 8, 8)
    compile_trunk(trunk)
    checkpoint_activations(trunk)
    twin = copy.deepcopy(trunk)
    assert list(trunk.state_dict()) == list(twin.state_dict()) == names
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.fill_(1)
    assert not torch.equal(twin(clip), clip.relu())
    assert not counters
    assert torch.equal(trunk(clip), clip.relu())  # fresh blocks pass their input on
    assert counters["stats"]["unique_graphs"]


def kept(trunk: nn.Module, clip: Tensor) -> tuple[int, Tensor, list[Tensor]]:
    """Bytes that autograd keeps beside the weights, the features and the gradients."""
    own = {x.untyped_storage().data_ptr() for x in (*trunk.parameters(), *trunk.buffers(), clip)}
    sizes: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        features = trunk(clip)
    features.square().sum().backward()
    grads = [p.grad for p in trunk.parameters() if p.grad is not None]
    return sum(sizes.values()), features.detach(), grads


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("graphs", ["aot_eager"], indirect=True)
def test_a_checkpointed_block_keeps_its_input_alone_when_it_is_compiled() -> None:
    clip = torch.randn(2, 4, 4, 16, 16)
    found = {}
    for compiles in (False, True):
        for again in (False, True):
            trunk = trunk_of("r2plus1d_18").get_submodule("layer1")  # two blocks
            if compiles:
                assert len(compile_trunk(trunk)) == 2
            if again:
                checkpoint_activations(trunk)
            size, features, grads = kept(trunk, clip)
            found[compiles, again] = (size, features, grads, list(trunk.buffers()))
    eager, blocks = found[False, True], found[True, True]
    assert blocks[0] <= eager[0] < found[False, False][0]
    assert blocks[0] < found[True, False][0]
    for ours, exact in zip(blocks[1:], eager[1:], strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-5)  # running statistics, too


@pytest.mark.parametrize("stage", [1, 3])
def test_what_cannot_be_compiled(
    stage: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "why_not", lambda device: "no compiler")
    reason = "no compiler" if stage == 1 else "ZeRO stage 3 takes weights away"
    with pytest.raises(UsageError, match=rf"cannot compile here \({reason}\)"):
        compile_trunks([], CPU, stage, must=True)
    trunk = trunk_of("r2plus1d_18")
    compile_trunks([trunk], CPU, stage, must=False)
    [line] = [record.getMessage() for record in caplog.records if record.name == "sce_video"]
    assert line == f"train.compile: the trunks are not compiled and run slower: {reason}"
    assert not any(module._compiled_call_impl for module in trunk.modules())

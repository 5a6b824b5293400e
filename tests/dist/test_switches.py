"""Trunks whose activations are checkpointed, or that are compiled, give the same numbers."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from tests.dist.pool import RankPool, small_config

SWITCH = "checkpoint_activations"
COMPILE = "compile"


def train(
    folder: Path,
    trunk: str,
    stage: int,
    precision: str,
    switches: list[str],
    sides: tuple[int, ...] = (32, 32),
    backend: str = "inductor",
) -> None:
    """Two steps; writes losses, gradients, state and all collectives of both passes."""
    from torch._dynamo.utils import counters

    from sce_video.engine.ds_config import build_engine
    from sce_video.engine.pretrain import build_siamese
    from sce_video.engine.runtime import start_runtime, stop_runtime
    from sce_video.engine.zero_layout import gathered

    config = small_config(
        folder,
        model={"trunk": trunk, "width": 4},
        optim={"name": "sgd", "lr": 0.1},
        train={"batch_size": 4, **dict.fromkeys(switches, True)},
        deepspeed={"zero_optimization": {"stage": stage}},
    )
    runtime = start_runtime(workers=0)
    torch.set_num_threads(1)
    patch("torch.compile", partial(torch.compile, backend=backend)).start()
    autocast = torch.bfloat16 if precision == "bf16" else None
    siamese = build_siamese(config, autocast, samples=4, epoch_steps=1)
    engine, _ = build_engine(siamese, config, runtime.ranks)
    reduced: list[int] = []
    plain = dist.all_reduce

    def all_reduce(tensor: torch.Tensor, *rest: Any, **options: Any) -> Any:
        reduced.append(tensor.numel())
        return plain(tensor, *rest, **options)

    dist.all_reduce = all_reduce
    result: dict[str, Any] = {"losses": [], "gradients": {}}
    generator = torch.Generator().manual_seed(runtime.rank)
    rows = torch.arange(4 // runtime.ranks).numpy()
    for _ in range(2):
        clips = [torch.randn(len(rows), 3, 4, n, n, generator=generator) for n in sides]
        output = engine(clips, rows, rows)
        engine.backward(output.loss)
        for name, p in siamese.named_parameters():
            if stage == 0 and p.grad is not None:
                result["gradients"][name] = p.grad.clone()
        engine.step()
        siamese.end_step(output.remembered, output.rows, 0.9)
        result["losses"].append(output.loss.detach())
    dist.all_reduce = plain
    with gathered(siamese):
        result["state"] = {k: t.clone() for k, t in siamese.state_dict().items()}
    result["reduced"], result["graphs"] = reduced, counters["stats"]["unique_graphs"]
    torch.save(result, folder / f"{'+'.join(switches)}-{runtime.rank}.pt")
    stop_runtime()


@pytest.mark.parametrize(
    ("trunk", "stage", "ranks", "precision"),
    [
        ("r2plus1d_18", 0, 1, "fp32"),
        ("r3d_18", 0, 1, "bf16"),
        pytest.param("r2plus1d_18", 0, 2, "fp32", marks=pytest.mark.slow),
        pytest.param("r3d_50", 1, 2, "fp32", marks=pytest.mark.slow),
        pytest.param("resnet18", 2, 2, "fp32", marks=pytest.mark.slow),
        pytest.param("r3d_18", 3, 2, "fp32", marks=pytest.mark.slow),
    ],
)
def test_checkpointed_activations(
    trunk: str, stage: int, ranks: int, precision: str, pool: RankPool, tmp_path: Path
) -> None:
    for switches in ([], [SWITCH]):
        pool.run(ranks, train, tmp_path, trunk, stage, precision, switches)
    for rank in range(ranks):
        once, twice = (torch.load(tmp_path / f"{switch}-{rank}.pt") for switch in ("", SWITCH))
        assert once["losses"] == twice["losses"]
        assert bool(once["gradients"]) == (stage == 0)
        for kind in ("gradients", "state"):
            assert once[kind].keys() == twice[kind].keys()
            for name, tensor in once[kind].items():
                assert torch.equal(tensor, twice[kind][name]), name
        if ranks > 1:  # SyncBN asked again, on both ranks in one order
            assert len(twice["reduced"]) > len(once["reduced"])
            first = torch.load(tmp_path / f"{SWITCH}-0.pt")
            assert twice["reduced"] == first["reduced"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(
    ("trunk", "stage", "ranks", "sides", "switches", "backend"),
    [
        ("r2plus1d_18", 1, 1, (32, 32), [COMPILE], "inductor"),
        ("resnet18", 2, 1, (32, 32, 24), [COMPILE, SWITCH], "aot_eager"),
        ("resnet18", 0, 2, (32, 32), [COMPILE, SWITCH], "aot_eager"),
    ],
)
def test_compiled(
    trunk: str,
    stage: int,
    ranks: int,
    sides: tuple[int, ...],
    switches: list[str],
    backend: str,
    pool: RankPool,
    tmp_path: Path,
) -> None:
    for each in ([], switches):
        pool.run(ranks, train, tmp_path, trunk, stage, "fp32", each, sides, backend)
    plain, fused = (torch.load(tmp_path / f"{'+'.join(each)}-0.pt") for each in ([], switches))
    torch.testing.assert_close(fused["losses"], plain["losses"], rtol=1e-4, atol=0)
    assert fused["state"].keys() == plain["state"].keys()
    assert fused["graphs"] > plain["graphs"] == 0
    # Rounding turns units on and off, and the second step grows that; a lost layer is order one.
    for kind in ("gradients", "state"):
        for name, tensor in plain[kind].items():
            difference = (fused[kind][name] - tensor).double().norm()
            assert difference <= 5e-2 * tensor.double().norm() + 1e-6, (kind, name)


def two_blocks(folder: Path, switches: list[str], backend: str) -> None:
    """Two steps of a stage on clips of two sizes; writes outputs, gradients and statistics."""
    from torch._dynamo.utils import counters

    from sce_video.engine.runtime import start_runtime, stop_runtime
    from sce_video.model.compiled import compile_trunk
    from sce_video.model.recompute import checkpoint_activations
    from sce_video.model.syncbn import convert_sync_bn
    from sce_video.model.trunks import build_trunk

    runtime = start_runtime(workers=0)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stage = convert_sync_bn(build_trunk("r2plus1d_18", 4)).get_submodule("layer1")
    for parameter in stage.parameters():  # the last BN's scale is zero at first
        torch.nn.init.normal_(parameter, std=0.5)
    if COMPILE in switches:
        with patch("torch.compile", partial(torch.compile, backend=backend)):
            compile_trunk(stage)
    if SWITCH in switches:
        checkpoint_activations(stage)
    torch.manual_seed(1 + runtime.rank)
    made = []
    for side in (8, 6, 8, 6):
        clip = torch.randn(2, 4, 2, side, side, requires_grad=True)  # both blocks are of one kind
        made.append(stage(clip))
        made[-1].sin().sum().backward()
    gradients = [p.grad for p in stage.parameters()]
    assert bool(counters["frames"]["ok"]) == (COMPILE in switches)
    assert counters["frames"]["total"] == counters["frames"]["ok"]
    found = (made, gradients, list(stage.buffers()))
    torch.save(found, folder / f"{'+'.join(switches)}-{runtime.rank}.pt")
    stop_runtime()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_and_checkpointed_blocks_of_two_ranks(
    backend: str, pool: RankPool, tmp_path: Path
) -> None:
    for switches in ([], [COMPILE, SWITCH]):
        pool.run(2, two_blocks, tmp_path, switches, backend)
    for rank in range(2):
        plain, fused = (
            torch.load(tmp_path / f"{'+'.join(switches)}-{rank}.pt")
            for switches in ([], [COMPILE, SWITCH])
        )
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)


def decide(folder: Path) -> None:
    """The second rank lacks a compiler; writes what this one does of a wish and of a must."""
    from sce_video.engine.runtime import start_runtime, stop_runtime
    from sce_video.errors import UsageError
    from sce_video.model import compiled
    from sce_video.model.trunks import build_trunk

    runtime = start_runtime(workers=0)
    trunk = build_trunk("resnet18_small", 4)
    with patch.object(compiled, "why_not", lambda _: "no g++" if runtime.rank else None):
        compiled.compile_trunks([trunk], runtime.device, 1, must=False)
        with pytest.raises(UsageError) as refused:
            compiled.compile_trunks([trunk], runtime.device, 1, must=True)
    eager = not any(module._compiled_call_impl for module in trunk.modules())
    torch.save((eager, str(refused.value)), folder / f"{runtime.rank}.pt")
    stop_runtime()


def test_ranks_decide_alike_on_compiling(pool: RankPool, tmp_path: Path) -> None:
    pool.run(2, decide, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first == second
    eager, refusal = first
    assert eager
    assert "cannot compile here (rank 1: no g++)" in refusal

"""What an optimizer step costs: memory, traffic and arithmetic, counted without allocating any.

The networks are built and run on torch's fake tensors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from sce_video.config.tasks import AnyConfig, PretrainConfig, SupervisedConfig
from sce_video.engine.clip_task import view_recipe
from sce_video.engine.pretrain import build_online, build_predictor
from sce_video.engine.supervised import build_classifier
from sce_video.model.recompute import checkpoint_activations
from sce_video.objectives.base import Embeddings, Objective
from sce_video.objectives.build import build_objective
from sce_video.stream.order import TrainingPlan

REACHED = {"r2plus1d_18": 91e12, "r3d_50": 79e12}
"""FLOP a second of a trunk's pretraining as trained: measured on one H200, bf16, 64 videos a step,
16 frames of 112 pixels and 8 of 224. Other trunks count with the lower."""


class Cost(NamedTuple):
    """What an optimizer step asks for."""

    trained: int  # parameters
    flops: int  # of all ranks together
    memory: dict[str, float]  # bytes of a rank, by what holds them
    sent: dict[str, float]  # bytes a rank sends (and receives), by what sends them


class _Passes(NamedTuple):
    """A rank's micro-batch through the networks."""

    saved: int  # bytes kept for the backward pass
    flops: int  # forward passes of both branches, backward pass
    weights: int  # that are trained
    frozen: int = 0  # that are not: the momentum branch, the trunk below a linear layer
    statistics: int = 0  # bytes that SyncBN sums over the ranks
    remembered: int = 0  # bytes of the embeddings that all ranks exchange
    memory: int = 0  # bytes of queue or bank
    probe: int = 0  # bytes of its gradient


@contextlib.contextmanager
def _saved(own: list[Tensor]) -> Iterator[dict[int, int]]:
    """Bytes by storage that autograd keeps, those of ``own`` left out."""
    sizes: dict[int, int] = {}
    known = {x.untyped_storage()._cdata for x in own}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in known:
            sizes[storage._cdata] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield sizes


class _PoolingOfCuda(TorchFunctionMode):
    """Pooling takes what it gets: the CPU's autocast keeps an fp32 copy for it, CUDA's does not."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        with contextlib.ExitStack() as stack:
            if "pool" in getattr(func, "__name__", ""):
                stack.enter_context(torch.autocast("cpu", enabled=False))
            return func(*args, **(kwargs or {}))


def _passes(config: AnyConfig, plan: TrainingPlan, *, bf16: bool, cuda: bool) -> _Passes:
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    pooling = _PoolingOfCuda() if cuda else contextlib.nullcontext()
    with FakeTensorMode(), torch.random.fork_rng(devices=[]), autocast, pooling:
        if isinstance(config, PretrainConfig):
            return _pretraining(config, plan)
        return _with_labels(config, plan)


def _with_labels(config: SupervisedConfig, plan: TrainingPlan) -> _Passes:
    batch = max(2, plan.micro_batch)
    part, shape = plan.micro_batch / batch, config.shape
    net = build_classifier(config, plan.classes)
    clip = torch.empty(batch, 3, shape.frames, shape.size, shape.size)
    kept, forward, _ = _embed(net, nn.Identity(), clip)
    return _Passes(
        saved=int(part * (clip.nbytes + kept)),
        flops=int(part * forward * (1 if config.frozen else 3)),
        weights=_count(net.linear if config.frozen else net),
        frozen=_count(net.trunk) if config.frozen else 0,
        statistics=0 if config.frozen else _statistics(net, 24),
    )


def _pretraining(config: PretrainConfig, plan: TrainingPlan) -> _Passes:
    batch = max(2, plan.micro_batch)  # BN refuses a sample alone
    part = plan.micro_batch / batch
    dim, shape, steps = config.model.projector.dim, config.shape, plan.steps_per_epoch
    online, predictor = build_online(config), build_predictor(config)
    features: int = online.trunk.features  # type: ignore[assignment]
    objective = build_objective(
        config.objective, dim=dim, seed=0, samples=plan.samples, epoch_steps=steps
    )
    sides = [side for _, side in view_recipe(config).crops(shape.size)]
    again = checkpoint_activations(online.trunk) if config.train.checkpoint_activations else []
    queries = range(0 if objective.symmetric else 1, len(sides))
    keys = range(objective.key_views if objective.momentum else 0)
    saved, flops = 0, 0
    for i, side in enumerate(sides):
        clip = torch.empty(batch, 3, shape.frames, side, side)
        kept, forward, streams = _embed(online, predictor, clip, again)
        saved += clip.nbytes + kept * (i in queries)
        # A backward pass takes the gradient of the input and that of the weights.
        flops += forward * ((3 + bool(again)) * (i in queries) + (i in keys))
    embedded = range(streams) if streams > 1 else queries
    kept, remembered = _contrast(objective, embedded, keys, batch, dim)
    return _Passes(
        saved=int(part * (saved + kept)),
        flops=int(part * flops),
        remembered=int(part * remembered),
        statistics=len(queries) * (_statistics(online, 24) + _statistics(predictor, 24))
        + len(keys) * _statistics(online, 16),
        weights=_count(online) + _count(predictor),
        frozen=_count(online) if objective.momentum else 0,
        memory=sum(x.nbytes for x in objective.buffers()),
        probe=4 * (features + 1) * plan.classes if config.eval.linear else 0,
    )


def _embed(
    online: nn.Module, predictor: nn.Module, clip: Tensor, again: Sequence[nn.Module] = ()
) -> tuple[int, int, int]:
    """Of a view's forward pass: bytes kept, FLOP, and embeddings a sample (two of CMC).

    ``again``: blocks that run again in the backward pass, of which the inputs alone are kept.
    """
    inputs: dict[int, int] = {}

    def note(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs[arguments[0].untyped_storage()._cdata] = arguments[0].untyped_storage().nbytes()

    hooks = [block.register_forward_pre_hook(note) for block in again]
    own = [clip, *online.parameters(), *online.buffers(), *predictor.parameters()]
    with FlopCounterMode(display=False) as counter, _saved(own) as sizes:
        streams = online(clip)
        out = [predictor(x) for x in (streams if isinstance(streams, list) else [streams])]
    for hook in hooks:
        hook.remove()
    return sum((sizes | inputs).values()), counter.get_total_flops(), len(out)


def _contrast(
    objective: Objective, embedded: range, keys: range, batch: int, dim: int
) -> tuple[int, int]:
    """Of the loss, with one rank's embeddings: bytes kept, and bytes that the ranks exchange."""
    q = {i: torch.empty(batch, dim, requires_grad=True) for i in embedded}
    k, some = {i: torch.empty(batch, dim) for i in keys}, np.arange(batch)
    embeddings = Embeddings(q, q, k, some, some)
    embeddings.remembered = objective.to_remember(embeddings)
    objective.start_step(0)
    own = [*q.values(), *objective.buffers()]
    with torch.autocast("cpu", enabled=False), _saved(own) as sizes:
        held = objective(embeddings)  # its graph keeps what was counted
    del held
    return sum(sizes.values()), sum(x.nbytes for x in embeddings.remembered.values())


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _statistics(module: nn.Module, size: int) -> int:
    """``size`` a channel: forward two sums in float64, backward (8 more) two in fp32."""
    norms = (m for m in module.modules() if isinstance(m, _BatchNorm))
    return sum(size * norm.num_features for norm in norms)


def cost(config: AnyConfig, plan: TrainingPlan, *, bf16: bool, cuda: bool) -> Cost:
    """Memory, traffic and arithmetic of an optimizer step.

    Activations are what autograd keeps of one micro-batch, counted by running it on fake tensors;
    allocator and workspaces come on top (README, "Configs", says how much). Collectives are counted
    as rings: an all-reduce of S bytes over n ranks sends 2 S (n - 1) / n, gathering or scattering
    them half of it. DeepSpeed's ZeRO-1 and 2 all-reduce the gradients, and gather the weights after
    the step. Of a frozen trunk nothing is kept; what passes through it is workspace. LARS's norms,
    SNCLR's neighbours, SimCLR's gradients and the averages of BN groups are left out.

    Args:
        config: of the run.
        plan: of one rank.
        bf16: whether the trunk runs under bf16 autocast.
        cuda: whether it runs on GPUs: there pooling keeps no copy, and buffers that DeepSpeed
            reserves take memory before they are used.
    """
    own, n = _passes(config, plan, bf16=bf16, cuda=cuda), plan.ranks
    zero = config.deepspeed.zero_optimization.model_dump()
    stage, micro = int(zero["stage"]), config.train.accumulate
    P, share, states = 4 * own.weights, n if stage else 1, 2 if config.optim.name == "adamw" else 1
    bucket = int(zero.get("reduce_bucket_size", own.weights))
    bucket = bucket if cuda else min(bucket, own.weights)
    memory = {
        "activations": own.saved,
        "weights": (P + 4 * own.frozen) / (n if stage == 3 else 1),
        "gradients": P / (n if stage > 1 else 1),
        "optimizer": P * (states + (stage > 0)) / share,  # ZeRO keeps a master copy
        "ZeRO's buffer": 4 * bucket * (1 + bool(zero.get("overlap_comm"))) * (stage > 0),
        "queue or bank": own.memory,
    }
    around, group = (n - 1) / n, config.model.bn_group or n
    # ZeRO-3 gathers weights for every forward and backward pass of a view.
    units = {0: 2, 1: 3, 2: 2 * micro + 1}.get(stage, micro * (2 * config.views + 1))
    sent = {
        "gradients and weights": P * units * around,
        "SyncBN": micro * 2 * own.statistics * (group - 1) / group,
        "linear probe": 2 * own.probe * around,
        "embeddings": micro * own.remembered * (n - 1.0),
    }
    return Cost(own.weights, own.flops * micro * n, memory, sent)


class Hours(NamedTuple):
    """Hours of one H200, and what they are computed with."""

    hours: float
    rate: str

    def __str__(self) -> str:
        return f"{self.rounded} H200-hours, computed at {self.rate}"

    @property
    def rounded(self) -> str:
        """Two digits: more are not known."""
        figure = float(f"{self.hours:.2g}")
        return f"{figure:,.0f}" if figure >= 10 else f"{figure:g}"


def gpu_hours(config: AnyConfig, step: Cost, steps: int, *, bf16: bool) -> Hours:
    """What ``steps`` optimizer steps take at :data:`REACHED`.

    fp32, whose convolutions are TF32's, counts with half of that, as the peaks have it: it was not
    measured.
    """
    trunk = config.model.trunk
    known = trunk if trunk in REACHED else min(REACHED, key=REACHED.__getitem__)
    rate = f"the {REACHED[known] / 1e12:.0f} TFLOP/s that one H200 reached"
    rate += "" if known == trunk else f" with {known}"
    if bf16:
        return Hours(step.flops * steps / REACHED[known] / 3600, rate)
    return Hours(2 * step.flops * steps / REACHED[known] / 3600, f"half {rate} in bf16")

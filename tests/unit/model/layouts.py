"""Files of weights as trainers write them, others and ours: names, nesting, small contents."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from pytorchvideo.models.resnet import create_resnet
from torch import Tensor, nn

from sce_video.config.load import dump_config, load_config
from sce_video.engine.checkpoint import Files, save
from sce_video.model.encoder import build_encoder, encoder_spec

Weights = dict[str, Tensor]

SLIM = ("model.trunk=resnet18_small", "model.width=4")

BUILD: dict[str, Callable[[], nn.Module]] = {
    "resnet18": torchvision.models.resnet18,
    "resnet50": torchvision.models.resnet50,
    "r2plus1d_18": torchvision.models.video.r2plus1d_18,
    "r3d_50": lambda: create_resnet(stem_conv_kernel_size=(1, 7, 7)),
}


@cache
def _shapes(name: str) -> Weights:
    with torch.device("meta"):
        build = BUILD.get(name) or getattr(torchvision.models, name)
        weights: Weights = build().state_dict()
    return weights


def weights(name: str, first: int = 0) -> Weights:
    """A network's tensors, each one number, from ``first`` on, wherever it is; takes no memory."""
    return {
        key: torch.tensor(first + i, dtype=t.dtype).expand(t.shape)
        for i, (key, t) in enumerate(_shapes(name).items())
    }


def under(prefix: str, tensors: Weights, but: str = "\0") -> Weights:
    """The tensors behind a prefix, without those that begin with ``but``."""
    return {prefix + key: t for key, t in tensors.items() if not key.startswith(but)}


R18, R50, R21, SLOW = map(weights, BUILD)
OTHER = weights("resnet18", 1000)  # of the encoder that is not taken
HEAD = {"head.0.weight": torch.ones(2, 2), "head.0.bias": torch.ones(2)}
QUEUE = {"queue": torch.ones(4, 8), "queue_ptr": torch.zeros(1).long()}
ADAM = {"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}


def two(first: str, second: str, *, of: Weights = R18) -> Weights:
    """Two encoders; the first is meant to be taken, though it comes last."""
    return {**under(second, OTHER, "fc"), **under(first, of, "fc")}


def blocks_wrapped(wrapper: str) -> Weights:
    """Each block of a ResNet in a module of torch's."""
    return {
        ".".join([*key.split(".")[:2], wrapper, *key.split(".")[2:]]) if "layer" in key else key: t
        for key, t in R18.items()
    }


# Name -> the file's content, the trunk that it holds and where; R18's and the like are expected.
OPEN: dict[str, tuple[Any, str, str]] = {
    "torchvision": (R21, "r2plus1d_18", ""),
    "ddp": (under("module.", R18), "resnet18", "module"),
    "compiled": (under("_orig_mod.", R18), "resnet18", ""),
    "ddp-compiled": (under("module._orig_mod.", R18), "resnet18", "module"),
    "fsdp": (
        under("_fsdp_wrapped_module.", blocks_wrapped("_fsdp_wrapped_module")),
        "resnet18",
        "",
    ),
    "recomputed": (blocks_wrapped("_checkpoint_wrapped_module"), "resnet18", ""),
    "moco-v2": (
        {
            "epoch": 800,
            "arch": "resnet18",
            "state_dict": {
                **under("module.encoder_k.", OTHER, "fc"),
                **under("module.encoder_q.", R18 | under("fc.", HEAD)),
                **under("module.", QUEUE),
            },
        },
        "resnet18",
        "state_dict.module.encoder_q",
    ),
    "moco-v3": (
        {"state_dict": two("module.base_encoder.", "module.momentum_encoder.")},
        "resnet18",
        "state_dict.module.base_encoder",
    ),
    "simsiam": (
        {"state_dict": under("module.encoder.", R50)},
        "resnet50",
        "state_dict.module.encoder",
    ),
    "swav": (
        {**under("module.", R18, "fc"), **under("module.projection_", HEAD)},
        "resnet18",
        "module",
    ),
    "barlow-twins": (
        {"model": under("module.backbone.", R18, "fc"), "optimizer": ADAM},
        "resnet18",
        "model.module.backbone",
    ),
    "dino": (
        {
            "student": under("module.backbone.", OTHER, "fc"),
            "teacher": {**under("backbone.", R18, "fc"), **HEAD},
        },
        "resnet18",
        "teacher.backbone",
    ),
    "byol": (
        {"online_network_state_dict": R18, "target_network_state_dict": OTHER},
        "resnet18",
        "online_network_state_dict",
    ),
    "byol-flat": (two("online_network.", "target_network."), "resnet18", "online_network"),
    "pixpro": (
        {"model": two("module.encoder.", "module.encoder_k.")},
        "resnet18",
        "model.module.encoder",
    ),
    "solo": (
        {"state_dict": two("backbone.", "momentum_backbone.")},
        "resnet18",
        "state_dict.backbone",
    ),
    "lightly": (
        {"state_dict": two("backbone.", "backbone_momentum.")},
        "resnet18",
        "state_dict.backbone",
    ),
    "lightning": (
        {
            "epoch": 3,
            "global_step": 9,
            "pytorch-lightning_version": "2.5.0",
            "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.ones(())}},
            "hyper_parameters": {"lr": 0.1, "betas": (0.9, 0.99), "name": None},
            "loops": {"fit_loop": {"state_dict": {}}},
            "lr_schedulers": [{"last_epoch": 3}],
            "optimizer_states": [ADAM],
            "state_dict": under("net.backbone.", R18, "fc") | under("projector.", HEAD),
        },
        "resnet18",
        "state_dict.net.backbone",
    ),
    "deepspeed": (
        {"module": R21, "optimizer": None, "ds_version": "0.19", "dtype": torch.float16},
        "r2plus1d_18",
        "module",
    ),
    "ema-beside": ({"state_dict": R18, "state_dict_ema": OTHER}, "resnet18", "state_dict"),
    "references": (
        {"model": R18, "model_ema": under("module.", OTHER) | {"n_averaged": torch.tensor(5)}},
        "resnet18",
        "model",
    ),
    "eztorch": (
        {"state_dict": two("trunk.model.", "momentum_trunk.model.", of=SLOW)},
        "r3d_50",
        "state_dict.trunk.model",
    ),
    "eztorch-trunk": ({"state_dict": under("trunk.", R18)}, "resnet18", "state_dict.trunk"),
    "pytorchvideo": ({"model_state": SLOW}, "r3d_50", "model_state"),
    "vissl": (
        {
            "phase_idx": 99,
            "classy_state_dict": {
                "base_model": {
                    "model": {"trunk": under("_feature_blocks.", R50, "fc"), "heads": HEAD}
                }
            },
        },
        "resnet50",
        "classy_state_dict.base_model.model.trunk._feature_blocks",
    ),
    "openmmlab": (
        {
            "meta": {"epoch": 200},
            "state_dict": under("backbone.", R18, "fc") | under("neck.", HEAD),
        },
        "resnet18",
        "state_dict.backbone",
    ),
    "half": ({key: t.half() if t.dim() else t for key, t in R18.items()}, "resnet18", ""),
    "old": ({k: t for k, t in R18.items() if "num_batches" not in k}, "resnet18", ""),
    "list": ([HEAD, under("visual.", R18)], "resnet18", "1.visual"),
}


def expected(layout: str) -> Weights:
    """The tensors of the trunk (and its classifier) that a layout is to give."""
    whole = weights(OPEN[layout][1])
    return {key: t.half() if layout == "half" and t.dim() else t for key, t in whole.items()}


def make_run(run: Path, config: str, keys: tuple[str, ...], prefixes: tuple[str, ...]) -> Path:
    """A run's folder with a checkpoint of random trunks behind the prefixes; returns that."""
    made = load_config(config, keys)
    tensors = {"objective.queue": torch.zeros(2, 8), "online.projector.0.weight": torch.ones(2, 2)}
    for prefix in prefixes:
        trunk = build_encoder(encoder_spec(made))
        tensors |= {f"{prefix}.{key}": t.contiguous() for key, t in trunk.state_dict().items()}
    files: Files = {"model.safetensors": tensors, "optimizer.safetensors": {}}
    save(run / "checkpoints", files, {"step": 500, "run_id": "abc", "data": "1" * 64}, keep=1)
    (run / "config.yaml").write_text(dump_config(made))
    return run / "checkpoints" / "step-00000500"

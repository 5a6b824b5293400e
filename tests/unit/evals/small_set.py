"""A small shard set of made videos, and encoders and classifiers with random weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import nn

from sce_video.config import SupervisedConfig, dump_config
from sce_video.model.classifier import CLASSIFIER_NAME, Classifier, save_classifier
from sce_video.model.encoder import EncoderSpec, build_encoder, save_encoder
from sce_video.shard.__main__ import main as shard
from tests.videos import moving_square, write_video

CLASSES = ("Archery", "Bowling", "Diving")
SPEC = EncoderSpec(
    trunk="r2plus1d_18_small",
    width=4,
    frames=2,
    seconds=0.6,
    size=16,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
)
FEW = ["--clips", "2", "--workers", "0"]  # x 3 crops


def make_set(root: Path, each: int = 6) -> Path:
    """``ROOT/shards``: ``each`` videos of three classes; two lists, each a third of them test."""
    lines = ["path,label,split"]
    for number in range(3 * each):
        write_video(root / "raw" / f"v{number}.mp4", moving_square(24, seed=number), fps=12)
        split = "test" if number % each < each // 3 else "train"
        lines.append(f"v{number}.mp4,{CLASSES[number // each]},{split}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    command = ["folder", "--root", str(root / "raw"), "--csv", str(root / "list.csv")]
    assert shard([*command, "--out", str(root / "shards"), "--workers", "1"]) == 0
    return root / "shards"


@cache
def _trunk() -> nn.Module:
    """A trunk whose BN knows its input, so that videos differ; to build one costs 0.3 s."""
    torch.manual_seed(0)
    trunk = build_encoder(SPEC).train()
    with torch.no_grad():
        for _ in range(10):
            trunk(torch.randn(4, 3, 2, 18, 18))
    return trunk


def random_encoder(folder: Path) -> Path:
    """A run's folder with an encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_encoder(folder / "encoder.safetensors", _trunk(), SPEC)
    return folder


def random_run(
    folder: Path,
    shards: Path,
    split: str | None = "train",
    classes: tuple[str, ...] = CLASSES,
    seed: int = 0,
) -> Path:
    """What ``test`` takes of a finished run: a classifier and the configuration."""
    random_encoder(folder)
    torch.manual_seed(seed)
    module = Classifier(_trunk(), len(classes), dropout=0.5)
    torch.nn.init.normal_(module.linear.weight)
    if seed < 0:  # diverged
        module.linear.bias.data[0] = float("nan")
    save_classifier(folder / CLASSIFIER_NAME, module, SPEC, classes, "linear")
    clip = {"frames": 2, "seconds": 0.6, "size": 16}
    config = SupervisedConfig.model_validate(
        {
            "task": "linear",
            "data": {"shards": str(shards), "split": split},
            "clip": clip,
            "augment": {"recipe": "video_linear"},
        }
    )
    (folder / "config.yaml").write_text(dump_config(config))
    return folder

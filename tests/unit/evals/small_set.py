"""Small shard sets of made videos, encoders and classifiers with random weights, features."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from sce_video.config.load import dump_config
from sce_video.config.tasks import SupervisedConfig
from sce_video.engine.runtime import Runtime
from sce_video.evals.kept import FEATURES_NAME, ROWS_NAME
from sce_video.evals.request import Request
from sce_video.evals.views import eval_views
from sce_video.model.classifier import CLASSIFIER_NAME, Classifier, save_classifier
from sce_video.model.encoder import EncoderSpec, build_encoder, save_encoder
from sce_video.model.weights import open_encoder
from sce_video.shard.__main__ import main as shard
from sce_video.shardset.index import open_shards
from tests.videos import moving_square, write_video

VIDEOS = 18
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


def make_other_set(root: Path, classes: tuple[str, ...], renamed: str = "") -> Path:
    """``ROOT/NAME``: of the videos of ``ROOT/shards`` those of some classes, so other numbers.

    ``renamed``: what the last of them is called there.
    """
    name = "-".join(classes) + renamed
    lines = (root / "list.csv").read_text().splitlines()
    kept = [line for line in lines[1:] if line.split(",")[1] in classes]
    if renamed:
        kept = [line.replace(f",{classes[-1]},", f",{renamed},") for line in kept]
    (root / f"{name}.csv").write_text("\n".join([lines[0], *kept]) + "\n")
    command = ["folder", "--root", str(root / "raw"), "--csv", str(root / f"{name}.csv")]
    assert shard([*command, "--out", str(root / name), "--workers", "1"]) == 0
    return root / name


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


def request_for(root: Path, split: str | None = None) -> Request:
    """Features of ``ROOT/shards`` by the encoder of ``ROOT/run``; two videos a batch."""
    encoder = open_encoder(root / "run")
    views = eval_views(encoder.spec, 8, 3, None)
    index = open_shards(root / "shards")
    return Request(encoder, index, str(root / "shards"), split, views, torch.device("cpu"))


def rank(number: int, ranks: int) -> Runtime:
    return Runtime(number, ranks, torch.device("cpu"))


def bits(folder: Path) -> tuple[bytes, bytes]:
    """A folder of features as bytes."""
    return (folder / FEATURES_NAME).read_bytes(), (folder / ROWS_NAME).read_bytes()


def blobs(seed: int, n: int = 60) -> tuple[Tensor, Tensor]:
    """Features of four classes around their centres ``[n,8]``, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (n,), generator=generator)
    centres = torch.randn(4, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    noise = torch.randn(n, 8, generator=generator, dtype=torch.float64)
    return centres[labels] + noise, labels

"""A folder in which the pages' commands find what they name: raw data, sets, runs; all small."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

import torch
import webdataset
from PIL import Image

from sce_video.cli import main
from sce_video.config.load import dump_config
from sce_video.config.tasks import PretrainConfig, SupervisedConfig
from sce_video.engine.checkpoint import save
from sce_video.engine.pretrain import build_siamese
from sce_video.model.classifier import CLASSIFIER_NAME, Classifier, save_classifier
from sce_video.model.encoder import EncoderSpec, build_encoder
from tests.conftest import REPOSITORY
from tests.unit.shard.layouts import put_text
from tests.videos import moving_square, write_video

CLASSES = ("Archery", "Biking")
SPLITS = (1, 2, 3)
CLIP = {"frames": 2, "seconds": 0.4, "size": 16}
EACH = 6  # videos a class


def make_workplace(root: Path) -> Path:
    """Raw data in ``data``, ``my_videos``, ``their_tars``; ``shards``, ``runs``; the checkout."""
    for name in ("sce_video", "configs", "tests"):
        (root / name).symlink_to(REPOSITORY / name)
    _raw(root / "data")
    _own(root)
    raw = root / "data"
    for name in ("ucf101", "hmdb51"):
        _shard(name, raw / name, root)
    _shard("kinetics400", raw / "k400", root)
    _shard("folder", root / "my_videos", root, "mine")
    _pretrained(root / "runs/ucf")
    (root / "runs/mine").mkdir()
    encoder = (root / "runs/ucf/encoder.safetensors").read_bytes()
    (root / "runs/mine/encoder.safetensors").write_bytes(encoder)
    for name, data, split in (
        ("ucf_finetune", "ucf101", "split1:train"),
        *((f"ft_{n}", "ucf101", f"split{n}:train") for n in SPLITS),
        *((n, "ucf101", "split1:train") for n in ("a", "b", "c")),
        ("k400_linear", "kinetics400", "train"),
    ):
        _labelled(root / "runs" / name, root / "shards" / data, split)
    return root


def _shard(name: str, raw: Path, root: Path, out: str | None = None) -> None:
    folder = root / "shards" / (out or name)
    assert main(["shard", name, "--root", str(raw), "--out", str(folder), "--workers", "1"]) == 0


def _video(path: Path, seed: int) -> None:
    codec = "mpeg4" if path.suffix == ".avi" else "libx264"
    write_video(path, moving_square(12, 32, 40, seed=seed), codec=codec)


def _raw(root: Path) -> None:
    """UCF101, HMDB51, Kinetics and ImageNet in their makers' layouts."""
    numbered = [(c, n) for c, n in product(CLASSES, range(1, EACH + 1))]
    index = [f"{i + 1} {name}" for i, name in enumerate(CLASSES)]
    put_text(root / "ucf101/ucfTrainTestlist", "classInd.txt", index)
    names = [f"{c}/v_{c}_g01_c0{n}.avi" for c, n in numbered]
    for seed, name in enumerate(names):
        _video(root / "ucf101/UCF-101" / name, seed)
        _video(root / "hmdb51" / name, seed)
    for split in SPLITS:
        lists: dict[str, list[str]] = {"train": [], "test": []}
        for (label, number), name in zip(numbered, names, strict=True):
            test = number % 3 == split - 1
            lists["test" if test else "train"].append(
                name if test else f"{name} {1 + CLASSES.index(label)}"
            )
        for kind, lines in lists.items():
            put_text(root / "ucf101/ucfTrainTestlist", f"{kind}list0{split}.txt", lines)
        for label in CLASSES:
            lines = [
                f"v_{label}_g01_c0{n}.avi {2 if n % 3 == split - 1 else 1} "
                for n in range(1, EACH + 1)
            ]
            folder = root / "hmdb51/testTrainMulti_7030_splits"
            put_text(folder, f"{label}_test_split{split}.txt", lines)
    header = "label,youtube_id,time_start,time_end,split,is_cc"
    for split_name in ("train", "val"):
        lines = []
        for seed, label in enumerate(CLASSES):
            _video(root / f"k400/{split_name}/{split_name}{seed}_000000_000010.mp4", seed)
            lines.append(f"{label},{split_name}{seed},0,10,{split_name},0")
        put_text(root / "k400/annotations", f"{split_name}.csv", [header, *lines])
        for wnid in ("n01440764", "n01443537"):
            folder = root / "imagenet" / split_name / wnid
            folder.mkdir(parents=True)
            Image.fromarray(moving_square(1, 32, 40)[0]).save(folder / f"{split_name}.JPEG")


def _own(root: Path) -> None:
    """``my_videos/CLASS/*``, lists of them, tars of others, a query, a list of classes."""
    with (root / "list.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label"])
        for seed, (label, number) in enumerate(product(CLASSES, range(EACH))):
            _video(root / f"my_videos/{label}/{number}.mp4", seed)
            table.writerow([f"{label}/{number}.mp4", label])
    for number, name in enumerate(("train.csv", "val.csv")):
        put_text(root, name, [f"{CLASSES[0]}/{number}.mp4 0", f"{CLASSES[1]}/{number}.mp4 1"])
    video = (root / "my_videos/Archery/0.mp4").read_bytes()
    (root / "my_video.mp4").write_bytes(video)
    put_text(root, "mini_kinetics_200.txt", [CLASSES[0]])
    (root / "their_tars").mkdir()
    pattern = str(root / "their_tars/other-%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=9, verbose=0) as writer:
        writer.write({"__key__": "a", "mp4": video, "cls": 1})


def _pretrained(folder: Path) -> None:
    """What a slim pretraining leaves that was stopped after step 500."""
    tree = {
        "data": {"shards": "shards/ucf101", "split": "split1:train"},
        "clip": CLIP,
        "model": {
            "trunk": "r2plus1d_18_small",
            "width": 4,
            "projector": {"hidden": 8, "dim": 4},
            "predictor": None,
        },
        "objective": {"queue": 16},
        "train": {"batch_size": 6},
    }
    config = PretrainConfig.model_validate(tree)
    torch.manual_seed(0)
    siamese = build_siamese(config, None, samples=9, epoch_steps=1)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(config))
    files = {"model.safetensors": siamese.state_dict(), "optimizer.safetensors": {}}
    save(folder / "checkpoints", files, {"step": 500, "run_id": "abc", "data": "1" * 64}, keep=9)
    assert main(["export", str(folder)]) == 0


def _labelled(folder: Path, shards: Path, split: str) -> None:
    """What a run of ``task: linear`` leaves."""
    mean, std = (0.45,) * 3, (0.225,) * 3
    spec = EncoderSpec(
        trunk="r2plus1d_18_small", width=4, frames=2, seconds=0.4, size=16, mean=mean, std=std
    )
    module = Classifier(build_encoder(spec), len(CLASSES), dropout=0.5)
    tree = {
        "task": "linear",
        "data": {"shards": str(shards), "split": split},
        "clip": CLIP,
        "augment": {"recipe": "video_linear"},
    }
    folder.mkdir(parents=True)
    save_classifier(folder / CLASSIFIER_NAME, module, spec, CLASSES, "linear")
    (folder / "config.yaml").write_text(dump_config(SupervisedConfig.model_validate(tree)))

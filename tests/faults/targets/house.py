"""Good inputs, made once by the package's own writers: sets, a run with all that it leaves."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image

from sce_video.config.load import dump_config
from sce_video.config.tasks import PretrainConfig, SupervisedConfig
from sce_video.engine.checkpoint import save
from sce_video.engine.pretrain import build_siamese
from sce_video.engine.runtime import Runtime
from sce_video.evals.embed import features_of
from sce_video.evals.request import Request
from sce_video.evals.search import build_index
from sce_video.evals.views import eval_views
from sce_video.model.classifier import CLASSIFIER_NAME, Classifier, save_classifier
from sce_video.model.encoder import EncoderSpec, build_encoder, save_encoder
from sce_video.model.weights import open_encoder
from sce_video.shard.__main__ import main as shard
from sce_video.shardset.index import open_shards
from tests.report_run import write_metrics, write_results, write_retrieval
from tests.videos import moving_square, write_video

CLASSES = ("Archery", "Biking")
EACH = 3  # videos a class, the last one a query
FRAMES = 12
SPEC = EncoderSpec(
    trunk="r3d_18",
    width=4,
    frames=2,
    seconds=0.2,
    size=16,
    mean=(0.45,) * 3,
    std=(0.225,) * 3,
)
_CLIP = {"frames": SPEC.frames, "seconds": SPEC.seconds, "size": SPEC.size}


class House:
    """A folder of good inputs, each made when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def give(self, folder: Path, *names: str) -> None:
        """Copy some of :attr:`root` into a target's folder, under the same names."""
        for name in names:
            source, copy = self.root / name, folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy, dirs_exist_ok=True)
            else:
                shutil.copy(source, copy)

    @cached_property
    def raw(self) -> Path:
        """``raw/CLASS/N.mp4`` and ``list.csv`` beside it."""
        lines = ["path,label,split"]
        for seed in range(len(CLASSES) * EACH):
            name = f"{CLASSES[seed // EACH]}/{seed}.mp4"
            split = "test" if seed % EACH == EACH - 1 else "train"
            write_video(self.root / "raw" / name, moving_square(FRAMES, 32, 40, seed=seed))
            lines.append(f"{name},{CLASSES[seed // EACH]},{split}")
        (self.root / "list.csv").write_text("\n".join(lines) + "\n")
        return self.root / "raw"

    @cached_property
    def shards(self) -> Path:
        """A set of these videos, ``shards``."""
        return self._set(self.raw, "shards", "--csv", str(self.root / "list.csv"))

    @cached_property
    def images(self) -> Path:
        """A set of images, ``images``: a JPEG and a PNG."""
        for number, suffix in enumerate(("jpg", "png")):
            path = self.root / f"pictures/{CLASSES[number]}/{number}.{suffix}"
            path.parent.mkdir(parents=True)
            Image.fromarray(moving_square(1, 32, 40, seed=number)[0]).save(path)
        return self._set(self.root / "pictures", "images")

    def _set(self, raw: Path, name: str, *options: str) -> Path:
        out = self.root / name
        command = ["folder", "--root", str(raw), "--out", str(out), "--workers", "1", *options]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if shard(command):
                raise RuntimeError(printed.getvalue())
        return out

    @cached_property
    def encoder(self) -> Path:
        """``run/encoder.safetensors``, of a trunk whose BN knows its input."""
        torch.manual_seed(0)
        trunk = build_encoder(SPEC).train()
        with torch.no_grad():
            for _ in range(3):
                trunk(torch.randn(4, 3, 2, 18, 18))
        path = self.root / "run/encoder.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_encoder(path, trunk, SPEC)
        return path

    @cached_property
    def checkpoints(self) -> Path:
        """``run/checkpoints`` and ``run/config.yaml`` of a pretraining."""
        tree = {
            "data": {"shards": "shards", "split": "train", "workers": 0},
            "clip": _CLIP,
            "model": {
                "trunk": SPEC.trunk,
                "width": SPEC.width,
                "projector": {"hidden": 8, "dim": 4},
                "predictor": None,
            },
            "objective": {"queue": 16},
            "train": {"batch_size": 2},
        }
        config = PretrainConfig.model_validate(tree)
        torch.manual_seed(0)
        siamese = build_siamese(config, None, samples=4, epoch_steps=1)
        learned = ((n, p) for n, p in siamese.named_parameters() if p.requires_grad)
        moments = {f"{name}/momentum_buffer": p.detach().clone() for name, p in learned}
        files = {"model.safetensors": siamese.state_dict(), "optimizer.safetensors": moments}
        state = {
            "run_id": "0123abcd",
            "consumed": 4,
            "data_cpu": 1.5,
            "data": open_shards(self.shards).digest,
            "config": config.model_dump(mode="json"),
            "ranks": 1,
        }
        folder = self.root / "run/checkpoints"
        folder.mkdir(parents=True)
        (self.root / "run/config.yaml").write_text(dump_config(config))
        for step in (1, 2):
            save(folder, files, {"step": step, **state}, keep=9)
        return folder

    @cached_property
    def labelled(self) -> Path:
        """``labelled``: a run of task linear."""
        folder = self.root / "labelled"
        folder.mkdir()
        torch.manual_seed(0)
        module = Classifier(build_encoder(SPEC), len(CLASSES), dropout=0.5)
        save_classifier(folder / CLASSIFIER_NAME, module, SPEC, CLASSES, "linear")
        tree = {
            "task": "linear",
            "data": {"shards": "shards", "split": "train"},
            "clip": _CLIP,
            "augment": {"recipe": "video_linear"},
        }
        (folder / "config.yaml").write_text(dump_config(SupervisedConfig.model_validate(tree)))
        return folder

    def request(self, folder: Path | None = None, split: str | None = None) -> Request:
        """Features of ``shards`` by ``run/encoder.safetensors``, both in a folder."""
        root = folder or self.root
        encoder = open_encoder(root / "run/encoder.safetensors")
        views = eval_views(SPEC, 2, 1, None)
        device = torch.device("cpu")
        return Request(encoder, open_shards(root / "shards"), "shards", split, views, device)

    @cached_property
    def search(self) -> Path:
        """``run/features`` and ``run/search``, of the train list, with paths from :attr:`root`."""
        self.encoder, self.shards  # noqa: B018  (made)
        request, folder = self.request(split="train"), self.root / "run/search"
        with contextlib.redirect_stderr(io.StringIO()):
            features = features_of([request], Runtime(0, 1, torch.device("cpu")))
        assert features is not None
        build_index(folder, request, features[0], None)
        protocol = json.loads((folder / "search.json").read_text())
        protocol["encoder"] = "run/encoder.safetensors"
        (folder / "search.json").write_text(json.dumps(protocol))
        return folder

    @cached_property
    def results(self) -> Path:
        """``page``: a run with metrics and results of all kinds."""
        folder = self.root / "page"
        write_metrics(folder)
        write_retrieval(folder, self.shards)
        write_results(folder)
        path = folder / "retrieval/retrieval.json"
        path.write_text(path.read_text().replace(str(self.shards), "shards"))
        (folder / "test/mean.json").write_text(
            json.dumps({"top1": {"mean": 0.5, "std": 0.1}, "runs": ["a", "b"], "protocol": {}})
        )
        (folder / "run.log").write_text("2026-01-01 10:00:00,000 INFO: this run\n  model x\n")
        return folder

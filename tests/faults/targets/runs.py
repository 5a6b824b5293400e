"""Readers of what runs leave: configurations, checkpoints, metrics, locks."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch

from sce_video.config.load import dump_config, load_config, load_pretraining
from sce_video.engine import checkpoint
from sce_video.engine.checkpoint import newest
from sce_video.engine.pretrain import build_siamese
from sce_video.engine.resume import find_resume, nothing_to_do
from sce_video.engine.run_folder import RunFolder
from sce_video.engine.status import StatusFile, is_alive, read_status
from sce_video.engine.track import read_metrics
from sce_video.engine.zero_layout import Segment
from sce_video.errors import complain
from sce_video.export import export_encoder
from sce_video.files import read_plain
from sce_video.lock import Lock
from sce_video.model.weights import open_encoder
from sce_video.stream.data import open_data
from tests.faults.mutators.dice import one_of
from tests.faults.mutators.tensors import tensor_file
from tests.faults.mutators.text import json_text, jsonl_text, lines_text, yaml_text
from tests.faults.targets.house import House
from tests.faults.targets.target import Target

_STEP = "run/checkpoints/step-00000002"


def _make_config(house: House, folder: Path) -> None:
    house.give(folder, "shards" if house.shards else "")
    config = load_config("pretrain/sce_k400_r2plus1d_18.yaml")
    (folder / "whole.yaml").write_text(dump_config(config))
    (folder / "own.yaml").write_text(
        "data:\n  shards: shards\n  split: train\nclip: {frames: 2, seconds: 0.2, size: 16}\n"
        "train:\n  batch_size: 2\n  epochs: 3\nobjective:\n  name: sce\n  queue: 16\n"
    )
    (folder / "line").write_text("data.shards: shards\n")


_WORD = 1 << 17  # bytes of a word of a command line


def _read_config(folder: Path, place: str) -> None:
    path = folder / place
    if path.suffix:
        config = load_config(str(path))
    else:
        data = read_plain(path, limit=_WORD)  # no command line has a longer one
        text = data.decode(errors="surrogateescape").rstrip("\n")
        config = load_config(str(folder / "own.yaml"), [text.replace(": ", "=", 1)])
    dump_config(config)
    if config.data.shards == "shards":
        open_data(config, 0, 1)


def _make_run(house: House, folder: Path) -> None:
    house.encoder, house.shards, house.checkpoints  # noqa: B018  (made)
    house.give(folder, "shards", "run/config.yaml", "run/checkpoints")
    (folder / "run/status.json").write_text(json.dumps({"state": "interrupted", "step": 2}))
    rows = [{"step": step, "train/loss": 0.5} for step in (1, 2, 3)]
    (folder / "run/metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _seal_checkpoint(folder: Path, place: str) -> None:
    """Have a checkpoint's manifest name what is there."""
    path = folder / _STEP / "manifest.json"
    if folder / place == path or not place.startswith(_STEP):
        return
    sums = json.loads(path.read_text())
    name = Path(place).name
    sums[name] = hashlib.sha256((folder / place).read_bytes()).hexdigest()
    path.write_text(json.dumps(sums))


def _resume(folder: Path, place: str) -> None:
    """As a run that goes on, up to where weights are loaded."""
    run = RunFolder(folder / "run")
    config = load_config(str(folder / "run/config.yaml"))
    if config.data.shards != "shards":
        return
    config = config.model_copy(update={"run": config.run.model_copy(update={"resume": "auto"})})
    run.check("auto")
    read_metrics(run.path)
    read_status(run.path)
    _, plan = open_data(config, 0, 1)
    resume = find_resume(run, config, plan)
    if resume:
        nothing_to_do(run, resume, 9)
        for line in (*resume.changes, *resume.passed_over):
            complain(line)
    StatusFile(run.path).refuse("nothing")


def _restore(folder: Path, place: str) -> None:
    """What a run that goes on loads into its network, of one rank without ZeRO."""
    config = load_pretraining(str(folder / "run/config.yaml"))
    saved, _ = newest(folder / "run/checkpoints")
    siamese = build_siamese(config, None, samples=4, epoch_steps=1)
    engine = SimpleNamespace(module=siamese, zero_optimization_stage=lambda: 0, device="cpu")
    learned = {name: p for name, p in siamese.named_parameters() if p.requires_grad}
    engine.optimizer = torch.optim.SGD(learned.values(), momentum=0.9)
    segments = [Segment(name, p, 0, 0, p.numel()) for name, p in learned.items()]
    with patch.object(checkpoint, "gathered", lambda *_, **__: nullcontext()):  # imports deepspeed
        checkpoint.restore(engine, segments, saved)


def _take_weights(folder: Path, place: str) -> None:
    newest(folder / "run/checkpoints")
    export_encoder(folder / "run", folder / "out.safetensors")
    complain(open_encoder(folder / _STEP).note)


def _make_lock(house: House, folder: Path) -> None:
    lock = Lock(folder / "lock")
    with lock:
        text = (folder / "lock").read_text()
    holder = json.loads(text)
    (folder / "lock").write_text(json.dumps({**holder, "pid": 1, "system": "elsewhere"}))


def _read_lock(folder: Path, place: str) -> None:
    if os.path.lexists(folder / "lock"):
        os.utime(folder / "lock", (1, 1), follow_symlinks=False)
    is_alive(folder)
    with Lock(folder / "lock"):
        pass


TARGETS = (
    Target(
        "config",
        _make_config,
        {"whole.yaml": yaml_text, "own.yaml": yaml_text, "line": one_of(yaml_text, lines_text)},
        _read_config,
        share=4,
    ),
    Target(
        "run that goes on",
        _make_run,
        {
            "run/config.yaml": yaml_text,
            "run/status.json": json_text,
            "run/metrics.jsonl": jsonl_text,
            f"{_STEP}/state.json": json_text,
            f"{_STEP}/manifest.json": json_text,
        },
        _resume,
        _seal_checkpoint,
        share=4,
    ),
    Target(
        "checkpoint",
        _make_run,
        {
            "run/config.yaml": yaml_text,
            f"{_STEP}/model.safetensors": tensor_file,
            f"{_STEP}/manifest.json": json_text,
        },
        _take_weights,
        _seal_checkpoint,
    ),
    Target(
        "checkpoint that is loaded",
        _make_run,
        {f"{_STEP}/{name}.safetensors": tensor_file for name in ("model", "optimizer")},
        _restore,
        _seal_checkpoint,
    ),
    Target("lock", _make_lock, {"lock": json_text}, _read_lock, share=1),
)

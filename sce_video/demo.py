"""The demo: the whole path on videos it makes itself, in minutes on two CPU cores."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sce_video.config.load import configs_folder, load_pretraining
from sce_video.config.tasks import PretrainConfig
from sce_video.engine.track import read_metrics
from sce_video.errors import SceVideoError, UsageError
from sce_video.files import write_whole
from sce_video.lock import LOCK_NAME, Lock
from sce_video.progress import Progress
from sce_video.shard.convert import convert
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Options, find_source
from sce_video.shard.sources.demo import CLASSES, TEST_PER_CLASS, TRAIN_PER_CLASS, render_set
from sce_video.terminal import say
from sce_video.train import train

if TYPE_CHECKING:
    from torch import Tensor

    from sce_video.evals.features import Features

_MARKER = ".sce-video-demo"  # a folder with this file is the demo's own, and may be replaced

_VIDEOS = len(CLASSES) * (TRAIN_PER_CLASS + TEST_PER_CLASS)
_CLIPS = 3  # evaluation clips a video, one centre crop each
_NEIGHBOURS = 10  # of kNN
_COLUMNS = ("R@1", "kNN")


def demo_config(out: Path, seed: int, overrides: Sequence[str]) -> PretrainConfig:
    """``configs/demo.yaml`` for a run in ``out``, with ``key=value`` overrides.

    Raises:
        UsageError: as :func:`sce_video.config.load.load_config`.
    """
    own = [f"run.dir={out}", f"run.seed={seed}", f"data.shards={out / 'shards'}"]
    return load_pretraining(str(configs_folder() / "demo.yaml"), [*own, *overrides])


def explain(out: Path, config: PretrainConfig) -> list[str]:
    """What :func:`run` would do, a step a line."""
    model, epochs = config.model, config.train.epochs
    return [
        f"config   {configs_folder() / 'demo.yaml'}",
        f"render   {_VIDEOS} videos of {len(CLASSES)} classes into {out / 'raw'}",
        f"shard    {out / 'raw'} into {out / 'shards'}",
        f"train    {model.trunk} width {model.width}, {epochs} epochs",
        f"compare  chance, raw pixels, untrained and trained trunk; {out / 'report.html'}",
    ]


def run(out: Path, seed: int, config: PretrainConfig) -> dict[str, Any]:
    """The demo itself; returns what ``results.json`` holds.

    Args:
        out: folder, absent or the demo's own; replaced.
        seed: of the videos.
        config: of the training; ``run.dir`` is ``out``.

    Raises:
        UsageError: it is somebody else's, or another demo is writing it.
    """
    # Beside the folder, which is replaced.
    with Lock(out.absolute().with_name(f"{out.name}.{LOCK_NAME}"), guarded=out):
        return _run(out, seed, config)


def _run(out: Path, seed: int, config: PretrainConfig) -> dict[str, Any]:
    began, used = time.monotonic(), _cpu()
    _claim(out)
    _make_shards(out, seed)
    train(config, claimed=True)
    results = _compare(out, config)
    # The loader's workers are no children of ours.
    cpu = _cpu() - used + read_metrics(out)[-1]["time/data_cpu"]
    wall = time.monotonic() - began
    results["notes"].append(f"{wall:.0f} s wall, {cpu:.0f} s CPU, everything included")
    write_whole(out / "results.json", json.dumps(results, indent=1).encode())

    from sce_video.report import write_report

    page = write_report([out])
    say(*_table(results), page, f"{wall:.0f} s wall, {cpu:.0f} s CPU")
    return results


def _claim(out: Path) -> None:
    """An empty folder with our mark; only a folder that has it is replaced."""
    if out.exists():
        if not out.is_dir():
            raise UsageError(f"{out}: is a file; give a folder with --out")
        if any(out.iterdir()) and not (out / _MARKER).is_file():
            raise UsageError(f"{out}: not made by the demo; give another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / _MARKER).write_text("made by sce-video demo, which may replace this folder\n")


def _make_shards(out: Path, seed: int) -> None:
    with Progress(_VIDEOS, "rendered") as bar:
        render_set(
            out / "raw",
            seed=seed,
            train_per_class=TRAIN_PER_CLASS,
            test_per_class=TEST_PER_CLASS,
            progress=bar.update,
        )
    plan = make_plan(find_source("demo").scan("demo", out / "raw", Options()), Settings("demo"))
    with Progress(_VIDEOS, "sharded") as bar:
        convert(
            plan,
            out / "shards",
            workers=os.cpu_count() or 1,
            on_progress=lambda state: bar.update(state.samples + state.rejected),
        )


def _compare(out: Path, config: PretrainConfig) -> dict[str, Any]:
    """Retrieval and kNN of raw pixels, the untrained and the trained trunk."""
    import torch
    from torch import nn

    from sce_video.engine.clip_task import fresh_trunk
    from sce_video.evals.bank import BankAndQueries
    from sce_video.evals.features import extract
    from sce_video.evals.request import Request
    from sce_video.evals.retrieval import write_retrieval
    from sce_video.evals.views import eval_views
    from sce_video.model.weights import open_encoder
    from sce_video.shardset.index import open_shards

    trained = open_encoder(out)
    trunks = [nn.Flatten(), fresh_trunk(config).eval(), trained.trunk]

    def side_by_side(clips: Tensor) -> Tensor:
        return torch.cat([trunk(clips) for trunk in trunks], 1)

    index, spec = open_shards(out / "shards"), trained.spec
    views = eval_views(spec, _CLIPS, 1, config.shape.size)
    request = Request(trained, index, str(out / "shards"), None, views, torch.device("cpu"))
    bank, queries = (
        extract(side_by_side, spec, index, index.rows(split), views, workers=1, title=title)
        for title, split in (("bank", "train"), ("queries", "test"))
    )
    rows: list[dict[str, Any]] = [{"name": "chance", **_chance(bank, queries)}]
    width = int(trained.trunk.features)  # type: ignore[arg-type]
    parts = (_columns(found, width) for found in (bank, queries))
    names = ("raw pixels", "untrained trunk", "trained trunk")
    for name, bank, queries in zip(names, *parts, strict=True):
        rows.append({"name": name, **_score(bank, queries)})
    protocol = {**request.protocol(), "bank": "train", "queries": "test"}
    # The gallery shows the trained trunk's, which came last.
    write_retrieval(out / "retrieval", BankAndQueries(index, bank, queries, protocol))
    return {
        "title": "Is the trained trunk better than none?",
        "columns": list(_COLUMNS),
        "rows": rows,
        "notes": [
            f"{len(queries.rows)} held-out videos as queries, {len(bank.rows)} training videos as "
            "bank; labels were not used in training",
        ],
    }


def _columns(found: Features, width: int) -> list[Features]:
    """Features of two trunks of the same width, and of what stands before them, by themselves."""
    import torch

    first = found.values.shape[1] - 2 * width
    parts = torch.split(found.values, [first, width, width], dim=1)
    return [replace(found, values=part.contiguous()) for part in parts]


def _score(bank: Features, queries: Features) -> dict[str, float]:
    from sce_video.evals.accuracy import top_k_accuracy
    from sce_video.evals.knn import knn_predict
    from sce_video.evals.retrieval import prepare, retrieve

    result = retrieve(queries.values, queries.labels, bank.values, bank.labels)
    scores = knn_predict(prepare(queries.values), prepare(bank.values), bank.labels, k=_NEIGHBOURS)
    return {"R@1": result.recall[1], "kNN": top_k_accuracy(scores, queries.labels, 1)}


def _chance(bank: Features, queries: Features) -> dict[str, float]:
    """Expected hit of a bank item drawn at random; of kNN, of a class so drawn."""
    share: Tensor = (bank.labels[None, :] == queries.labels[:, None]).double().mean()
    return dict.fromkeys(_COLUMNS, share.item())


def _cpu() -> float:
    """CPU seconds of this process so far, and of its finished children."""
    return sum(os.times()[:4])


def _table(results: dict[str, Any]) -> list[str]:
    lines = [f"{'':<18}" + "".join(f"{column:>8}" for column in results["columns"])]
    for row in results["rows"]:
        values = "".join(f"{row[column]:>8.3f}" for column in results["columns"])
        lines.append(f"{row['name']:<18}{values}")
    return lines


def study(out: Path, seeds: int, overrides: Sequence[str]) -> None:
    """The demo for several seeds, each in a process of its own; a table and ``study.json``.

    Raises:
        UsageError: ``out`` is not the demo's own.
        SceVideoError: the demo of a seed failed.
    """
    _claim(out)
    rows = []
    for seed in range(seeds):
        folder = out / f"seed-{seed}"
        command = [sys.executable, "-m", "sce_video", "demo", "--seed", str(seed)]
        command += ["--out", str(folder), *overrides]
        if subprocess.run(command, check=False).returncode != 0:  # noqa: S603  our own command
            raise SceVideoError(f"seed {seed} failed; see above")
        results = json.loads((folder / "results.json").read_text())
        r1 = {row["name"]: row["R@1"] for row in results["rows"]}
        ratio = r1["trained trunk"] / max(r1["raw pixels"], r1["untrained trunk"])
        rows.append({"seed": seed, **r1, "ratio": ratio})
    write_whole(out / "study.json", json.dumps(rows, indent=1).encode())
    say("R@1 by seed; ratio = trained / better of raw pixels and untrained")
    say("  ".join(f"{name:>15}" for name in rows[0]))
    say(*("  ".join(f"{value:>15.3g}" for value in row.values()) for row in rows))

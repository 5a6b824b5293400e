"""``test``: finished classifiers on the test list of the set that they were trained on."""

from __future__ import annotations

import csv
import io
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sce_video.config import load_config
from sce_video.errors import SceVideoError, UsageError
from sce_video.evals.confusion import confusion_png
from sce_video.evals.features import Features, extract
from sce_video.evals.scores import (
    best,
    class_accuracy,
    confusion_matrix,
    mean_class_accuracy,
    mean_probability,
    top_k_accuracy,
)
from sce_video.evals.views import check_media, eval_views
from sce_video.model.classifier import CLASSIFIER_NAME, load_classifier
from sce_video.model.encoder import EncoderSpec
from sce_video.shard.format import ShardIndex, sha256_file, write_atomic
from sce_video.stream.cache import Cache
from sce_video.stream.clips import UniformClips
from sce_video.stream.shards import open_set

FIGURES = ("top1", "top5", "mean_class_accuracy")
_WRITTEN = 5  # classes of a sample that are written down


@dataclass(frozen=True)
class Options:
    """How to test; None = as the run says."""

    shards: str | None = None
    split: str | None = None  # N = the test list of column ``splitN``; else a split's name
    clips: int = 10
    crops: int = 3
    size: int | None = None
    workers: int = 2


@dataclass(frozen=True)
class ClassifierTest:
    """A run's last classifier and what it is tested on; opened, nothing computed."""

    run: Path
    module: nn.Module
    spec: EncoderSpec
    index: ShardIndex
    split: str
    rows: NDArray[np.int64]
    views: UniformClips
    workers: int

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the set's classes, which are the classifier's."""
        return self.index.manifest.classes

    def protocol(self) -> dict[str, Any]:
        """The evaluation spelled out, so that figures are compared like with like."""
        views, file = self.views, self.run / CLASSIFIER_NAME
        return {
            "classifier": str(file),
            "classifier_sha256": sha256_file(file),
            "checkpoint": "the last, whatever it scored on the way",
            "shards": self.index.name,
            "dataset": self.index.manifest.dataset,
            "manifest_sha256": self.index.digest,
            "not_in_shards": self.index.manifest.rejected,
            "split": self.split,
            "views": f"{views.clips} clips x {views.crops} crops",
            "scores": "softmax of each view, then mean over the views of a sample",
            "frames": views.frames,
            "seconds": views.seconds,
            "size": views.size,
        }


def open_test(run: Path, options: Options) -> ClassifierTest:
    """Open a run's classifier and test list.

    Raises:
        UsageError: no finished run with a classifier, no such list, other classes, samples
            without a label, or samples that the run was trained on.
    """
    if not (run / CLASSIFIER_NAME).is_file():
        raise UsageError(
            f"{run}: has no {CLASSIFIER_NAME}; give a finished run of task linear or finetune"
        )
    data = load_config(str(run / "config.yaml")).data
    index = open_set(options.shards or str(data.shards), Cache.at(data.cache, data.cache_gib))
    split = _test_list(index, data.split, options.split)
    rows = index.rows(split)
    seen = len(np.intersect1d(rows, _trained_on(index, data.split, options.shards)))
    if seen:
        raise UsageError(f"{run}: was trained on {seen} of the {len(rows)} samples of {split}")
    unlabelled = int((index.numbers("label")[rows] < 0).sum())
    if unlabelled:
        raise UsageError(f"{index.name}: {unlabelled} samples of {split} have no label")
    module, spec, classes = load_classifier(run / CLASSIFIER_NAME)
    check_media(index, spec, run)
    if list(index.manifest.classes) != classes:
        raise UsageError(f"{index.name}: its classes are not those that {run} was trained on")
    views = eval_views(spec, options.clips, options.crops, options.size)
    return ClassifierTest(run, module, spec, index, split, rows, views, options.workers)


def _test_list(index: ShardIndex, trained: str | None, asked: str | None) -> str:
    """What ``--split`` asks for, else the test list beside the list that the run was trained on."""
    if asked and not asked.isdecimal():
        return asked
    column = f"split{asked}" if asked else (trained or "").rpartition(":")[0] or "split"
    for value in ("test", "val"):
        if value in index.manifest.splits.get(column, {}):
            return f"{column}:{value}"
    has = ", ".join(index.split_columns) or "none"
    raise UsageError(f"{index.name}: no test or val list in column '{column}'; columns: {has}")


def _trained_on(index: ShardIndex, split: str | None, elsewhere: str | None) -> NDArray[np.int64]:
    """Rows that the run was trained on, as far as ``index`` can be the set it was trained on."""
    if split is None and elsewhere is None:
        return index.rows(None)
    column, _, value = (split or "").rpartition(":")
    known = value in index.manifest.splits.get(column or "split", {})
    return index.rows(split) if known else np.zeros(0, np.int64)


def run_test(test: ClassifierTest, out: Path) -> dict[str, Any]:
    """Test a classifier.

    Writes ``test.json``, ``per_class.csv``, ``confusion.png`` and ``predictions.jsonl`` into
    ``out``; a sample that cannot be read is counted and named, and nothing stands in for it.

    Returns:
        The content of ``test.json``.

    Raises:
        SceVideoError: no sample can be read, or the scores are not finite.
    """
    scores = extract(
        {"classifier": test.module},
        test.index,
        test.rows,
        test.views,
        mean=test.spec.mean,
        std=test.spec.std,
        workers=test.workers,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        title=test.run.name,
        pool=mean_probability,
    )["classifier"]
    if len(scores.rows) == 0:
        raise SceVideoError(f"{test.index.name}: no sample of {test.split} can be read")
    if not scores.values.isfinite().all():
        raise SceVideoError(f"{test.run / CLASSIFIER_NAME}: its scores are not finite")
    return write_test(test, scores, out)


def write_test(test: ClassifierTest, scores: Features, out: Path) -> dict[str, Any]:
    """Write what :func:`run_test` promises; returns the content of ``test.json``."""
    values, labels, classes = scores.values, scores.labels, test.classes
    confusion = confusion_matrix(labels, best(values, 1)[:, 0], len(classes))
    summary: dict[str, Any] = {
        "top1": top_k_accuracy(values, labels, 1),
        "top5": top_k_accuracy(values, labels, 5),
        "mean_class_accuracy": mean_class_accuracy(confusion),
        "protocol": test.protocol(),
        "samples": len(scores.rows),
        "missing": len(scores.missing),
        "missing_samples": [f"{name}: {reason}" for name, reason in scores.missing],
    }
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(("class", "samples", "right", "top1"))
    counts, right = confusion.sum(1).tolist(), confusion.diagonal().tolist()
    shares = [
        f"{share:.4f}" if n else ""
        for share, n in zip(class_accuracy(confusion), counts, strict=True)
    ]
    lines.writerows(zip(classes, counts, right, shares, strict=True))
    title = f"{test.index.manifest.dataset} {test.split}: top-1 {summary['top1']:.3f}"
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "per_class.csv", table.getvalue().encode())
    write_atomic(out / "confusion.png", confusion_png(confusion.numpy(), classes, title))
    write_atomic(out / "predictions.jsonl", _predictions(test, scores).encode())
    write_atomic(out / "test.json", json.dumps(summary, indent=1).encode())
    return summary


def _predictions(test: ClassifierTest, scores: Features) -> str:
    """A line a sample: its key, class and the classes of the highest scores."""
    keys, order = test.index.table.column("key"), best(scores.values, _WRITTEN)
    lines = []
    for i, (row, label) in enumerate(zip(scores.rows, scores.labels.tolist(), strict=True)):
        places = order[i].tolist()
        line = {
            "key": keys[int(row)].as_py(),
            "label": label,
            "predicted": places[0],
            "class": test.classes[label],
            "top5": [[test.classes[c], round(float(scores.values[i, c]), 6)] for c in places],
        }
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines)


def write_spread(results: list[dict[str, Any]], out: Path) -> dict[str, Any]:
    """Write ``mean.json`` into ``out``: several runs' mean figures and sample standard deviations.

    Args:
        results: of :func:`run_test`, two or more.
        out: a folder, made if it is not there.

    Returns:
        The content of ``mean.json``: figure -> ``{mean, std}``, and the results themselves.
    """
    summary: dict[str, Any] = {}
    for name in FIGURES:
        values = [float(result[name]) for result in results]
        summary[name] = {"mean": statistics.fmean(values), "std": statistics.stdev(values)}
    summary["runs"] = results
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "mean.json", json.dumps(summary, indent=1).encode())
    return summary

"""``test``: classifiers on a test list, of the set they were trained on or another.

Of a finished run the classifier that it left; of one that was stopped that of its newest
checkpoint, and the result says so.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sce_video.config.load import load_config
from sce_video.config.tasks import SupervisedConfig
from sce_video.engine.checkpoint import model_part, newest
from sce_video.engine.ranks import place
from sce_video.engine.resume import last_step
from sce_video.engine.status import is_alive, read_status, saved_steps
from sce_video.errors import SceVideoError, UsageError
from sce_video.evals.accuracy import best, class_accuracy, confusion_matrix, top_k_accuracy
from sce_video.evals.confusion import confusion_png
from sce_video.evals.features import Features
from sce_video.evals.request import Request
from sce_video.evals.results import write_json, write_table
from sce_video.evals.views import check_media
from sce_video.files import sha256_file, write_whole
from sce_video.model.classifier import CLASSIFIER_NAME, Classifier, load_classifier
from sce_video.model.encoder import build_encoder, encoder_spec, fill
from sce_video.model.run_checkpoint import CHECKPOINT_NAME
from sce_video.model.weights import OpenedEncoder
from sce_video.shardset.index import ShardIndex
from sce_video.shardset.labels import match_classes
from sce_video.stream.order import batch_plan
from sce_video.stream.reader import open_set
from sce_video.stream.remote.files import on_this_machine

FIGURES = ("top1", "top5", "mean_class_accuracy")
_WRITTEN = 5  # classes of a sample that are written down


@dataclass(frozen=True)
class TestedRun:
    """A run's classifier, and the list to test it on."""

    classifier: OpenedEncoder  # [B,3,T,H,W] -> logits [B,C]
    classes: tuple[str, ...]  # by label
    index: ShardIndex
    split: str
    task: str


class SavedClassifier(OpenedEncoder):
    """A checkpoint's; its results lie where those of the classifier that the run leaves will."""

    @property
    def name(self) -> str:
        """Its own file, for messages."""
        return str(self.identity["classifier"])


def open_test(
    run: Path, shards: str | None, split: str | None, warn: Callable[[str], object] | None = None
) -> TestedRun:
    """Open a run's classifier, the set, and its test list there.

    Args:
        run: its folder.
        shards: where the set lies; None = where the run says, if that is on this machine.
        split: N = the test list of column ``splitN``, else a split's name; None = the test list
            beside the list that the run was trained on.
        warn: is told of checkpoints that are passed over; None = nobody is.

    Raises:
        UsageError: no run with labels, or one that holds nothing to test; no such list, classes
            that the classifier does not know, samples without a label, or samples that the run was
            trained on.
    """
    if not run.is_dir():
        raise UsageError(f"{run}: no such folder; give a run's")
    if not (run / "config.yaml").is_file():
        raise UsageError(f"{run}: not a run's folder, it has no config.yaml")
    config = load_config(str(run / "config.yaml"))
    if not isinstance(config, SupervisedConfig):
        raise UsageError(f"{run}: is of task {config.task}; give a run of task linear or finetune")
    ended = _ended(run)
    saved = None if ended else _newest(run, warn or (lambda _: None))
    data = config.data
    index = open_set(shards or _near(run, config))
    wanted = _test_list(index, data.split, split)
    rows = index.rows(wanted)
    seen = len(np.intersect1d(rows, _trained_on(index, data.split, shards)))
    if seen:
        raise UsageError(f"{run}: was trained on {seen} of the {len(rows)} samples of {wanted}")
    labels = index.numbers("label")[rows]
    unlabelled = int((labels < 0).sum())
    if unlabelled:
        raise UsageError(f"{index.name}: {unlabelled} samples of {wanted} have no label")
    opened, classes = _saved(run, config, index, *saved) if saved else _left(run)
    check_media(index, opened.spec, run)
    match_classes(index.name, index.manifest.classes, classes, str(run), labels.tolist())
    return TestedRun(opened, classes, index, wanted, config.task)


def _near(run: Path, config: SupervisedConfig) -> str:
    """Where the run's set lies on this machine: no address out of a run's folder is asked."""
    return on_this_machine(str(config.data.shards), run, "give --shards URL to test there")


def _ended(run: Path) -> bool:
    """Whether a run's classifier is its last: one that went on since then has newer checkpoints."""
    went_on = read_status(run).get("state") in ("running", "interrupted", "failed")
    return (run / CLASSIFIER_NAME).is_file() and not went_on


def _newest(run: Path, warn: Callable[[str], object]) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint that verifies, and its state."""
    folder = run / "checkpoints"
    if not saved_steps(folder):
        raise UsageError(
            f"{run}: has neither {CLASSIFIER_NAME} nor a checkpoint; give a run that was finished, "
            "or stopped after a checkpoint"
        )
    if place().ranks > 1 and is_alive(run):
        raise UsageError(
            f"{run}: is being trained, and its processes here may each find another checkpoint; "
            "test it by one process"
        )
    try:
        return newest(folder, warn=warn)
    except SceVideoError as error:
        raise SceVideoError(
            f"{run}: has no {CLASSIFIER_NAME}, and none of its checkpoints verifies"
        ) from error


def _left(run: Path) -> tuple[OpenedEncoder, tuple[str, ...]]:
    """The classifier that a finished run left, and its classes."""
    file = run / CLASSIFIER_NAME
    module, spec, classes = load_classifier(file)
    identity = {"classifier": str(file), "classifier_sha256": sha256_file(file)}
    return OpenedEncoder(module, spec, identity, file), tuple(classes)


def _saved(
    run: Path, config: SupervisedConfig, index: ShardIndex, saved: Path, state: dict[str, Any]
) -> tuple[OpenedEncoder, tuple[str, ...]]:
    """The classifier of a checkpoint, and its classes: those of the set that it is trained on."""
    trained, data = index, config.data
    if trained.digest != state["data"]:
        trained = open_set(_near(run, config))
    if trained.digest != state["data"]:
        raise UsageError(
            f"{run}: {data.shards} is not the set that {saved.name} was trained on, whose classes "
            "it has; give that with --shards"
        )
    plan, spec = batch_plan(config, trained, 0, state.get("ranks", 1)), encoder_spec(config)
    classes, file = trained.manifest.classes, saved / CHECKPOINT_NAME
    module = Classifier(build_encoder(spec), len(classes))
    for name, part in module.named_children():
        fill(part, model_part(saved, name), file)
    step = state["step"]
    identity = {
        "classifier": str(file),
        "classifier_sha256": sha256_file(file),
        "checkpoint": f"{saved.name}, the newest of a run that has not ended",
        "step": f"{step} of {last_step(config, plan)}",
        "epoch": f"{step / plan.steps_per_epoch:.4g} of {plan.epochs}",
    }
    opened = SavedClassifier(module.eval(), spec, identity, run / CLASSIFIER_NAME)
    return opened, tuple(classes)


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


def test_protocol(request: Request) -> dict[str, Any]:
    """What a result says of how it came about."""
    own, known = request.index.manifest.classes, request.classes
    matched = f"the set's {len(own)} by name among the classifier's {len(known)}"
    return {
        "checkpoint": "the last, whatever it scored on the way",
        **request.protocol(),
        "split": request.split,
        **({} if own == known else {"classes": matched}),
    }


def write_test(out: Path, request: Request, scores: Features) -> dict[str, Any]:
    """Figures of a classifier from its scores.

    Writes ``test.json``, ``per_class.csv``, ``confusion.png`` and ``predictions.jsonl`` into
    ``out``; a sample that cannot be read is counted and named, and nothing stands in for it.

    Returns:
        The content of ``test.json``.

    Raises:
        SceVideoError: no sample could be read.
    """
    index, values, labels = request.index, scores.values, scores.labels
    if len(scores.rows) == 0:
        raise SceVideoError(f"{index.name}: no sample of {request.split} can be read")
    classes = request.classes
    confusion = confusion_matrix(labels, best(values, 1)[:, 0], len(classes))
    shares = class_accuracy(confusion)
    summary: dict[str, Any] = {
        "top1": top_k_accuracy(values, labels, 1),
        "top5": top_k_accuracy(values, labels, 5),
        "mean_class_accuracy": shares.nanmean().item(),  # of the classes that have a sample
        "protocol": test_protocol(request),
        "samples": len(scores.rows),
        "missing": len(scores.missing),
        "missing_samples": scores.missing_lines,
    }
    counts, right = confusion.sum(1).tolist(), confusion.diagonal().tolist()
    cells = ["" if share.isnan() else f"{share:.4f}" for share in shares]
    rows = zip(classes, counts, right, cells, strict=True)
    title = f"{index.manifest.dataset} {request.split}: top-1 {summary['top1']:.3f}"
    write_table(out / "per_class.csv", ("class", "samples", "right", "top1"), rows)
    write_whole(out / "confusion.png", confusion_png(confusion.numpy(), classes, title))
    write_whole(out / "predictions.jsonl", _predictions(request, scores).encode())
    write_json(out / "test.json", summary)
    return summary


def _predictions(request: Request, scores: Features) -> str:
    """A line a sample: its key, class and the classes of the highest scores."""
    keys, order = request.index.table.column("key"), best(scores.values, _WRITTEN)
    classes = request.classes
    lines = []
    for i, (row, label) in enumerate(zip(scores.rows, scores.labels.tolist(), strict=True)):
        places = order[i].tolist()
        line = {
            "key": keys[int(row)].as_py(),
            "label": label,
            "predicted": places[0],
            "class": classes[label],
            "top5": [[classes[c], round(float(scores.values[i, c]), 6)] for c in places],
        }
        lines.append(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines)


def write_spread(results: list[dict[str, Any]], out: Path) -> dict[str, Any]:
    """Write ``mean.json`` into ``out``: several runs' mean figures and sample standard deviations.

    Args:
        results: of :func:`write_test`, two or more.
        out: a folder, made if it is not there.

    Returns:
        The content of ``mean.json``: figure -> ``{mean, std}``, and the results themselves.
    """
    summary: dict[str, Any] = {}
    for name in FIGURES:
        values = [float(result[name]) for result in results]
        summary[name] = {"mean": statistics.fmean(values), "std": statistics.stdev(values)}
    summary["runs"] = results
    write_json(out / "mean.json", summary)
    return summary

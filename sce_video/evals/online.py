"""Held-out samples seen by the network as it is while it is trained, one centre view each.

Of pretraining kNN and the linear probe; with labels the classifier itself, as ``test`` has it. The
figures are looked at, and nothing is chosen by them: a run's last weights are what counts.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sce_video.engine.clip_task import ClipTask
from sce_video.engine.pretrain import PretrainTask
from sce_video.engine.runtime import Runtime
from sce_video.engine.supervised import SupervisedTask
from sce_video.engine.zero_layout import gathered
from sce_video.errors import SceVideoError
from sce_video.evals.accuracy import top_k_accuracy
from sce_video.evals.features import Features, NotFiniteError, cut, extract_batches, join
from sce_video.evals.knn import knn_predict
from sce_video.evals.views import eval_views, mean_of_views, mean_probability
from sce_video.model.classifier import Classifier
from sce_video.model.encoder import build_encoder
from sce_video.stream.data import HeldOut

log = logging.getLogger("sce_video")


def watch(task: ClipTask, held_out: HeldOut, runtime: Runtime) -> OnlineEvaluation:
    """What looks at the held-out samples for a task."""
    if isinstance(task, SupervisedTask):
        return WatchedClassifier(task, held_out, runtime)
    if isinstance(task, PretrainTask):
        return WatchedTrunk(task, held_out, runtime)
    raise TypeError(f"nothing is known that watches a {type(task).__name__}")


class OnlineEvaluation(ABC):
    """A copy of what is trained, in eval mode and fp32, on one centre view of each sample.

    Weights, BN statistics and random draws of the training are what they are without it.
    """

    def __init__(self, task: ClipTask, held_out: HeldOut, runtime: Runtime) -> None:
        self._task, self._held_out, self._runtime = task, held_out, runtime
        self.every = (task.config.eval.every or 1) * task.steps_per_epoch
        self._views = eval_views(task.spec, 1, 1, None)
        # Batches, not samples, are shared out: a feature is the same on any number of ranks.
        self._batches = cut(held_out.rows, self._views)[runtime.rank :: runtime.ranks]
        with torch.random.fork_rng(devices=[]):
            self._copy = self._build().to(runtime.device).eval()

    def __call__(self) -> dict[str, float]:
        """Figures over the held-out samples; a collective call.

        None where the network gives what is not finite: that is the training's to notice.

        Raises:
            SceVideoError: on every rank, where one cannot read its samples.
        """
        with gathered(self._watched()):
            self._copy.load_state_dict(self._watched().state_dict())
        parts: list[Any] = [None] * self._runtime.ranks
        with torch.random.fork_rng(devices=[]):
            dist.all_gather_object(parts, self._outcome())
        for problem in (part for part in parts if isinstance(part, SceVideoError)):
            if not isinstance(problem, NotFiniteError):
                raise problem
            if self._runtime.main:
                log.warning("held-out samples: %s", problem)
            return {}
        found = join(parts)
        for name, reason in found.missing:
            log.warning("held-out sample %s: %s", name, reason)
        logged = {"samples": float(len(found.rows)), "missing": float(len(found.missing))}
        return logged | (self._figures(found) if self._runtime.main else {})

    def _outcome(self) -> Features | SceVideoError:
        """What this rank's batches give; an error is for all ranks, which wait for it here."""
        try:
            passes = extract_batches(
                self._copy,
                self._task.spec,
                self._held_out.index,
                self._batches,
                self._views,
                workers=self._task.config.data.workers,
                device=self._runtime.device,
                pool=self._pool,
                name="the network in training",
                stopped=self._task.stopped,
            )
            return join(list(passes))
        except SceVideoError as error:
            return error

    def _labels(self, found: Features) -> Tensor:
        """Labels as the run numbers classes, of the samples that were read."""
        places = np.searchsorted(self._held_out.rows, found.rows)
        return torch.from_numpy(self._held_out.labels[places])

    @abstractmethod
    def _watched(self) -> nn.Module:
        """The part of what is trained that is copied."""

    @abstractmethod
    def _build(self) -> nn.Module:
        """A copy of :meth:`_watched`, with any weights."""

    @abstractmethod
    def _pool(self, values: Tensor) -> Tensor:
        """What the copy makes of a sample's views, ``[B,V,F]``, as one: ``[B,F]``."""

    @abstractmethod
    def _figures(self, found: Features) -> dict[str, float]:
        """Figures of what was found, on the main rank."""


class WatchedTrunk(OnlineEvaluation):
    """Pretraining: neighbours vote for each other by features, and the probe says what it knows."""

    _task: PretrainTask

    def _watched(self) -> nn.Module:
        return self._task.trunk()

    def _build(self) -> nn.Module:
        return build_encoder(self._task.spec)

    def _pool(self, values: Tensor) -> Tensor:
        return mean_of_views(values)

    def _figures(self, found: Features) -> dict[str, float]:
        values, labels, k = found.values, found.labels, self._task.config.eval.knn
        if len(found.rows) < 2:
            return {}
        scores = knn_predict(values, values, labels, k=k, leave_one_out=True)
        figures = {"knn_top1": top_k_accuracy(scores, labels, 1)}
        if (probe := self._task.module.probe) is not None:
            logits = probe.logits(values.to(probe.weight.device)).cpu()
            if logits.isfinite().all():
                figures["probe_top1"] = top_k_accuracy(logits, self._labels(found), 1)
            else:
                log.warning("held-out samples: the probe's scores are not finite")
        return figures


class WatchedClassifier(OnlineEvaluation):
    """Training with labels: what ``test`` would find with one clip and one crop."""

    _task: SupervisedTask

    def _watched(self) -> nn.Module:
        return self._task.module

    def _build(self) -> nn.Module:
        classes = self._task.module.linear.out_features
        return Classifier(build_encoder(self._task.spec), classes)

    def _pool(self, values: Tensor) -> Tensor:
        return mean_probability(values)

    def _figures(self, found: Features) -> dict[str, float]:
        if not len(found.rows):
            return {}
        labels = self._labels(found)
        return {f"top{k}": top_k_accuracy(found.values, labels, k) for k in (1, 5)}

"""Held-out samples seen by the trunk as it is while it is pretrained: kNN and the linear probe."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from sce_video.engine.pretrain import PretrainTask
from sce_video.engine.runtime import Runtime
from sce_video.engine.zero_layout import gathered
from sce_video.evals.accuracy import top_k_accuracy
from sce_video.evals.features import Features, NotFiniteError, cut, extract_batches, join
from sce_video.evals.knn import knn_predict
from sce_video.evals.views import eval_views
from sce_video.model.encoder import build_encoder
from sce_video.stream.data import HeldOut

log = logging.getLogger("sce_video")


class OnlineEvaluation:
    """A copy of the trunk, in eval mode, on one centre view of each held-out sample.

    Weights, BN statistics and random draws of the training are what they are without it.
    """

    def __init__(self, task: PretrainTask, held_out: HeldOut, runtime: Runtime) -> None:
        self._task, self._held_out, self._runtime = task, held_out, runtime
        self._settings = task.config.eval
        self.every = (self._settings.every or 1) * task.steps_per_epoch
        self._views = eval_views(task.spec, 1, 1, None)
        # Batches, not samples, are shared out: a feature is the same on any number of ranks.
        self._batches = cut(held_out.rows, self._views)[runtime.rank :: runtime.ranks]
        with torch.random.fork_rng(devices=[]):
            self._trunk = build_encoder(task.spec).to(runtime.device).eval()

    def __call__(self) -> dict[str, float]:
        """kNN and probe top-1 over the held-out samples; a collective call.

        Without them where the trunk gives what is not finite: that is the training's to notice.
        """
        with gathered(self._task.trunk()):
            self._trunk.load_state_dict(self._task.trunk().state_dict())
        parts: list[Any] = [None] * self._runtime.ranks
        with torch.random.fork_rng(devices=[]):
            dist.all_gather_object(parts, self._features())
        if problems := [part for part in parts if isinstance(part, NotFiniteError)]:
            if self._runtime.main:
                log.warning("held-out samples: %s", problems[0])
            return {}
        found = join(parts)
        for name, reason in found.missing:
            log.warning("held-out sample %s: %s", name, reason)
        logged = {"samples": float(len(found.rows)), "missing": float(len(found.missing))}
        if not self._runtime.main or len(found.rows) < 2:
            return logged
        values, labels = found.values, found.labels
        scores = knn_predict(values, values, labels, k=self._settings.knn, leave_one_out=True)
        logged["knn_top1"] = top_k_accuracy(scores, labels, 1)
        if (probe := self._task.module.probe) is not None:
            logits = probe.logits(values.to(probe.weight.device)).cpu()
            known = self._held_out.labels[np.searchsorted(self._held_out.rows, found.rows)]
            if logits.isfinite().all():
                logged["probe_top1"] = top_k_accuracy(logits, torch.from_numpy(known), 1)
            else:
                log.warning("held-out samples: the probe's scores are not finite")
        return logged

    def _features(self) -> Features | NotFiniteError:
        """Features of this rank's batches, or why there are none."""
        parts = extract_batches(
            self._trunk,
            self._task.spec,
            self._held_out.index,
            self._batches,
            self._views,
            workers=self._task.config.data.workers,
            device=self._runtime.device,
            name="the trunk in training",
        )
        try:
            return join(list(parts))
        except NotFiniteError as error:
            return error

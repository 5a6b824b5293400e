"""Features that are extracted once and kept: by several ranks, through kills, for all evaluations.

Batches are cut from the whole list (:func:`sce_video.evals.features.cut`); each rank takes a run of
them and keeps what it has every few seconds as a part; the main one puts the parts together. Ranks
meet in the request's folder alone: there is no process group to wait or to fail.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sce_video.engine.runtime import Runtime
from sce_video.errors import complain
from sce_video.evals import kept
from sce_video.evals.features import Features, NotFiniteError, collect, extract_batches
from sce_video.evals.request import Request
from sce_video.evals.views import mean_of_views, mean_probability
from sce_video.lock import LOCK_NAME, Lock
from sce_video.progress import Progress

_SAVE_EVERY = 20.0  # seconds of work that a kill may cost
_POLL = 0.2  # seconds


def embed(requests: Sequence[Request], runtime: Runtime) -> list[Path] | None:
    """Have the features of ``requests``; only what no folder holds yet is extracted.

    Samples that an older folder lacks are tried again: their shards may have been repaired. What is
    there is read by any number of jobs at once; what is not, one job extracts: its main rank holds
    the folder's lock. A lock that was lost costs work only, as each file appears whole.

    Returns:
        On the main rank the folder of each, holding ``features.safetensors`` and ``rows.parquet``;
        None on the others, which have done their share.

    Raises:
        UsageError: another job is extracting one of them.
        SceVideoError: a shard cannot be read.
        NotFiniteError: the network gives what is not finite; that batch is not kept.
        VerificationError: a file of features is damaged.
    """
    older = [kept.find(request) for request in requests]
    for path in sorted({request.folder / kept.FEATURES_NAME for request in requests}):
        if runtime.main and path.is_file() and kept.is_older(path):
            complain(f"{path}: of an older version, which kept no sha256; extracting anew")
    with ExitStack() as held:
        new = {each.folder for each, folder in zip(requests, older, strict=True) if not folder}
        for missing in sorted(new) if runtime.main else ():
            held.enter_context(Lock(missing / LOCK_NAME))
        try:
            for request in requests:
                _do_share(request, runtime)
        except NotFiniteError as error:
            if not runtime.main:  # whose errors alone are printed, and which this ends
                complain(error)
            raise
        if not runtime.main:
            return None
        folders = [_finished(request) for request in requests]
    for request, folder in zip(requests, older, strict=True):
        if folder:
            _try_again(request, folder)
    return folders


def features_of(requests: Sequence[Request], runtime: Runtime) -> list[Features] | None:
    """Have and read the features of ``requests``; None on other ranks than the main one."""
    folders = embed(requests, runtime)
    if folders is None:
        return None
    return [kept.read_features(*pair) for pair in zip(folders, requests, strict=True)]


def _do_share(request: Request, runtime: Runtime) -> None:
    """Extract this rank's run of the batches, without those that a part holds already."""
    count = len(request.batches)
    first, end = (count * rank // runtime.ranks for rank in (runtime.rank, runtime.rank + 1))
    kept.drop_damaged(request)
    there = {number for _, numbers in kept.read_parts(request) for number in numbers}
    # Asked after the parts were listed: they are removed once the features are there.
    if kept.find(request):
        return
    (request.folder / kept.PARTS).mkdir(parents=True, exist_ok=True)
    todo = [number for number in range(first, end) if number not in there]
    title, start = request.split or "all", end - first - len(todo)
    found: list[Features] = []
    since = time.monotonic()
    with Progress(end - first, "batches", title=title, start=start, shown=runtime.main) as bar:
        batches = [request.batches[number] for number in todo]
        for done, features in enumerate(_passes(request, batches), 1):
            found.append(features)
            if done == len(todo) or time.monotonic() - since >= _SAVE_EVERY:
                kept.write_part(request, found, todo[done - len(found) : done])
                found, since = [], time.monotonic()
            bar.update(start + done)


def _passes(request: Request, batches: list[NDArray[np.int64]]) -> Iterator[Features]:
    """The features of each of the batches."""
    if batches:
        yield from extract_batches(
            request.encoder.trunk.to(request.device),
            request.encoder.spec,
            request.index,
            batches,
            request.views,
            workers=request.workers,
            device=request.device,
            pool=mean_probability if request.scores else mean_of_views,
            name=request.encoder.name,
        )


def _finished(request: Request) -> Path:
    """The folder of the request's features, once all ranks have done their share."""
    while (folder := kept.find(request)) is None:
        try:
            parts = dict(kept.read_parts(request))
            if len(set[int]().union(*parts.values())) == len(request.batches):
                kept.put_together(request, parts)
            else:
                time.sleep(_POLL)
        except FileNotFoundError:
            if kept.find(request) is None:  # else another process has just done the same
                raise
    return folder


def _try_again(request: Request, folder: Path) -> None:
    """Extract what ``folder`` lacks of the request's rows, with the rest of their batches."""
    lost = kept.missing_rows(folder, request)
    if not len(lost):
        return
    # What others computed in a batch without the lost sample may differ in its last bits.
    made = request if folder == request.folder else replace(request, split=None)
    batches = [batch for batch in made.batches if np.isin(batch, lost).any()]
    new = collect(_passes(made, batches), len(batches), "missing before")
    if np.isin(lost, new.rows).any():
        with Lock(folder / LOCK_NAME):
            kept.add(made, new)

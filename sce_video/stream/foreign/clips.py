"""Clips and images from tars made by others, through webdataset: an endless stream a reader.

Resume is by shard: a run that goes on starts with a fresh order of all tars.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import re
import tarfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.tariterators import group_by_keys

from sce_video.errors import SceVideoError
from sce_video.files import open_plain
from sce_video.shardset.labels import (
    LABEL_MEMBERS,
    LabelError,
    class_number,
    label_member,
    stated_classes,
)
from sce_video.shardset.tar_members import LABEL_BYTES, Member, read_member, walk_tar
from sce_video.stream.clips import ViewSampler
from sce_video.stream.cut import make_clips
from sce_video.stream.foreign.plan import ForeignPlan, check_tar
from sce_video.stream.loader import ClipBatch, stack_clips
from sce_video.stream.remote.files import RemoteFile, bare_url, is_remote
from sce_video.stream.watch import sample_limit
from sce_video.text import printable
from sce_video.video.decode import DecodeError
from sce_video.video.kinds import IMAGE_MAGIC, NOT_READ, SUFFIXES, kind_of, refusal_of_image
from sce_video.video.peek import peek

log = logging.getLogger("sce_video")

VIDEOS, IMAGES = (tuple(name[1:] for name in SUFFIXES[kind]) for kind in ("video", "image"))
UNREAD = frozenset(name[1:] for names in NOT_READ.values() for name in names)
"""Other media that tars hold, for messages."""
_SHUFFLE = 64  # samples of a reader that are mixed, undecoded
_SHUFFLE_BYTES = 1 << 28  # that these hold at most, but for the last one
_MOST_BAD = 100  # samples that one batch may replace
_COMMON = 8  # extensions that are named
_SHOWN = 200  # characters of what webdataset says
_END = 1024  # zero bytes that end a tar
_PADDING = 1 << 26  # zero bytes that may follow it
_META = re.compile(r"__[^/]*__($|/)")  # names that webdataset passes over


@dataclass(frozen=True)
class TarSample:
    """A video or image of a tar, or why there is none."""

    name: str  # shard/key; the shard alone where it is damaged
    data: bytes = b""
    label: int = -1  # a number that the sample itself gives its class
    unlabelled: str = ""  # why its label is not read
    problem: str = ""

    @property
    def number(self) -> int:
        """What its random numbers are keyed by: the same wherever and whenever it is met."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], "big") >> 1


class ForeignClips(IterableDataset[ClipBatch]):
    """A rank's micro-batches; a bad sample is replaced by the next of its reader's stream."""

    def __init__(
        self, plan: ForeignPlan, sampler: ViewSampler, consumed: int, *, antialias: bool = True
    ) -> None:
        """``consumed``: samples before; what a fresh order and fresh clips are keyed by."""
        self.plan, self.sampler, self.consumed = plan, sampler, consumed
        self.antialias = antialias
        self.media = IMAGES if plan.images else VIDEOS
        self._told: set[str] | None = None  # what is said once; None = another reader says it

    def __iter__(self) -> Iterator[ClipBatch]:
        """In a worker, every n-th micro-batch of the rank, as the loader takes them in turn."""
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        reader = self.plan.rank * workers + worker
        self._told = set() if reader == 0 else None
        stream = self._stream(reader, self.plan.ranks * workers)
        for _ in range(worker, self.plan.micro_batches_left(self.consumed), workers):
            yield self._batch(stream)

    def _batch(self, stream: Iterator[tuple[int, TarSample]]) -> ClipBatch:
        began = time.process_time()
        made: list[tuple[int, TarSample, list[Tensor]]] = []
        bad: list[tuple[str, str]] = []
        while len(made) < self.plan.micro_batch:
            number, sample = next(stream)
            try:
                if sample.problem:
                    raise DecodeError(sample.problem)
                with sample_limit(sample.name):
                    self._check_kind(sample.data)
                    specs = self.sampler(peek(sample.data), number, sample.number)
                    clips = make_clips(sample.data, specs, antialias=self.antialias)
                made.append((number, sample, clips))
                if sample.unlabelled:  # pretraining needs none
                    self._tell(f"{sample.name}: {sample.unlabelled}; it counts as none", "label")
            except DecodeError as error:
                bad.append((sample.name, str(error)))
                if len(bad) > _MOST_BAD:
                    raise SceVideoError(
                        f"{len(bad)} bad samples for one batch, the last {sample.name}: {error}"
                    ) from error
        return ClipBatch(
            views=[stack_clips(clips) for clips in zip(*(c for _, _, c in made), strict=True)],
            rows=np.array([sample.number for _, sample, _ in made], np.int64),
            epochs=np.array([number for number, _, _ in made], np.int64),
            labels=torch.tensor([sample.label for _, sample, _ in made]),
            names=[sample.name for _, sample, _ in made],
            bad=bad,
            cpu=time.process_time() - began,
        )

    def _check_kind(self, data: bytes) -> None:
        """Refuse videos among images, and images among videos, whatever they are called."""
        if self.plan.images and (why := refusal_of_image(data)):
            raise DecodeError(why)
        if not self.plan.images and data.startswith(IMAGE_MAGIC):
            raise DecodeError(f"{kind_of(data)}, not a video")

    def _tell(self, text: str, about: str) -> None:
        """Say something, once a run for all that it is said about."""
        if self._told is not None and about not in self._told:
            self._told.add(about)
            log.warning("%s", text)

    def _stream(self, reader: int, readers: int) -> Iterator[tuple[int, TarSample]]:
        """Samples of pass after pass, each with the number that stands for its epoch."""
        number, empty = 0, 0
        while empty < 2:
            share = (0, 1) if empty else (reader, readers)  # its share held nothing: take all
            visits = self.plan.visits(self.consumed, number, *share)
            seed = f"{self.plan.seed}/{self.consumed}/{number}/{reader}"
            rng = random.Random(seed)  # noqa: S311
            empty += 1
            for sample in mixed((s for visit in visits for s in self._samples(*visit)), rng):
                empty = 0
                # Unique over restarts, too: a pass takes a sample at least.
                yield self.consumed + number, sample
            number += 1
        common = self.media[:_COMMON]
        raise SceVideoError(
            f"{self.plan.shards[0]}: neither here nor in the other tars is a "
            f"{', '.join(common[:-1])} or {common[-1]} file"
        )

    def _samples(self, tar: str, part: int, parts: int) -> Iterator[TarSample]:
        name = bare_url(tar)
        if is_remote(tar):
            descriptor = self.plan.cache.open(RemoteFile.ask(tar))
        else:
            try:
                descriptor = open_plain(tar, follow=True)
            except OSError as error:
                raise SceVideoError(f"{name}: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as stream:
            check_tar(name, os.pread(descriptor, tarfile.BLOCKSIZE, 0))
            samples = tar_samples(stream, name, self.media, tell=self._tell)
            yield from islice(samples, part, None, parts)


def tar_samples(
    stream: BinaryIO,
    name: str,
    media: Sequence[str],
    tell: Callable[[str, str], None] | None = None,
) -> Iterator[TarSample]:
    """Samples of an opened tar as webdataset groups them: keys end at their first dot.

    What it would pass over without a word is told: members that are there twice, a tar without its
    end, and damage that reads like an end.

    Args:
        stream: the tar.
        name: what it is called.
        media: extensions of what is looked for.
        tell: hears what is no fault of one sample, and a word that stands for it.
    """
    problems: list[str] = []

    def note(error: Exception) -> bool:
        problems.append(printable(str(error.args[0]))[:_SHOWN])  # webdataset adds to them
        return True

    size = stream.seek(0, os.SEEK_END)
    if not _ends(stream, size):
        problems.append("has no end: cut off, or no plain tar")
    others: set[str] = set()  # extensions of other media

    def select(member: Member) -> bool:
        extension = member.name.rpartition(".")[2].lower()
        if extension not in media and extension in (*VIDEOS, *IMAGES, *UNREAD):
            others.add(extension)
        return extension in (*media, *LABEL_MEMBERS) and not _META.match(member.name)

    files = _files(stream, size, select, problems)
    keys: set[str] = set()
    alone: list[dict[str, Any]] = []  # without media: those may lie elsewhere in the tar
    for fields in group_by_keys(files, handler=note):
        if _media_fields(fields, media):
            keys.add(fields["__key__"])
            yield _sample(name, fields, media)
        else:
            alone.append({field: fields[field] for field in fields if field[:2] == "__"})
    apart = sum(fields["__key__"] in keys for fields in alone)
    if apart and tell:
        text = f"{name}: {apart:,} labels do not lie beside their samples, and are not read"
        tell(f"{text}; python -m sce_video.shard webdataset makes a set with them", "apart")
    yield from (_lacking(name, f, media, others) for f in alone if f["__key__"] not in keys)
    if problems:  # the first: what follows from it is no news
        yield TarSample(name, problem=problems[0])


def mixed(samples: Iterable[TarSample], rng: random.Random) -> Iterator[TarSample]:
    """``samples`` in another order: each is drawn from those at hand, whose bytes are bounded."""
    held: list[TarSample] = []
    size = 0
    for sample in samples:
        held.append(sample)
        size += len(sample.data)
        while len(held) == _SHUFFLE or size > _SHUFFLE_BYTES:
            held.append(held.pop(rng.randrange(len(held))))
            size -= len(held[-1].data)
            yield held.pop()
    rng.shuffle(held)
    while held:
        yield held.pop()


def _files(
    stream: BinaryIO, size: int, select: Callable[[Member], bool], problems: list[str]
) -> Iterator[dict[str, Any]]:
    """The files of a tar as webdataset has them; ``data`` is an error where it cannot be read."""
    stream.seek(0)
    try:
        for member in walk_tar(stream, size):
            if not member.regular:
                continue
            if not select(member):
                if member.problem:  # its name may not be whole
                    problems.append(printable(f"{member.name[:_SHOWN]}: {member.problem}"))
                continue
            label = member.name.rpartition(".")[2].lower() in LABEL_MEMBERS
            data: bytes | DecodeError
            try:
                data = read_member(stream, member, *[LABEL_BYTES] * label)
            except DecodeError as error:
                data = error
            yield {"fname": member.name, "data": data, "__url__": ""}
        end = stream.tell()
        zeros = size - end <= _PADDING and not any(stream.read())
        if not zeros:
            problems.append("damaged: data behind what reads like its end")
    except tarfile.ReadError as error:
        problems.append(f"damaged: {error}")
    yield {}  # what comes next is of another sample


def _ends(stream: BinaryIO, size: int) -> bool:
    stream.seek(max(size - _END, 0))
    end = stream.read()
    return len(end) == _END and not any(end)


def _media_fields(fields: dict[str, Any], media: Sequence[str]) -> list[str]:
    return [field for field in fields if field.rpartition(".")[2] in media]


def _sample(shard: str, fields: dict[str, Any], media: Sequence[str]) -> TarSample:
    """Of a group with media."""
    name = _name(shard, fields)
    found = _media_fields(fields, media)
    if len(found) > 1:
        several = f"several media files ({', '.join(sorted(found)[:_COMMON])})"
        return TarSample(name, problem=printable(f"{several}: its key ends at the first dot"))
    data = fields[found[0]]
    if isinstance(data, DecodeError):
        return TarSample(name, problem=str(data))
    try:
        if isinstance(unread := fields.get(label_member(fields) or ""), DecodeError):
            raise LabelError(str(unread))
        # A name alone gives no class number: -1, as without a class.
        return TarSample(name, data, class_number(stated_classes(fields)))
    except LabelError as error:
        return TarSample(name, data, unlabelled=f"its label is not readable ({error})")


def _name(shard: str, fields: dict[str, Any]) -> str:
    """``shard/key`` for messages and random numbers, whatever signs the key holds."""
    return printable(f"{shard}/{fields['__key__']}")


def _lacking(
    shard: str, fields: dict[str, Any], media: Sequence[str], others: Collection[str]
) -> TarSample:
    """Of a group without; ``others``: media of extensions that are not looked for, in the tar."""
    problem = "no video or image"
    if unread := sorted(UNREAD & {*others}):
        problem = f"{', '.join(unread)}: only {', '.join(media[:_COMMON])} are read"
    elif others:
        clip = "give clip=null" if media is VIDEOS else "leave out clip=null"
        problem = f"{', '.join(sorted(others))} where others are asked for: {clip}"
    return TarSample(_name(shard, fields), problem=problem)

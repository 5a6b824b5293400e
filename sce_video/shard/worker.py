"""What a worker process does with one file: read it, decode it, hand it over."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import tarfile
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sce_video.errors import SceVideoError
from sce_video.files import open_plain
from sce_video.shard.sources import Record
from sce_video.video.encode import SLOWER, Encoding, LayeredEncoder
from sce_video.video.examine import examine_video
from sce_video.video.examine_image import examine_image
from sce_video.video.facts import NOTED, Facts, Rejected
from sce_video.video.limits import Limits

_GRACE = 30  # CPU seconds over the limit after which the kernel ends a decoder that never returns


@dataclass(frozen=True, slots=True)
class FileJob:
    """One planned file."""

    record: Record
    limits: Limits = field(default_factory=Limits)
    encoding: Encoding | None = None  # None = keep the file's bytes
    copy: Path | None = None  # what to read instead of its archive: that one, unzipped

    def __str__(self) -> str:
        """What errors call it."""
        record = self.record
        return str(record.source) + ("" if record.offset is None else f": {record.path}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A file that decodes cleanly."""

    data: bytes  # the media member of its sample
    idx: bytes  # the packet index; empty = none
    fields: dict[str, Any]
    """What its json says of the media member; transcoded, of the raw file as ``source``, too."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that does not qualify."""

    reason: str


def process_file(job: FileJob) -> Accepted | Refused:
    """Read and decode one file.

    Raises:
        SceVideoError: the file changed since the data set was listed.
        OSError: reading fails otherwise; that is no property of the video, so it is no reject.
    """
    limits, size = job.limits, job.record.size
    if size > limits.bytes:
        return Refused("file too large")
    try:
        data = _read(job)
    except FileNotFoundError:
        return Refused("missing")
    except PermissionError:
        return Refused("no permission to read it")
    except OSError as error:
        if error.errno == errno.EINVAL:  # of open_plain
            return Refused("neither a file nor a folder")
        raise
    if len(data) != size:
        raise SceVideoError("changed while it was being sharded; run again")
    if job.encoding is not None:
        limits = replace(limits, cpu_seconds=SLOWER * limits.cpu_seconds)
    _arm_cpu_limit(limits.cpu_seconds + _GRACE)
    try:
        return _accept(job, data, limits)
    except Rejected as rejected:
        return Refused(str(rejected))


def _accept(job: FileJob, data: bytes, limits: Limits) -> Accepted:
    if job.encoding is None:
        examine = examine_image if job.record.media == "image" else examine_video
        facts = examine(data, limits)
        fields = _describe(data, facts)
    else:
        with closing(LayeredEncoder(job.encoding, limits.frames)) as encoder:
            raw = examine_video(data, limits, encoder.add)
            made, facts = encoder.finish(data, raw)
        fields = {**_describe(made, facts), "source": _describe(data, raw)}
        data = made
    if facts.unindexed:
        fields["unindexed"] = facts.unindexed
    return Accepted(data, facts.packets.to_bytes() if facts.packets else b"", fields)


def _describe(data: bytes, facts: Facts) -> dict[str, Any]:
    names = ("ext", "codec", "frames", "fps", "width", "height", "duration")
    fields = {name: getattr(facts, name) for name in names}
    fields |= {name: value for name in NOTED if (value := getattr(facts, name))}
    return {**fields, "sha256": hashlib.sha256(data).hexdigest()}


def _read(job: FileJob) -> bytes:
    """The bytes of the file; those of a tar's member only where its header still stands."""
    record = job.record
    with os.fdopen(open_plain(job.copy or record.source, follow=True), "rb") as file:
        if record.offset is None:
            return file.read(record.size + 1)  # one more than it had tells that it grew
        file.seek(record.offset - tarfile.BLOCKSIZE)
        header, data = file.read(tarfile.BLOCKSIZE), file.read(record.size)
    try:
        size = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").size
    except tarfile.HeaderError:
        size = -1
    if size != record.size:
        raise SceVideoError("changed while it was being sharded; run again")
    return data


def refused_by_kernel(job: FileJob, exit_code: int) -> Refused | None:
    """What the death of a worker says about its file: only an exceeded CPU limit says something."""
    return Refused("takes too long to decode") if exit_code == -signal.SIGXCPU else None


def _arm_cpu_limit(seconds: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time()) + seconds + 1
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))

"""What a worker process does with one file: read it, decode it, hand it over."""

from __future__ import annotations

import hashlib
import resource
import signal
import tarfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from sce_video.errors import SceVideoError
from sce_video.shard.encode import SLOWER, Encoding, LayeredEncoder
from sce_video.shard.probe import Limits, Probe, Rejected, probe_image, probe_video
from sce_video.shard.sources import Media

_GRACE = 30
"""CPU seconds over the limit after which the kernel ends a decoder that never returns."""


_UNREADABLE: Mapping[type[OSError], str] = {
    FileNotFoundError: "missing",
    PermissionError: "no permission to read it",
}


@dataclass(frozen=True, slots=True)
class FileJob:
    """One planned file."""

    source: Path
    size: int
    """Bytes when the data set was listed."""
    media: Media
    limits: Limits
    offset: int | None = None
    """None = ``source`` is the file itself; else where its bytes begin in the tar ``source``."""
    name: str = ""
    """What errors call it; empty = ``source``."""
    encoding: Encoding | None = None
    """None = keep the file's bytes."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A file that decodes cleanly."""

    data: bytes
    """The media member of its sample."""
    sha256: str
    probe: Probe
    """Of the media member."""
    idx: bytes
    """The packet index; empty = none."""
    source: Probe
    """Of the raw file."""
    source_sha256: str


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
    if job.size > job.limits.bytes:
        return Refused("file too large")
    try:
        data = _read(job)
    except (FileNotFoundError, PermissionError) as error:
        return Refused(_UNREADABLE[type(error)])
    if len(data) != job.size:
        raise SceVideoError("changed while it was being sharded; run again")
    limits = job.limits
    if job.encoding is not None:
        limits = replace(limits, cpu_seconds=SLOWER * limits.cpu_seconds)
    _arm_cpu_limit(limits.cpu_seconds + _GRACE)
    try:
        return _accept(job, data, limits)
    except Rejected as rejected:
        return Refused(str(rejected))


def _accept(job: FileJob, data: bytes, limits: Limits) -> Accepted:
    sha256 = source_sha256 = hashlib.sha256(data).hexdigest()
    if job.media == "image":
        found = source = probe_image(data, limits)
    elif job.encoding is None:
        found = source = probe_video(data, limits)
    else:
        with closing(LayeredEncoder(job.encoding, limits.frames)) as encoder:
            source = probe_video(data, limits, encoder.add)
            data, found = encoder.finish(source.duration)
        sha256 = hashlib.sha256(data).hexdigest()
    idx = b"" if found.packets is None else found.packets.to_bytes()
    found, source = replace(found, packets=None), replace(source, packets=None)
    return Accepted(data, sha256, found, idx, source, source_sha256)


def _read(job: FileJob) -> bytes:
    """The bytes of the file; those of a tar's member only where its header still stands."""
    if job.offset is None:
        return job.source.read_bytes()
    with job.source.open("rb") as tar:
        tar.seek(job.offset - tarfile.BLOCKSIZE)
        header, data = tar.read(tarfile.BLOCKSIZE), tar.read(job.size)
    try:
        size = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").size
    except tarfile.HeaderError:
        size = -1
    if size != job.size:
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

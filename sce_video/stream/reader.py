"""Shard sets by their index, here or elsewhere: positioned reads, no tar parsing."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

from sce_video.errors import SceVideoError, UsageError
from sce_video.files import open_plain
from sce_video.shardset.index import INDEX_NAME, ShardIndex, open_shards, read_index
from sce_video.shardset.manifest import MANIFEST_NAME, ShardEntry, read_manifest
from sce_video.shardset.rows import tar_member
from sce_video.stream.foreign.plan import is_foreign
from sce_video.stream.remote.cache import Cache
from sce_video.stream.remote.files import RemoteFile, bare_url, fetch_small, is_remote
from sce_video.video.facts import Video
from sce_video.video.packets import PacketIndex

_OPEN_SHARDS = 64
"""Files a reader keeps open, a few windows of the order. A shard that left the cache stays on the
disk while it is open."""


@dataclass(frozen=True)
class RemoteIndex(ShardIndex):
    """A shard set elsewhere; ``folder`` is the cache that its tars come into when first read."""

    url: str
    cache: Cache

    @property
    def name(self) -> str:
        """Where the set lies, for messages."""
        return bare_url(self.url)


def open_set(location: str | Path, cache: Cache | None = None) -> ShardIndex:
    """Open a shard set by its folder or URL; the tars themselves are not touched.

    Raises:
        UsageError: no finished shard set there, one of another format, or the extra is missing.
        VerificationError: the manifest or the index is damaged.
        SceVideoError: they cannot be fetched, or do not belong together.
    """
    if is_foreign(str(location)):
        raise UsageError(
            f"{location}: tars without an index are for pretraining only; make a set of them: "
            "python -m sce_video.shard webdataset"
        )
    if not isinstance(location, str) or not is_remote(location):
        return open_shards(location)
    cache, url = cache or Cache.at(), location.rstrip("/")
    at, path = f"{url}/{MANIFEST_NAME}", f"{url}/{INDEX_NAME}"
    data = fetch_small(at)
    manifest = read_manifest(data, bare_url(at))
    table = read_index(fetch_small(path, manifest.index_sha256), manifest, bare_url(path))
    digest = hashlib.sha256(data).hexdigest()
    return RemoteIndex(cache.folder, manifest, digest, table, url, cache)


def _opener(index: ShardIndex, shard: ShardEntry) -> Callable[[], int]:
    """What opens a shard wherever it lies, and gives its descriptor."""
    if not isinstance(index, RemoteIndex):
        return partial(_open_shard, index.folder / shard.name, shard.bytes)
    file = RemoteFile.of_set(index.url, index.digest, shard.name, shard.bytes, shard.sha256)
    return partial(index.cache.open, file)


def _open_shard(path: Path, size: int) -> int:
    """A descriptor of a shard here.

    Raises:
        OSError: there is none, or it is a link, a pipe or the like.
        SceVideoError: it has not the size that its manifest says.
    """
    descriptor = open_plain(path)
    if (found := os.fstat(descriptor).st_size) != size:
        os.close(descriptor)
        raise SceVideoError(
            f"{path}: {found:,} bytes, its manifest says {size:,}: cut or changed; shard again"
        )
    return descriptor


class ShardReader:
    """Media bytes and metadata of a shard set's samples; safe to send to a worker."""

    def __init__(self, index: ShardIndex) -> None:
        self._where, self._cure = index.name, "shard again"
        if isinstance(index, RemoteIndex):
            self._cure = f"empty the cache {index.folder}, or shard again"
        shards = sorted(index.manifest.shards, key=attrgetter("name"))
        self.shard_names = [shard.name for shard in shards]
        self.shard_of = index.shard_numbers()
        self._keys = index.table.column("key")  # as Arrow has them: small, for millions of samples
        self.labels = index.numbers("label")
        self._places = {
            member: (index.numbers(f"{member}_offset"), index.numbers(f"{member}_size"))
            for member in ("media", "idx")
        }
        self._ext = index.table.column("ext")
        self._shape = [index.numbers(name) for name in ("frames", "fps", "height", "width")]
        self._open = [_opener(index, shard) for shard in shards]
        self._files: dict[int, int] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": {}}  # file descriptors stay in their process

    def video(self, row: int) -> Video:
        """What the index knows of a video."""
        frames, fps, height, width = (column[row] for column in self._shape)
        return Video(int(frames), float(fps), int(height), int(width))

    def name(self, row: int) -> str:
        """``shard/key`` of a sample, for messages."""
        return f"{self.shard_names[self.shard_of[row]]}/{self._keys[row].as_py()}"

    def media(self, row: int) -> bytes:
        """A sample's media bytes.

        Raises:
            SceVideoError: the shard is missing, or not the one that its index tells of.
        """
        return self._read(row, "media")

    def packets(self, row: int) -> PacketIndex | None:
        """A video's packet index, if it has one.

        Raises:
            IdxError: it is damaged.
            SceVideoError: as :meth:`media`.
        """
        if self._places["idx"][0][row] < 0:
            return None
        return PacketIndex.from_bytes(self._read(row, "idx"))

    def _read(self, row: int, member: str) -> bytes:
        offset, size = (int(column[row]) for column in self._places[member])
        shard = int(self.shard_of[row])
        path = f"{self._where}/{self.shard_names[shard]}"
        ext = self._ext[row].as_py() if member == "media" else member
        header = tar_member(f"{self._keys[row].as_py()}.{ext}", offset, size)
        try:
            file = self._file(shard)
            before = os.pread(file, tarfile.BLOCKSIZE, header.offset)
            data = os.pread(file, size, offset)
        except OSError as error:
            raise SceVideoError(f"{path}: {error.strerror}; {self._cure}") from error
        if len(data) != size:
            raise SceVideoError(f"{path}: shorter than its index says; {self._cure}")
        if before != header.tobuf(tarfile.USTAR_FORMAT):  # written over while it is read, say
            what = f"{header.name} is not where its index says"
            raise SceVideoError(f"{path}: {what}; {self._cure}")
        return data

    def _file(self, shard: int) -> int:
        """A shard's descriptor; of those kept open, the one opened first is closed for it."""
        if shard not in self._files:
            if len(self._files) == _OPEN_SHARDS:
                os.close(self._files.pop(next(iter(self._files))))
            self._files[shard] = self._open[shard]()
        return self._files[shard]

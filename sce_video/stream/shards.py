"""Reading members of shards by the index: positioned reads, no tar parsing."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from sce_video.errors import SceVideoError
from sce_video.shard.format import ShardIndex
from sce_video.shard.packets import IdxError, PacketIndex
from sce_video.stream.clips import Video
from sce_video.stream.decode import DecodeError


class ShardReader:
    """Media bytes and metadata of a shard set's samples; safe to send to a worker."""

    def __init__(self, index: ShardIndex) -> None:
        self.folder = index.folder
        names = sorted({shard.name for shard in index.manifest.shards})
        number = {name: i for i, name in enumerate(names)}
        self.shard_names = names
        self.shard_of: NDArray[np.int64] = np.array(
            [number[name] for name in index.strings("shard")], dtype=np.int64
        )
        self.keys = index.strings("key")
        self.labels = index.numbers("label")
        self._places = {
            member: (index.numbers(f"{member}_offset"), index.numbers(f"{member}_size"))
            for member in ("media", "idx")
        }
        self._shape = [index.numbers(name) for name in ("frames", "fps", "height", "width")]
        self._files: dict[int, int] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": {}}  # file descriptors stay in their process

    def video(self, row: int) -> Video:
        """What the index knows of a video."""
        frames, fps, height, width = (column[row] for column in self._shape)
        return Video(int(frames), float(fps), int(height), int(width))

    def name(self, row: int) -> str:
        """``shard/key`` of a sample, for messages."""
        return f"{self.shard_names[self.shard_of[row]]}/{self.keys[row]}"

    def media(self, row: int) -> bytes:
        """A sample's media bytes.

        Raises:
            SceVideoError: the shard is missing or shorter than its index says.
        """
        return self._read(row, "media")

    def packets(self, row: int) -> PacketIndex | None:
        """A video's packet index, if it has one.

        Raises:
            DecodeError: it is damaged.
            SceVideoError: as :meth:`media`.
        """
        if self._places["idx"][0][row] < 0:
            return None
        try:
            return PacketIndex.from_bytes(self._read(row, "idx"))
        except IdxError as error:
            raise DecodeError(str(error)) from error

    def _read(self, row: int, member: str) -> bytes:
        offset, size = (int(column[row]) for column in self._places[member])
        shard = int(self.shard_of[row])
        path = self.folder / self.shard_names[shard]
        try:
            if shard not in self._files:
                self._files[shard] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            data = os.pread(self._files[shard], size, offset)
        except OSError as error:
            raise SceVideoError(f"{path}: {error.strerror}; shard again") from error
        if len(data) != size:
            raise SceVideoError(f"{path}: shorter than its index says; shard again")
        return data

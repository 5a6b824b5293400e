"""Deterministic WebDataset tars: the bytes depend on the members only."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from pathlib import Path

from sce_video.files import named, whole_file
from sce_video.shardset.rows import tar_member


class TarWriter:
    """Writes one plain tar (ustar), as a context manager; :meth:`commit` makes it a file.

    Left without a commit, nothing is there, or what was before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digest = hashlib.sha256()
        self._offset = 0
        self._open = contextlib.ExitStack()
        partial = self._open.enter_context(whole_file(path))
        self._stream = self._open.enter_context(partial.open("wb"))

    def add(self, name: str, data: bytes) -> tarfile.TarInfo:
        """Append a member."""
        member = tar_member(name, self._offset + tarfile.BLOCKSIZE, len(data))
        self._write(member.tobuf(tarfile.USTAR_FORMAT))
        self._write(data)
        self._write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return member

    def commit(self) -> tuple[int, str]:
        """End the tar and give it its name, on the disk. Returns its size and sha256."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._offset % tarfile.RECORDSIZE))
        self._open.close()
        return self._offset, self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        with named(self.path):
            self._stream.write(data)
        self._digest.update(data)
        self._offset += len(data)

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, *error: object) -> None:
        dropped = contextlib.suppress(GeneratorExit, OSError)  # a full disk, told already
        with dropped, self._open.pop_all():  # nothing is left to drop after a commit
            raise GeneratorExit

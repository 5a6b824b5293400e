"""Tars, plain or zipped: what they hold and where, as if each were unpacked where it lies."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from sce_video.errors import UsageError
from sce_video.files import open_plain
from sce_video.progress import Progress
from sce_video.shard.pool import Pool
from sce_video.shard.sources import ZIPPED, Record
from sce_video.shard.sources.tree import utf8
from sce_video.shardset.tar_members import walk_tar

SUFFIXES = (".tar", ".tar.gz", ".tgz")
CHUNK = 1 << 20
_WALL_LIMIT = 86_400.0  # seconds for one archive; a zipped one has to be read to its end


@contextlib.contextmanager
def reading(archive: Path) -> Iterator[io.BufferedIOBase]:
    """Open a tar, unzipped on the way.

    Raises:
        UsageError: its bytes are no tar or no zip; also from what the caller does with the stream.
        OSError: it cannot be read, or is no regular file.
    """
    try:
        with os.fdopen(open_plain(archive, follow=True), "rb") as plain:
            if is_zipped(archive):
                with gzip.open(plain) as stream:
                    yield stream
            else:
                yield plain
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UsageError(f"{archive}: damaged or cut ({error}); get it again") from error


def members(
    stream: io.BufferedIOBase, archive: Path, folder: str, end: int | None = None
) -> Iterator[Record]:
    """Files in the tar that begins where ``stream`` stands; their bytes are skipped.

    Args:
        stream: of :func:`reading`.
        archive: what it reads.
        folder: where the tar would be unpacked, below the root.
        end: where the tar ends, if it lies in another.
    """
    if end is None and not is_zipped(archive):
        end = os.fstat(stream.fileno()).st_size
    for member in walk_tar(stream, end):
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        hidden = any(part.startswith(".") for part in parts)  # as in a folder; and ".."
        if member.kind != tarfile.DIRTYPE and not hidden:
            path = utf8("/".join([folder, *parts]))
            size = member.size if member.regular and not member.problem else -1
            yield Record(path, archive, size, offset=member.offset)


def is_zipped(archive: Path) -> bool:
    """Whether it can be read from its start only, by its name."""
    return archive.suffix.lower() in ZIPPED


def is_archive(file: Record) -> bool:
    """Whether it is one that can be read, by its name."""
    return file.name.lower().endswith(SUFFIXES)


def unpacked(files: Iterable[Record]) -> list[Record]:
    """``files`` with what the archives among them hold in their place.

    Of several for one path the last counts, as in unpacking, and a file on disk before a member.

    Raises:
        UsageError: an archive is damaged or cut.
    """
    known = list(files)
    archives = {file.path: file for file in known if is_archive(file)}
    plain = {file.path: file for file in known if file.path not in archives}
    return list(({file.path: file for file in _list_all([*archives.values()])} | plain).values())


def _list_all(archives: list[Record]) -> Iterator[Record]:
    """Members of all archives, several archives at a time."""
    size = min(len(archives), len(os.sched_getaffinity(0)))
    pool = Pool(_list, workers=size, wall_limit=_WALL_LIMIT, name=lambda a: str(a.source))
    with pool, Progress(len(archives), "archive") as bar:
        answers = pool.map(archives) if len(archives) > 1 else map(_list, archives)
        for done, answer in enumerate(answers, start=1):
            if isinstance(answer, UsageError):
                raise answer
            bar.update(done, "listed")
            yield from answer


def _list(archive: Record) -> list[Record] | UsageError:
    """Members of one archive; its damage is a value, as it comes from another process."""
    try:
        with reading(archive.source) as stream:
            found = list(members(stream, archive.source, archive.path.rpartition("/")[0]))
            while stream.read(CHUNK):  # a zip has its checksum at its end
                pass
    except UsageError as error:
        return error
    return found

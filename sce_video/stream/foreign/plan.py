"""Tars made by others, without our index: which there are, and who reads which.

Epochs are a number of samples, whatever the tars hold. Readers (a worker of a rank each) walk over
the tars in passes of their own; the order is a pure function of (seed, start, pass, reader).
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

from sce_video.config.tasks import Config
from sce_video.errors import UsageError
from sce_video.files import open_plain
from sce_video.stream.draws import keyed_generator
from sce_video.stream.foreign.braces import MOST, expand_braces
from sce_video.stream.order import TrainingPlan, schedule
from sce_video.stream.remote.cache import Cache
from sce_video.stream.remote.files import bare_url, file_system, is_remote
from sce_video.video.kinds import PACKED, kind_of

_BLOCK = tarfile.BLOCKSIZE
_NAMES = re.compile(r"\.(tar(\.\w+)?|t[gbxz]z2?|tzst|zip)$", re.IGNORECASE)
_PACKED = "several readers cannot share what is packed; unpack it first"

Visit = tuple[str, int, int]
"""``(tar, part, parts)``: samples ``part, part + parts, ...`` of the tar."""


def is_foreign(shards: str | Sequence[str]) -> bool:
    """Whether ``data.shards`` names tars rather than a shard set."""
    if not isinstance(shards, str):
        return True
    if not is_remote(shards) and os.path.isdir(shards):  # noqa: PTH112  (False for any odd name)
        return False
    where = bare_url(shards)
    return bool(_NAMES.search(where)) or "*" in where or "{" in where


def expand(shards: str | Sequence[str]) -> list[str]:
    """The tars that globs, ranges, paths and URLs name, in a fixed order.

    A local name that exists is taken as it is, whatever signs it holds.

    Raises:
        UsageError: no such tar, a folder, something packed or else no tar, a range that is too
            long, or a URL that is not offered.
    """
    found: list[str] = []
    for pattern in [shards] if isinstance(shards, str) else shards:
        if not pattern:
            raise UsageError("data.shards: an empty name in the list; give tars or a shard set")
        if not is_remote(pattern) and os.path.lexists(pattern):
            found.append(pattern)
            continue
        for name in expand_braces(pattern):
            found += [name] if is_remote(name) else sorted(glob.glob(name)) or [name]  # noqa: PTH207
            if len(found) > MOST:
                raise UsageError(f"data.shards: more than {MOST:,} tars, up to {bare_url(name)}")
    if not found:
        raise UsageError("data.shards: an empty list; give tars or a shard set")
    for name in found:
        if is_remote(name):
            if "*" in name:
                where = bare_url(name)
                raise UsageError(f"{where}: no globs in URLs; give a range such as {{00..99}}")
            if (match := _NAMES.search(bare_url(name))) and match[1].lower() != "tar":
                raise UsageError(f"{bare_url(name)}: {_PACKED}")
            file_system(name)  # the extra is there
        elif os.path.isdir(name):  # noqa: PTH112
            raise UsageError(f"{name}: a folder; for its tars without an index give '{name}/*.tar'")
        else:
            try:
                with os.fdopen(open_plain(name, follow=True), "rb") as stream:
                    check_tar(name, stream.read(_BLOCK))
            except FileNotFoundError as error:
                raise UsageError(f"{name}: no such file") from error
            except OSError as error:
                raise UsageError(f"{name}: {error.strerror}") from error
    return found


def check_tar(name: str, start: bytes) -> None:
    """Refuse by its first block what is no plain tar.

    Raises:
        UsageError: it is packed, or of another kind; what is called ``.tar`` may be damaged.
    """
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if start == bytes(_BLOCK):  # of one that holds nothing
            return
        if (kind := kind_of(start)) in PACKED:
            raise UsageError(f"{name}: {kind}: {_PACKED}") from error
        if kind or not name.endswith(".tar"):
            hint = "get it again" if name.endswith(".tar") else "give tars alone, such as '*.tar'"
            raise UsageError(f"{name}: {kind}{', ' * bool(kind)}no tar; {hint}") from error


@dataclass(frozen=True, kw_only=True)
class ForeignPlan(TrainingPlan):
    """Steps over tars without an index."""

    shards: tuple[str, ...]
    epoch_samples: int
    cache: Cache
    images: bool  # rather than videos

    @property
    def samples(self) -> int:
        """Samples an epoch."""
        return self.epoch_samples

    def micro_batches_left(self, consumed: int) -> int:
        """Micro-batches that each rank has yet to make once ``consumed`` samples were seen."""
        steps = self.epochs * self.steps_per_epoch - consumed // self.batch_size
        return steps * self.accumulate

    def visits(self, start: int, number: int, reader: int, readers: int) -> list[Visit]:
        """What a reader goes through in pass ``number`` after a start at ``start`` samples.

        Where there are fewer tars than readers, each is shared by several, who take every n-th
        sample; together the readers visit everything once a pass.
        """
        parts = -(-readers // len(self.shards))
        generator = keyed_generator(f"visits/{self.seed}/{start}/{number}/{self.digest}")
        order = generator.permutation(len(self.shards) * parts)
        return [
            (self.shards[unit // parts], int(unit % parts), parts)
            for unit in order[reader::readers]
        ]


def foreign_plan(config: Config, rank: int, ranks: int) -> ForeignPlan:
    """The plan of a run over tars without an index.

    Raises:
        UsageError: no tars, no full batch, ``data.epoch_samples`` missing, or what needs an index.
    """
    data = config.data
    shards = expand(data.shards)
    if data.epoch_samples is None:
        raise UsageError(
            "data.epoch_samples is missing: tars without an index need it, "
            "the samples that count as an epoch"
        )
    if data.split is not None:
        raise UsageError(
            f"data.split={data.split}: tars without an index have no splits; give data.split=null"
        )
    indexed = {
        f"task={config.task}": config.task != "pretrain",
        f"clip.grid={config.shape.grid}": config.shape.grid > 1,
        f"data.decode={data.decode}": data.decode not in ("planned", "pyav"),
        "data.on_short=drop": data.on_short == "drop",
    }
    for key, asked in indexed.items():
        if asked:
            raise UsageError(f"{key}: needs shards with an index; these tars have none")
    names = "\n".join([*(bare_url(shard) for shard in shards), str(data.epoch_samples)])
    return ForeignPlan(
        digest=hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest(),
        shards=tuple(shards),
        epoch_samples=data.epoch_samples,
        cache=Cache.at(data.cache, data.cache_gib),
        images=config.clip is None,
        **schedule(config, rank, ranks),
    )

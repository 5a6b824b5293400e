"""What the rows of an index may say: what every reader of a set relies on, checked when it opens.

An index is a file like others, and its sums are right if whoever made it made them so.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sce_video.shardset.manifest import LONGEST_NAME, Manifest
from sce_video.text import printable
from sce_video.video.container import CONTAINERS
from sce_video.video.limits import DEFAULT_LIMITS

IMAGE_EXTENSIONS = ("jpg", "png")
_VIDEO_EXTENSIONS = ("webm", *sorted({*CONTAINERS.values()}))
MEMBERS = ("media", "json", "idx")
_BLOCK = 512  # bytes of a tar's header, before each member
LARGEST_JSON = 1 << 20
"""Bytes of a ``json`` member."""
_LONGEST_KEY = 95  # bytes: a plain tar holds names of 100, extension included
_LONGEST = 1 << 16  # bytes of a path and other text; names are bounded by the manifest
_SHOWN = 80  # characters of a wrong value in a message


class Wrong(NamedTuple):
    """What a column must not hold, and where it does."""

    column: str
    rows: NDArray[np.bool_]
    what: str


def row_problem(table: pa.Table, manifest: Manifest) -> str | None:
    """The first thing that is wrong with the rows of an index: row, column and value; None = none.

    Args:
        table: with the columns of the index, without nulls, one row a sample of the manifest.
        manifest: that the set has.
    """
    shards = shard_numbers(table, manifest)
    checks = _texts(table, manifest, shards), _facts(table, manifest)
    for wrong in chain(*checks, _places(table, manifest, shards)):
        if wrong.rows.any():
            row = int(wrong.rows.argmax())
            value = table.column(wrong.column)[row].as_py()
            shown = value if isinstance(value, str) else f"{value}"
            shown = printable(shown[:_SHOWN])
            return f"row {row}, {wrong.column} {shown!r}: {wrong.what}"
    return _counts_problem(manifest, shards)


def shard_numbers(table: pa.Table, manifest: Manifest) -> NDArray[np.int64]:
    """Number of each row's shard among the names of the manifest's, sorted; -1 = none of them."""
    names = pa.array(sorted(shard.name for shard in manifest.shards), pa.string())
    numbers = pc.index_in(table.column("shard"), value_set=names).fill_null(-1)
    return cast("NDArray[np.int64]", numbers.to_numpy().astype(np.int64))


def _numbers(table: pa.Table, column: str) -> NDArray[Any]:
    return cast("NDArray[Any]", table.column(column).to_numpy())


def _not(right: pa.ChunkedArray) -> NDArray[np.bool_]:
    return cast("NDArray[np.bool_]", ~right.to_numpy())


def _texts(table: pa.Table, manifest: Manifest, shards: NDArray[np.int64]) -> Iterator[Wrong]:
    """Names, keys and extensions."""
    yield Wrong("shard", shards < 0, "its manifest names no such shard")
    key, ext = table.column("key"), table.column("ext")
    plain = pc.match_substring_regex(key, "^[A-Za-z0-9_-]+$")
    yield Wrong("key", _not(plain), "not of letters, digits, _ and -")
    yield Wrong("key", _not(pc.less_equal(pc.binary_length(key), _LONGEST_KEY)), "too long")
    if len(key.unique()) != len(table):
        _, first = np.unique(key.to_numpy(), return_index=True)
        rows = np.ones(len(table), np.bool_)
        rows[first] = False
        yield Wrong("key", rows, "an earlier row has it, too")
    kinds = IMAGE_EXTENSIONS if _is_image(table).any() else _VIDEO_EXTENSIONS
    yield Wrong("ext", _not(pc.is_in(ext, pa.array(kinds))), f"none of {', '.join(kinds)}")
    digest = pc.equal(pc.binary_length(table.column("sha256")), 64)
    yield Wrong("sha256", _not(digest), "no sha256")
    longest = {"path": _LONGEST, **dict.fromkeys(manifest.splits, 4 * LONGEST_NAME)}
    for column, most in longest.items():
        right = pc.less_equal(pc.binary_length(table.column(column)), most)
        yield Wrong(column, _not(right), "too long")


def _is_image(table: pa.Table) -> NDArray[np.bool_]:
    images = pc.is_in(table.column("ext"), pa.array(IMAGE_EXTENSIONS))
    return cast("NDArray[np.bool_]", images.to_numpy())


def _facts(table: pa.Table, manifest: Manifest) -> Iterator[Wrong]:
    """Label and class; frames, rate and size, within what the converter takes."""
    label, classes = _numbers(table, "label"), len(manifest.classes)
    what = f"not from -1 to {classes - 1}, as there are {classes:,} classes"
    yield Wrong("label", (label < -1) | (label >= classes), what)
    names = pa.array([*manifest.classes, ""], pa.string()).take(pa.array(label % (classes + 1)))
    yield Wrong("class", _not(pc.equal(table.column("class"), names)), "not that of its label")
    images, frames = _is_image(table), _numbers(table, "frames")
    yield Wrong("frames", np.where(images, frames != 1, frames < 1), "no number of frames")
    yield Wrong("frames", frames > DEFAULT_LIMITS.frames, f"over {DEFAULT_LIMITS.frames:,}")
    for column in ("fps", "duration"):
        value = _numbers(table, column)
        odd = np.where(images, value != 0, (value < 0) | ~np.isfinite(value))
        yield Wrong(column, odd, "not from 0 on, or other than 0 for an image")
    width, height = (_numbers(table, name).astype(np.int64) for name in ("width", "height"))
    for column, value in (("width", width), ("height", height)):
        yield Wrong(column, value < 1, "not from 1 on")
    what = f"more than {DEFAULT_LIMITS.pixels:,} pixels"
    yield Wrong("width", width * height > DEFAULT_LIMITS.pixels, what)


def _places(table: pa.Table, manifest: Manifest, shards: NDArray[np.int64]) -> Iterator[Wrong]:
    """Members lie inside of their shard, and are no larger than a converter makes them."""
    sizes = {shard.name: shard.bytes for shard in manifest.shards}
    ends = np.array([sizes[name] for name in sorted(sizes)], np.int64)
    end = ends[shards] if len(table) else ends[:0]
    limits = {"media": DEFAULT_LIMITS.bytes, "json": LARGEST_JSON, "idx": DEFAULT_LIMITS.bytes}
    for member in MEMBERS:
        offset, size = (_numbers(table, f"{member}_{name}") for name in ("offset", "size"))
        none = (offset == -1) & (size == 0) if member == "idx" else np.zeros(len(table), np.bool_)
        what = f"not from 1 to {limits[member]:,}"
        yield Wrong(f"{member}_size", ~none & ((size < 1) | (size > limits[member])), what)
        outside = (offset < _BLOCK) | (offset > end - size)
        yield Wrong(f"{member}_offset", ~none & outside, "outside of its shard")


def _counts_problem(manifest: Manifest, shards: NDArray[np.int64]) -> str | None:
    """A shard that has other samples than its manifest counts."""
    named = sorted(manifest.shards, key=lambda shard: shard.name)
    counts = np.bincount(shards, minlength=len(named))
    for shard, count in zip(named, counts.tolist(), strict=True):
        if count != shard.samples:
            return f"{count:,} rows of {shard.name}, which has {shard.samples:,} samples"
    return None

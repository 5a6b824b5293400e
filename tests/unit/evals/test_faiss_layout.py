"""Bytes of FAISS indexes: ours are let through, and nothing that lies about itself."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sce_video.evals.faiss_index import build, load_faiss, write_index
from sce_video.evals.faiss_layout import LayoutError, read_layout

WIDTH, COUNT, LISTS = 8, 1200, 23


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of an index of each kind."""
    vectors = np.random.default_rng(0).standard_normal((COUNT, WIDTH), dtype=np.float32)
    path, found = tmp_path_factory.mktemp("faiss") / "index.faiss", {}
    for kind in ("flat", "ivf"):
        write_index(path, build(vectors.copy(), kind)[0].index)
        assert read_layout(path) == (kind, COUNT, WIDTH)
        found[kind] = path.read_bytes()
    return found


def put(at: int, layout: str, *values: float) -> Callable[[bytes], bytes]:
    """Other numbers at a place."""
    packed = struct.pack(f"<{layout}", *values)
    return lambda data: data[:at] + packed + data[at + len(packed) :]


_LISTS_AT = 53 + 45 + 4 * WIDTH * LISTS + 9  # behind the header, the centres, and no map
_SIZES_AT = _LISTS_AT + 4 + 16 + 4 + 8
LIES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "nothing": ("flat", lambda _: b"", "it is empty"),
    "a word": ("flat", lambda data: data[:4], "it is cut short"),
    "half": ("flat", lambda data: data[: len(data) // 2], "it is cut short"),
    "all but a byte": ("ivf", lambda data: data[:-1], "it is cut short"),
    "a byte more": ("flat", lambda data: data + b" ", "more follows than it says"),
    "another kind": ("flat", lambda data: b"IxF2" + data[4:], "neither a flat nor an ivf one"),
    "one on disk": ("ivf", put(_LISTS_AT, "4s", b"ilod"), "other lists than we write"),  # type: ignore[arg-type]
    "no width": ("flat", put(4, "i", 0), "its header is none that we write"),
    "a negative width": ("flat", put(4, "i", -8), "its header is none that we write"),
    "a huge width": ("flat", put(4, "i", 2**31 - 1), "its header is none that we write"),
    "another width": ("flat", put(4, "i", 16), "other numbers than its vectors have"),
    "no vector": ("flat", put(8, "q", 0), "its header is none that we write"),
    "negative vectors": ("flat", put(8, "q", -1), "its header is none that we write"),
    "huge vectors": ("flat", put(8, "q", 2**62), "other numbers than its vectors have"),
    "not trained": ("flat", put(32, "B", 0), "its header is none that we write"),
    "another metric": ("flat", put(33, "i", 1), "its header is none that we write"),
    "huge numbers": ("flat", put(37, "Q", 2**60), "other numbers than its vectors have"),
    "NaN": ("flat", put(45 + 400, "f", float("nan")), "vectors that are not finite"),
    "infinite centres": ("ivf", put(53 + 45, "f", float("inf")), "vectors that are not finite"),
    "no lists": ("ivf", put(37, "Q", 0), "its header is none that we write"),
    "huge lists": ("ivf", put(37, "Q", 2**62), "its header is none that we write"),
    "no probe": ("ivf", put(45, "Q", 0), "its header is none that we write"),
    "other centres": ("ivf", put(37, "Q", LISTS - 1), "other centres than lists"),
    "a map": ("ivf", put(_LISTS_AT - 9, "B", 1), "other lists than we write"),
    "a huge map": ("ivf", put(_LISTS_AT - 8, "Q", 2**60), "other lists than we write"),
    "other codes": ("ivf", put(_LISTS_AT + 12, "Q", 4), "other lists than we write"),
    "other sizes": ("ivf", put(_SIZES_AT - 8, "Q", LISTS + 1), "other lists than it says"),
    "a huge list": ("ivf", put(_SIZES_AT, "Q", 2**63), "lists of other vectors than it says"),
    "a number beyond": (
        "ivf",
        lambda data: put(len(data) - 8, "q", COUNT)(data),
        "of numbers that",
    ),
    "one below 0": ("ivf", lambda data: put(len(data) - 8, "q", -1)(data), "of numbers that"),
    "a number twice": (
        "ivf",
        lambda data: data[:-8] + data[-16:-8],
        "vectors of one number",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_lies_is_not_let_through(lie: str, files: dict[str, bytes], tmp_path: Path) -> None:
    kind, change, told = LIES[lie]
    path = tmp_path / "index.faiss"
    path.write_bytes(change(files[kind]))
    with pytest.raises(LayoutError, match=told):
        read_layout(path)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_what_is_let_through_faiss_reads(
    kind: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    """Of bytes changed at random, those that pass are an index that can be asked."""
    rng, path, passed = np.random.default_rng(1), tmp_path / "index.faiss", 0
    heads = 53 + 45 + 16 if kind == "ivf" else 45 + 16
    for _ in range(300):
        data = bytearray(files[kind])
        data[int(rng.integers(0, heads))] = int(rng.integers(0, 256))
        path.write_bytes(data)
        try:
            _, count, width = read_layout(path)
        except LayoutError:
            continue
        passed += 1
        index = load_faiss().read_index(str(path))
        assert (index.ntotal, index.d) == (count, width) == (COUNT, WIDTH)
        places = index.search(np.ones((1, WIDTH), np.float32), 5)[1]
        assert ((places >= -1) & (places < COUNT)).all()
    assert 0 < passed < 300


def test_what_is_no_file_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # which nobody writes into: to read it would never end
    with pytest.raises(OSError, match="is not a regular file"):
        read_layout(tmp_path / "pipe")

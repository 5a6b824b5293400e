"""Readers of evaluations: kept features, indexes for search, results that may be replaced."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from argparse import Namespace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sce_video.commands.search import _query
from sce_video.evals.kept import (
    FEATURES_NAME,
    PARTS,
    content_sha256,
    find,
    missing_rows,
    put_together,
    read_features,
    read_parts,
    write_part,
)
from sce_video.evals.results import check_replaces
from sce_video.evals.retrieval import prepare
from sce_video.shardset.index import open_shards
from tests.faults.mutators.generic import damage
from tests.faults.mutators.tables import table_file
from tests.faults.mutators.tensors import tensor_file
from tests.faults.mutators.text import json_text
from tests.faults.targets.house import House
from tests.faults.targets.target import Target

_UNREADABLE = (
    *(SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OSError),
    MemoryError,
)
"""What is raised of a damaged file of features."""


def _make_features(house: House, folder: Path) -> None:
    house.search  # noqa: B018  (made)
    house.give(folder, "shards", "run/encoder.safetensors", "run/features")
    [kept] = (folder / "run/features").iterdir()
    kept.rename(folder / "kept")


def _read_features(folder: Path, place: str) -> None:
    request = House(folder).request(split="train")
    request.folder.parent.mkdir(parents=True, exist_ok=True)
    (folder / "kept").rename(request.folder)
    kept = find(request)
    if kept is None:  # what was not written by this version is extracted anew
        return
    features = read_features(kept, request)
    prepare(features.values)
    missing_rows(kept, request)


def _seal_features(folder: Path, place: str) -> None:
    """Have the header of a file of features name the sha256 of what it holds, if it can be read."""
    path = folder / place
    if path.suffix != ".safetensors":
        return
    with contextlib.suppress(*_UNREADABLE):
        with safe_open(path, framework="pt") as stream:
            about = json.loads(stream.metadata()["sce_video"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        about = {name: value for name, value in about.items() if name != "sha256"}
        header = json.dumps({**about, "sha256": content_sha256(about, tensors)})
        save_file(tensors, path, {"sce_video": header})


def _make_parts(house: House, folder: Path) -> None:
    """Features as ranks leave them, before the main one puts them together."""
    house.search  # noqa: B018  (made)
    house.give(folder, "shards", "run/encoder.safetensors")
    request = house.request(split="train")
    [kept] = (house.root / "run/features").iterdir()
    features = read_features(kept, request)
    (folder / "run/features").mkdir()
    own = House(folder).request(split="train")
    (own.folder / PARTS).mkdir(parents=True)
    write_part(own, [features], range(len(own.batches)))
    [part] = (own.folder / PARTS).iterdir()
    (folder / PARTS).mkdir()
    part.rename(folder / PARTS / "a.safetensors")
    shutil.rmtree(own.folder)


def _read_parts(folder: Path, place: str) -> None:
    request = House(folder).request(split="train")
    request.folder.mkdir(parents=True)
    (folder / PARTS).rename(request.folder / PARTS)
    parts = dict(read_parts(request))
    if set[int]().union(*parts.values()) == set(range(len(request.batches))):
        put_together(request, parts)
        read_features(request.folder, request)


def _make_search(house: House, folder: Path) -> None:
    house.search  # noqa: B018  (made)
    house.give(folder, "shards", "run/encoder.safetensors", "run/search")


def _seal_search(folder: Path, place: str) -> None:
    """Have ``search.json`` name what is there."""
    path = folder / "run/search/search.json"
    if folder / place == path:
        return
    protocol = json.loads(path.read_text())
    data = (folder / place).read_bytes()
    protocol["files"][Path(place).name] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(protocol))


def _search(folder: Path, place: str) -> None:
    """Ask with samples of the index, and with one that has to be read from the set."""
    rest = {"file": None, "encoder": None, "shards": None, "json": False}
    for key in open_shards(folder / "shards").strings("key")[:4]:
        _query(Namespace(index=folder / "run/search", key=key, top=3, **rest))


def _make_results(house: House, folder: Path) -> None:
    protocol = {"manifest_sha256": "ab" * 32, "bank": "train", "queries": "test", "size": 16}
    (folder / "knn.json").write_text(json.dumps({"top1": 0.5, "protocol": protocol}))


def _replace(folder: Path, place: str) -> None:
    protocol = {"manifest_sha256": "ab" * 32, "bank": "train", "queries": "test", "size": 16}
    check_replaces(folder / place, protocol)


TARGETS = (
    Target(
        "kept features",
        _make_features,
        {f"kept/{FEATURES_NAME}": tensor_file, "kept/rows.parquet": table_file},
        _read_features,
        _seal_features,
        share=3,
    ),
    Target(
        "part of features",
        _make_parts,
        {f"{PARTS}/a.safetensors": tensor_file},
        _read_parts,
        _seal_features,
        share=1,
    ),
    Target(
        "index for search",
        _make_search,
        {
            "run/search/search.json": json_text,
            "run/search/rows.parquet": table_file,
            "run/search/index.faiss": damage,
        },
        _search,
        _seal_search,
        share=4,
    ),
    Target("result", _make_results, {"knn.json": json_text}, _replace, share=1),
)

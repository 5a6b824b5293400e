"""Files of features: what others read, their mode, damage."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sce_video.cli import main
from sce_video.errors import VerificationError
from sce_video.evals import kept
from sce_video.evals.embed import embed
from sce_video.evals.features import Features, NotFiniteError, extract
from sce_video.evals.kept import read_features
from sce_video.evals.request import Request
from sce_video.shardset.index import open_shards
from tests.unit.evals.small_set import VIDEOS, rank, request_for


def test_the_files_are_what_others_read(whole: tuple[Path, Any], made: Path) -> None:
    folder, _ = whole
    with safe_open(folder / "features.safetensors", framework="pt") as stream:
        features = stream.get_tensor("features")
        protocol = json.loads(stream.metadata()["sce_video"])
    assert features.shape == (VIDEOS, 32)
    assert features.dtype == torch.float32
    assert {"encoder_sha256", "manifest_sha256", "views", "precision", "mean"} <= protocol.keys()
    assert (protocol["samples"], protocol["missing"]) == (VIDEOS, [])
    table = pq.read_table(folder / "rows.parquet")
    index = open_shards(made / "shards")
    assert table.column_names == ["row", "shard", "key", "label", "class", "path"]
    assert [str(table.schema.field(n).type) for n in ("row", "label")] == ["int64", "int64"]
    assert table.column("path").to_pylist() == index.strings("path")
    assert {p.name for p in folder.iterdir()} == {"features.safetensors", "rows.parquet"}
    # Each row is its own video's: computed alone, one view after the other.
    request = request_for(made)
    trunk, spec = request.encoder.trunk, request.encoder.spec
    alone = extract(trunk, spec, index, np.array([7]), request.views).values
    torch.testing.assert_close(features[7:8], alone, rtol=1e-5, atol=1e-6)
    assert (features[7] - features[6]).norm() > 1e-3 * features[6].norm()


def test_the_group_may_read_features(root: Path, for_the_group: int) -> None:
    command = ["embed", "--encoder", str(root / "run"), "--shards", str(root / "shards")]
    command += ["--split", "test", "--clips", "1", "--crops", "1", "--workers", "0"]
    assert main([*command, "--out", str(root / "out")]) == 0
    files = [*root.glob("run/features/*/*"), *root.glob("out/*")]
    assert [path.stat().st_mode & 0o777 for path in files] == [for_the_group] * 4


def test_a_damaged_file_is_said(root: Path) -> None:
    request = request_for(root, "test")
    [folder] = embed([request], rank(0, 1)) or []
    (folder / "features.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(VerificationError, match=f"damaged.*delete {folder}"):
        read_features(folder, request)


FILE = "features.safetensors"


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], object]) -> None:
    """Other insides of a file of features, with the right sum of them."""
    with safe_open(path, framework="pt") as stream:
        about = json.loads(stream.metadata()["sce_video"])
    tensors = load_file(path)
    del about["sha256"]
    change(about, tensors)
    header = json.dumps({**about, "sha256": kept.content_sha256(about, tensors)})
    save_file(tensors, path, {"sce_video": header})


INSIDES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Tensor]], object], str]] = {
    "of another request": (lambda a, _: a.update(request="0" * 16), "of another encoder"),
    "no rows": (lambda _, t: t.pop("rows"), "holds features"),
    "a tensor more": (lambda _, t: t.update(x=torch.ones(1)), "holds "),
    "one row twice": (lambda _, t: t["rows"].__setitem__(1, 0), "its rows do not ascend"),
    "rows that fall": (lambda _, t: t.update(rows=t["rows"].flip(0)), "its rows do not ascend"),
    "rows of fractions": (lambda _, t: t.update(rows=t["rows"].double()), "its rows do not"),
    "rows of two": (lambda _, t: t.update(rows=t["rows"][None].clone()), "its rows do not ascend"),
    "a row below 0": (lambda _, t: t["rows"].__setitem__(0, -1), "rows that the set does not have"),
    "a row beyond": (lambda _, t: t["rows"].__setitem__(-1, 10**9), "rows that the set does not"),
    "more rows": (lambda _, t: t.update(features=t["features"][1:].clone()), "other features than"),
    "of one number": (lambda _, t: t.update(features=t["features"][:, 0].clone()), "other feat"),
    "doubles": (lambda _, t: t.update(features=t["features"].double()), "other features than rows"),
    "a number missing": (lambda a, _: a.update(missing=5), ".*not iterable"),
    "a text missing": (lambda a, _: a.update(missing=["abc"]), "too many values"),
    "numbers missing": (lambda a, _: a.update(missing=[[1, 2]]), "missing samples that have no"),
    "nothing missing": (lambda a, _: a.pop("missing"), "'missing'"),
}


@pytest.fixture(scope="module")
def few(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kept features of the test list, and where the set lies."""
    folder = tmp_path_factory.mktemp("few")
    shutil.copytree(made / "run", folder / "run", ignore=shutil.ignore_patterns("features"))
    (folder / "shards").symlink_to(made / "shards")
    [found] = embed([request_for(folder, "test")], rank(0, 1)) or []
    return found


@pytest.mark.parametrize("case", INSIDES)
def test_what_is_no_kept_file_is_said_whatever_its_sum(
    case: str, few: Path, tmp_path: Path
) -> None:
    request = request_for(few.parent.parent.parent, "test")
    folder = tmp_path / few.name
    shutil.copytree(few, folder)
    change, told = INSIDES[case]
    rewrite(folder / FILE, change)
    line = rf"^{folder / FILE}: damaged: {told}.*; delete {folder}$"
    with pytest.raises(VerificationError, match=line):
        read_features(folder, request)


def test_features_that_are_not_finite_are_said(few: Path, tmp_path: Path) -> None:
    folder = tmp_path / few.name
    shutil.copytree(few, folder)
    rewrite(folder / FILE, lambda _, t: t["features"].__setitem__((1, 2), torch.nan))
    with pytest.raises(NotFiniteError, match=f"{FILE}: holds values that are not finite"):
        read_features(folder, request_for(few.parent.parent.parent, "test"))


def test_every_bit_counts(few: Path, tmp_path: Path) -> None:
    request, folder = request_for(few.parent.parent.parent, "test"), tmp_path / few.name
    shutil.copytree(few, folder)
    good = (folder / FILE).read_bytes()
    header = int.from_bytes(good[:8], "little")
    text = good.index(b"missing")
    for at in (8 + header, len(good) - 1, len(good) - 60, text, good.index(b"mean")):
        bad = bytearray(good)
        bad[at] ^= 1
        (folder / FILE).write_bytes(bad)
        with pytest.raises(VerificationError, match=f"{FILE}: damaged: "):
            read_features(folder, request)


def test_features_of_an_older_version_are_extracted_anew(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_for(root, "test")
    [folder] = embed([request], rank(0, 1)) or []
    good = load_file(folder / FILE)
    capsys.readouterr()
    save_file(
        {"features": torch.zeros(1, 32), "rows": torch.zeros(1).long()},
        folder / FILE,
        {"sce_video": json.dumps({"missing": []})},
    )
    (folder / "parts").mkdir()
    shutil.copyfile(folder / FILE, folder / "parts" / "old.safetensors")
    (folder / "parts" / "odd.safetensors").write_bytes(b"odd")
    assert embed([request], rank(0, 1)) == [folder]
    lines = sorted(capsys.readouterr().err.splitlines())
    assert lines[0].endswith(f"{FILE}: of an older version, which kept no sha256; extracting anew")
    assert ["; extracting it anew" in line for line in lines] == [False, True, True]
    again = load_file(folder / FILE)
    assert all(torch.equal(again[name], good[name]) for name in good)
    assert not (folder / "parts").exists()


PARTS: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], object]] = {
    "no batch": lambda _, t: t.update(batches=torch.zeros(0).long()),
    "a batch beyond": lambda _, t: t.update(batches=torch.tensor([10**6])),
    "a batch below 0": lambda _, t: t.update(batches=torch.tensor([-1])),
    "batches of fractions": lambda _, t: t.update(batches=torch.tensor([0.5])),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_part_of_batches_that_are_none_is_said(case: str, root: Path) -> None:
    request = request_for(root, "test")
    kept.write_part(request, [extract_one(request)], [0])
    [path] = (request.folder / "parts").iterdir()
    assert list(kept.read_parts(request)) == [(path, [0])]
    rewrite(path, PARTS[case])
    with pytest.raises(VerificationError, match=f"^{path}: damaged: batches that the request"):
        list(kept.read_parts(request))


def extract_one(request: Request) -> Features:
    """Made features of its first row, and a folder for parts."""
    (request.folder / "parts").mkdir(parents=True)
    rows = request.rows[:1]
    return Features(torch.ones(1, 32), rows, torch.zeros(1).long(), [])


def test_parts_of_several_widths_are_not_put_together(root: Path) -> None:
    request = request_for(root, "test")
    one = extract_one(request)
    for width in (32, 33):
        kept.write_part(request, [replace(one, values=torch.ones(1, width))], [0])
    with pytest.raises(VerificationError, match="parts: features of several widths; delete"):
        kept.put_together(request, list((request.folder / "parts").iterdir()))


def test_a_table_that_is_not_that_of_the_features_is_written_anew(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["embed", "--encoder", str(root / "run"), "--shards", str(root / "shards")]
    command += ["--split", "test", "--clips", "1", "--crops", "1", "--workers", "0"]
    assert main(command) == 0
    [path] = root.glob("run/features/*/rows.parquet")
    good = path.read_bytes()
    assert capsys.readouterr().err == ""
    for spoil in ("cut short", "lost", "a link", "a pipe"):
        path.unlink()
        if spoil == "cut short":
            path.write_bytes(good[:-1])
        elif spoil == "a link":
            path.symlink_to(root / "shards" / "index.parquet")
        elif spoil == "a pipe":
            os.mkfifo(path)
        assert main([*command, "--out", str(root / "out")]) == 0
        told = f"{path}: not the one that {FILE} names; writing it anew"
        assert capsys.readouterr().err == f"sce-video: {told}\n"
        assert (path.is_symlink(), path.read_bytes()) == (False, good)
        assert (root / "out" / path.name).read_bytes() == good


def test_what_is_no_file_holds_no_features(few: Path, tmp_path: Path) -> None:
    request, path = request_for(few.parent.parent.parent, "test"), tmp_path / FILE
    path.symlink_to(few / FILE)
    with pytest.raises(OSError, match="is a link"):
        read_features(tmp_path, request)
    path.unlink()
    os.mkfifo(path)  # which nobody writes into: to read it would never end
    with pytest.raises(OSError, match="is not a regular file"):
        read_features(tmp_path, request)

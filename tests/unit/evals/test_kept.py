"""Files of features: what others read, their mode, damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

from sce_video.cli import main
from sce_video.errors import VerificationError
from sce_video.evals.embed import embed
from sce_video.evals.features import extract
from sce_video.evals.kept import read_features
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

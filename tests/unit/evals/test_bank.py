"""Bank and queries: which lists, and who is in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sce_video.cli import main
from sce_video.errors import UsageError
from sce_video.evals.bank import extract_lists
from tests.unit.evals.small_set import VIDEOS, rank, request_for


def test_leave_one_out_and_mixed_usage(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--encoder", str(root / "run"), "--shards", str(root / "shards")]
    common += ["--clips", "1", "--crops", "1", "--workers", "0"]
    assert main(["knn", *common, "--leave-one-out", "test", "--k", "3"]) == 0
    result = json.loads((root / "run/knn/knn.json").read_text())
    assert (result["samples"], result["bank_samples"]) == (6, 6)
    assert result["protocol"]["bank"] == "test, without the query"
    out = root / "everything"
    assert main(["knn", *common, "--leave-one-out", "--out", str(out)]) == 0
    assert json.loads((out / "knn.json").read_text())["samples"] == VIDEOS
    assert main(["knn", *common, "--leave-one-out", "test", "--bank", "a", "--queries", "b"]) == 2
    assert "takes the place of" in capsys.readouterr().err


def test_what_is_no_encoder_and_no_list_is_one_line(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--shards", str(root / "shards"), "--workers", "0", "--clips", "1", "--crops", "1"]
    encoder = ["--encoder", str(root / "run")]
    assert main(["knn", *common, *encoder, "--split", "1"]) == 2
    assert "no lists of a split '1'; it has split\n" in capsys.readouterr().err
    assert main(["knn", *common, *encoder, "--split", "split"]) == 0
    (root / "README.md").write_text("# An encoder\n")
    assert main(["knn", *common, "--encoder", str(root / "README.md")]) == 2
    error = capsys.readouterr().err
    assert f"{root / 'README.md'}: not an encoder of sce-video: no safetensors file" in error
    assert error.count("\n") == 1


def test_samples_without_a_class_neither_vote_nor_count(root: Path) -> None:
    request = request_for(root)
    index = request.index
    labels = index.numbers("label").astype(np.int32)
    labels[index.rows("test")[:2]] = labels[index.rows("train")[:4]] = -1
    column = index.table.column_names.index("label")
    table = index.table.set_column(column, "label", pa.array(labels))
    views = replace(request.views, clips=1, crops=1)
    lists = [
        replace(request, index=replace(index, table=table), views=views, split=split)
        for split in ("train", "test")
    ]
    data = extract_lists(lists, rank(0, 1))
    assert data is not None
    assert (len(data.bank.rows), len(data.queries.rows)) == (8, 4)
    assert data.protocol["unlabelled"] == 6
    assert min(data.bank.labels.min(), data.queries.labels.min()) >= 0
    nobody = index.table.set_column(column, "label", pa.array(np.full_like(labels, -1)))
    with pytest.raises(UsageError, match="no sample of train has a class"):
        extract_lists([replace(r, index=replace(index, table=nobody)) for r in lists], rank(0, 1))

"""Results of other evaluations are not replaced."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from sce_video.cli import main
from sce_video.evals import embed as room
from sce_video.model.encoder import save_encoder
from sce_video.model.weights import open_encoder


def test_a_result_of_another_evaluation_is_not_replaced(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--encoder", str(root / "run"), "--shards", str(root / "shards"), "--crops", "1"]
    lists = ["--bank", "train", "--queries", "test", "--clips", "1", "--workers", "0"]
    swapped = ["--bank", "test", "--queries", "train", *lists[4:]]
    for verb, file in (("retrieve", "retrieval/retrieval.json"), ("knn", "knn/knn.json")):
        path = root / "run" / file
        assert main([verb, *common, *lists]) == 0
        before = path.read_bytes()
        with patch.object(room, "extract_batches", side_effect=AssertionError("worked")):
            assert main([verb, *common, *swapped]) == 2
            error = capsys.readouterr().err
            assert f"{path}: is the result of another evaluation (bank train, here test; " in error
            assert error.endswith("queries test, here train); give --out, or remove it\n")
            assert main([verb, *common, *lists, "--size", "30"]) == 2
            assert "(size 32, here 30)" in capsys.readouterr().err
        assert path.read_bytes() == before
        out = ["--out", str(root / verb)]
        assert main([verb, *common, *lists, *out]) == 0
        assert main([verb, *common, *swapped, *out]) == 0  # as asked
    assert main(["knn", *common, *lists, "--k", "3"]) == 2
    assert "(k 20, here 3)" in capsys.readouterr().err
    assert main(["knn", *common, "--leave-one-out", *lists[4:]]) == 2
    assert "bank train, here all, without the query" in capsys.readouterr().err
    # A newer encoder's result is what is wanted.
    shutil.rmtree(root / "run/features")
    weights = open_encoder(root / "run")
    torch.nn.init.ones_(next(weights.trunk.parameters()))
    save_encoder(root / "run" / "encoder.safetensors", weights.trunk, weights.spec)
    assert main(["knn", *common, *lists]) == 0
    assert path.read_bytes() != before

"""Results of other evaluations are not replaced."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from sce_video.cli import main
from sce_video.errors import UsageError
from sce_video.evals import embed as room
from sce_video.evals.results import check_replaces, write_json, write_table
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


HOSTILE = [
    *("", "{", "[1]", "[" * 10**5, '{"protocol": null}', '{"protocol": [5]}', '{"protocol": "k"}'),
    *('{"protocol": 5}', "\0", '"\\ud800"'),
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_result_may_be_replaced(content: str, tmp_path: Path) -> None:
    (tmp_path / "knn.json").write_text(content)
    check_replaces(tmp_path / "knn.json", {"k": 20})


def test_a_result_of_any_values_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "knn.json"
    path.write_text('{"top1": NaN, "protocol": {"k": [' + "1, " * 10**5 + "1]}}")
    with pytest.raises(
        UsageError, match=r"another evaluation \(k \[1, 1, .*\.\.\., here 20\)"
    ) as error:
        check_replaces(path, {"k": 20})
    assert len(str(error.value)) < 400
    path.unlink()
    os.mkfifo(path)  # which nobody writes into: to read it would never end
    with pytest.raises(OSError, match="is not a regular file"):
        check_replaces(path, {"k": 20})


def test_a_sheet_takes_no_name_for_a_formula(tmp_path: Path) -> None:
    names = ("=1+1", "@a", "-b", "+c", "a\nb", "\x1b[2J", "a,b", "plain")
    write_table(tmp_path / "t.csv", ("class", "share"), [(name, -0.5) for name in names])
    rows = list(csv.reader((tmp_path / "t.csv").open(newline="")))
    shown = ["'=1+1", "'@a", "'-b", "'+c", r"a\nb", r"\x1b[2J", "a,b", "plain"]
    assert rows == [["class", "share"], *([name, "-0.5"] for name in shown)]


def test_no_figure_is_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "knn.json", {"top1": float("nan")})
    assert not list(tmp_path.iterdir())

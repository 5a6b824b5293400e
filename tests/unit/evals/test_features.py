"""Features that are not finite give no figure, and nothing that a later command would trust."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sce_video.cli import main
from sce_video.evals import features, search
from sce_video.evals.embed import embed
from sce_video.evals.features import NotFiniteError, check_finite, forward, sample_names
from sce_video.evals.kept import FEATURES_NAME, content_sha256, read_features
from sce_video.model.encoder import load_encoder, save_encoder
from tests.unit.evals.small_set import rank, request_for

VALUES = [float("nan"), float("inf"), -float("inf"), 1e30]  # the last has no finite length
VERBS = [("embed",), ("retrieve", "train"), ("knn", "train"), ("search", "build")]


def arguments(root: Path, verb: tuple[str, ...]) -> list[str]:
    lists = ["--bank", "train", "--queries", "test"] if "train" in verb else []
    words = [word for word in verb if word != "train"]
    where = ["--encoder", str(root / "run"), "--shards", str(root / "shards")]
    return [*words, *where, *lists, "--clips", "1", "--crops", "1", "--workers", "0"]


def left(root: Path) -> list[Path]:
    """What features and figures are there."""
    names = (FEATURES_NAME, "*.json", "*.csv", "*.faiss")
    return [path for name in names for path in (root / "run").rglob(name)]


def broken(value: float, places: list[int]) -> Callable[..., Tensor]:
    """``forward`` with one number of some samples replaced."""

    def made(*inputs: object) -> Tensor:
        values = forward(*inputs)  # type: ignore[arg-type]
        values[places, -1, -1] = value
        return values

    return made


def test_weights_that_overflow_are_found_by_each_verb(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "run" / "encoder.safetensors"
    trunk, spec = load_encoder(file)
    last = next(reversed([m for m in trunk.modules() if isinstance(m, torch.nn.BatchNorm3d)]))
    torch.nn.init.constant_(last.bias, 3e38)
    save_encoder(file, trunk, spec)
    for verb in VERBS:
        request = request_for(root, "train" if "train" in verb else None)
        [first] = sample_names(request.index, request.rows[:1])
        assert main(arguments(root, verb)) == 1
        error = capsys.readouterr().err
        assert f"sce-video: {file}: gives values that are not finite" in error
        assert f" for {first}, " in error
        assert error.rstrip().endswith("; no figure is made of them")
        assert len(error.splitlines()) == 1
    assert not left(root)


@pytest.mark.parametrize("value", VALUES)
def test_the_samples_are_named(value: float, root: Path) -> None:
    request = request_for(root)
    names = sample_names(request.index, request.rows)
    with (
        patch.object(features, "forward", broken(value, [1])),
        pytest.raises(NotFiniteError, match=f"not finite .* for {names[1]}; no figure") as caught,
    ):
        embed([request], rank(0, 1))
    assert caught.value.exit_code == 1
    assert not left(root)
    assert not list(request.folder.rglob("*.safetensors"))  # nor a part of them


def test_many_samples_are_counted(root: Path) -> None:
    index = request_for(root).index
    rows = index.rows(None)
    with pytest.raises(NotFiniteError, match=r"for a, b, c and 3 more; delete it$"):
        check_finite(torch.full((6, 2), torch.nan), lambda _: list("abcdef"), "x: has", "delete it")
    assert sample_names(index, rows[3:5]) == sample_names(index, rows)[3:5]


def test_another_rank_says_so_itself(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        patch.object(features, "forward", broken(torch.nan, [0])),
        pytest.raises(NotFiniteError),
    ):
        embed([request_for(root)], rank(1, 2))
    assert "sce-video: " in (error := capsys.readouterr().err)
    assert "gives values that are not finite" in error


def test_features_that_an_older_version_kept_are_found(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(root, ("embed",))) == 0
    [file] = (root / "run").rglob(FEATURES_NAME)
    with safe_open(file, framework="pt") as stream:
        about = json.loads(stream.metadata()["sce_video"])
        tensors = {name: stream.get_tensor(name) for name in ("features", "rows")}
    index = request_for(root).index
    row = int(index.rows("test")[2])
    tensors["features"][row, 3] = torch.nan
    del about["sha256"]
    save_file(
        tensors,
        file,
        {"sce_video": json.dumps({**about, "sha256": content_sha256(about, tensors)})},
    )
    name = sample_names(index, index.rows("test"))[2]
    for verb in VERBS:
        capsys.readouterr()
        assert main(arguments(root, verb)) == 1
        error = capsys.readouterr().err
        assert (
            f"{file}: holds values that are not finite (NaN, Inf, or beyond 1e19) for {name};"
            in error
        )
        assert f"delete {file.parent}, and extract anew" in error
    assert left(root) == [file]
    request = request_for(root)
    train = replace(request, split="train")  # its samples are sound
    assert len(read_features(file.parent, train).rows) == len(train.rows)
    shutil.rmtree(file.parent)
    assert main(arguments(root, VERBS[1])) == 0


def test_zeros_and_constants_are_no_fault(root: Path) -> None:
    for value in (0.0, 1.0, 1e-30):

        def same(*inputs: object, value: float = value) -> Tensor:
            return torch.full_like(forward(*inputs), value)  # type: ignore[arg-type]

        shutil.rmtree(root / "run" / "features", ignore_errors=True)
        with patch.object(features, "forward", same):
            for verb in VERBS[:3]:
                assert main(arguments(root, verb)) == 0


def test_a_query_without_a_finite_feature_has_no_answer(
    root: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(root, ("search", "build")), "--split", "train"]) == 0
    index, video = str(root / "run" / "search"), str(made / "raw/class1/train1.mp4")
    key = request_for(root).index.strings("key")[int(request_for(root, "test").rows[0])]
    for room, asked in ((search, [video]), (features, ["--key", key])):
        capsys.readouterr()
        with patch.object(room, "forward", broken(torch.nan, [0])):
            assert main(["search", "query", "--index", index, *asked]) == 1
        told = capsys.readouterr()
        assert f"{root / 'run' / 'encoder.safetensors'}: gives values that are not" in told.err
        assert f"{asked[-1]}; no figure" in told.err
        assert not told.out
        assert main(["search", "query", "--index", index, *asked]) == 0

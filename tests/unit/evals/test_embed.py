"""Features are extracted once: the same bits from any number of ranks, after any kill."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from sce_video.cli import main
from sce_video.errors import UsageError
from sce_video.evals import embed as room
from sce_video.evals.embed import embed
from sce_video.evals.kept import FEATURES_NAME, ROWS_NAME, find, read_features
from sce_video.evals.request import Request
from sce_video.files import sha256_file
from sce_video.lock import LOCK_NAME, Lock
from sce_video.shardset.index import open_shards
from tests.unit.evals.small_set import VIDEOS, bits, rank, request_for


@pytest.fixture(autouse=True)
def often() -> Any:
    """A part a batch."""
    with patch.object(room, "_SAVE_EVERY", 0.0):
        yield


class Counting(nn.Module):
    """A trunk that counts its videos, and stops everything at one."""

    def __init__(self, trunk: nn.Module, stop: int | None = None) -> None:
        super().__init__()
        self.trunk, self.seen, self.stop = trunk, 0, stop

    def forward(self, clip: Tensor) -> Tensor:
        self.seen += len(clip) // 24
        if self.stop is not None and self.seen > self.stop:
            raise KeyboardInterrupt
        features: Tensor = self.trunk(clip)
        return features


def counted(request: Request, stop: int | None = None) -> tuple[Request, Counting]:
    trunk = Counting(request.encoder.trunk, stop)
    return replace(request, encoder=replace(request.encoder, trunk=trunk)), trunk


def same_but_for_the_place(a: tuple[bytes, bytes], b: tuple[bytes, bytes], where: Path) -> bool:
    """The header names encoder and shards; tensors and table are the same bits."""
    (x, rows), (y, other_rows) = a, b
    cut = [8 + int.from_bytes(data[:8], "little") for data in (x, y)]
    return rows == other_rows and x[cut[0] :] == y[cut[1] :]


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_any_number_of_ranks_gives_the_same_bits(
    ranks: int, root: Path, whole: tuple[Path, tuple[bytes, bytes]]
) -> None:
    seen = 0
    for number in reversed(range(ranks)):  # the main one last: it would wait for the others
        request, trunk = counted(request_for(root))
        folders = embed([request], rank(number, ranks))
        assert (folders is None) == (number > 0)
        seen += trunk.seen
    assert seen == VIDEOS
    assert folders is not None
    assert same_but_for_the_place(bits(folders[0]), whole[1], root)


def test_a_killed_run_goes_on_with_what_it_has(
    root: Path, whole: tuple[Path, tuple[bytes, bytes]]
) -> None:
    request, trunk = counted(request_for(root), stop=9)
    with pytest.raises(KeyboardInterrupt):
        embed([request], rank(0, 1))
    parts = list((request.folder / "parts").glob("*.safetensors"))
    assert len(parts) == 4  # 8 videos
    assert find(request) is None
    # What a process that died while it wrote leaves is not read.
    (request.folder / "parts" / "0123.tmp").write_bytes(b"half")
    # It goes on as two ranks, the first of which has little left to do.
    seen = []
    for number in (1, 0):
        request, trunk = counted(request_for(root))
        folders = embed([request], rank(number, 2))
        seen.append(trunk.seen)
    assert seen == [10, 0]
    assert folders is not None
    assert same_but_for_the_place(bits(folders[0]), whole[1], root)
    assert not (folders[0] / "parts").exists()


def test_a_second_request_reads_and_decodes_nothing(root: Path) -> None:
    request = request_for(root)
    [first] = embed([request], rank(0, 1)) or []
    with patch.object(room, "extract_batches", side_effect=AssertionError("decoded")):
        assert embed([request_for(root)], rank(0, 1)) == [first]
        # Splits are read from the features of the whole set.
        lists = [request_for(root, split) for split in ("train", "test")]
        assert embed(lists, rank(0, 1)) == [first, first]
        everything = read_features(first, request)
        train = read_features(first, lists[0])
        assert train.rows.tolist() == request.index.rows("train").tolist()
        assert torch.equal(train.values, everything.values[torch.from_numpy(train.rows)])
        assert train.labels.tolist() == request.index.numbers("label")[train.rows].tolist()
        with pytest.raises(AssertionError, match="decoded"):
            embed([replace(request, views=replace(request.views, crops=1))], rank(0, 1))


def test_one_job_extracts_and_any_number_read(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, trunk = counted(request_for(root, "train"))
    test = replace(train, split="test")
    command = ["embed", "--encoder", str(root / "run"), "--shards", str(root / "shards")]
    with Lock(test.folder / LOCK_NAME):
        refused = f"{test.folder}: is being written by process {os.getpid()} on "
        with pytest.raises(UsageError, match=re.escape(refused)):
            embed([train, test], rank(0, 2))
        assert trunk.seen < 1  # of the other list, too: the whole command is to be run again
        assert not list(train.folder.glob("*"))
        assert main([*command, "--split", "test", "--clips", "8", "--workers", "0"]) == 2
        error = capsys.readouterr().err
        assert (error.count("\n"), refused in error) == (1, True)
        assert embed([test], rank(1, 2)) is None  # of the job whose main rank holds the lock
        assert trunk.seen == 4
    [folder] = embed([test], rank(0, 2)) or []
    with Lock(folder / LOCK_NAME):
        assert embed([test], rank(0, 1)) == [folder]
    assert trunk.seen == len(test.rows)
    assert sorted(path.name for path in folder.iterdir()) == [FEATURES_NAME, ROWS_NAME]


def test_features_that_were_missing_are_added_by_one_job(lossy: Path, made: Path) -> None:
    request = request_for(lossy)
    [folder] = embed([request], rank(0, 1)) or []
    for tar in (made / "shards").glob("*.tar"):
        shutil.copyfile(tar, lossy / "shards" / tar.name)
    with Lock(folder / LOCK_NAME), pytest.raises(UsageError, match="is being written by"):
        embed([request_for(lossy, "train")], rank(0, 1))
    assert len(read_features(folder, request).missing) == 2
    embed([request], rank(0, 1))
    assert not read_features(folder, request).missing


def test_one_job_copies_features_to_a_folder(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = root / "out"
    command = ["embed", "--encoder", str(root / "run"), "--shards", str(root / "shards")]
    command += ["--out", str(out), "--clips", "1", "--crops", "1", "--workers", "0"]
    with Lock(out / LOCK_NAME):
        assert main(command) == 2
        assert f"{out}: is being written by" in capsys.readouterr().err
    assert not (root / "run/features").exists()
    assert main(command) == 0
    assert sorted(path.name for path in out.iterdir()) == [FEATURES_NAME, ROWS_NAME]


def test_an_encoder_where_nothing_can_be_written_is_evaluated_elsewhere(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    before = sorted(path.name for path in (root / "run").iterdir())
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != root / "run" and real(path, mode))
    common = ["--encoder", str(root / "run"), "--shards", "shards", "--workers", "0"]
    assert main(["knn", *common, "--clips", "1", "--crops", "1"]) == 0
    digest = sha256_file(root / "run/encoder.safetensors")
    folder = root / f"runs/encoder-{digest[:12]}"
    assert (folder / "knn/knn.json").is_file()
    assert len(list(folder.glob("features/*/features.safetensors"))) == 2
    assert sorted(path.name for path in (root / "run").iterdir()) == before


def test_missing_samples_are_counted_named_and_never_replaced(
    lossy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--encoder", str(lossy / "run"), "--shards", str(lossy / "shards")]
    common += ["--clips", "2", "--crops", "1", "--workers", "0"]
    assert main(["embed", *common, "--out", str(lossy / "features")]) == 0
    shown = capsys.readouterr().out
    rows = pq.read_table(lossy / "features" / "rows.parquet").column("row").to_pylist()
    index = open_shards(lossy / "shards")
    bad = [int(index.rows(split)[2]) for split in ("train", "test")]
    assert rows == [row for row in range(VIDEOS) if row not in bad]
    names = [f"{index.strings('shard')[row]}/{index.strings('key')[row]}" for row in bad]
    count = f"2 unreadable ({', '.join(sorted(names))}): "
    assert f"{VIDEOS - 2} features of 32, {count}" in shown
    assert main(["embed", *common, "--split", "test", "--strict"]) == 3  # from the whole set's
    error = capsys.readouterr().err
    assert (names[0] in error, names[1] in error) == (False, True)
    for verb, file in (("retrieve", "retrieval/retrieval.json"), ("knn", "knn/knn.json")):
        shutil.rmtree(lossy / "run" / "features", ignore_errors=verb == "knn")  # from either
        assert main([verb, *common]) == 0
        shown = capsys.readouterr().out
        assert "2 unreadable (" in shown
        assert all(name in shown for name in names)
        assert main([verb, *common, "--strict"]) == 3
        error = capsys.readouterr().err
        result = json.loads((lossy / "run" / file).read_text())
        assert (result["samples"], result["bank_samples"], result["missing"]) == (5, 11, 2)
        found = {line.partition(": ")[0] for line in result["missing_samples"]}
        assert found == set(names)
        assert all(f"missing: {name}" in error for name in names)
        assert "2 samples unreadable" in error


@pytest.mark.slow
def test_what_was_missing_is_there_once_the_shards_are_repaired(
    lossy: Path, made: Path, whole: tuple[Path, tuple[bytes, bytes]]
) -> None:
    request = request_for(lossy)
    bad = [int(request.index.rows(split)[2]) for split in ("train", "test")]
    [folder] = embed([request], rank(0, 1)) or []
    before = bits(folder)
    request, trunk = counted(request_for(lossy))
    embed([request], rank(0, 1))
    assert trunk.seen == 2  # those beside the lost ones in their batches of two
    assert bits(folder) == before
    for tar in (made / "shards").glob("*.tar"):
        shutil.copyfile(tar, lossy / "shards" / tar.name)
    train, trunk = counted(request_for(lossy, "train"))
    [again] = embed([train], rank(0, 1)) or []
    assert (again, trunk.seen) == (folder, 2)  # what is missing of the test list is not asked for
    assert read_features(folder, train).rows.tolist() == train.rows.tolist()
    found = read_features(folder, request)
    assert sorted(set(request.rows) - set(found.rows)) == bad[1:]
    assert len(found.missing) == 1
    embed([request_for(lossy)], rank(0, 1))
    assert same_but_for_the_place(bits(folder), whole[1], lossy)
    assert read_features(folder, request).missing == []
    request, trunk = counted(request_for(lossy))
    embed([request], rank(0, 1))
    assert trunk.seen == 0


def test_what_never_came_into_the_shards_is_missing_too(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_for(root)
    rejected = {"missing": 2, "unlisted": 5}
    manifest = request.index.manifest.model_copy(update={"rejected": rejected})
    common = ["--encoder", str(root / "run"), "--shards", str(root / "shards"), "--strict"]
    common += ["--clips", "1", "--crops", "1", "--workers", "0"]
    assert main(["embed", *common]) == 0
    with patch(
        "sce_video.stream.reader.open_set", lambda _: replace(request.index, manifest=manifest)
    ):
        assert main(["embed", *common]) == 3
    assert "not in the shards, see its rejects.csv: 2 missing" in capsys.readouterr().err


@pytest.mark.slow
def test_an_encoder_of_images_takes_frames_of_videos(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    common = ["--encoder", "torchvision:resnet18", "--shards", "shards", "--size", "32"]
    common += ["--clips", "1", "--crops", "1", "--workers", "0"]
    assert main(["retrieve", *common]) == 2
    assert "give --frames and --seconds" in capsys.readouterr().err
    assert main(["retrieve", *common, "--frames", "2", "--seconds", "0.5"]) == 0
    folder = root / "runs/torchvision-resnet18-seed0/retrieval"
    result = json.loads((folder / "retrieval.json").read_text())
    assert (result["protocol"]["encoder_seed"], result["protocol"]["frames"]) == (0, 2)
    classes = result["per_class"]
    assert {row["samples"] for row in classes.values()} == {3}
    assert set(classes) == {"class0", "class1"}
    mean = sum(row["mAP"] * row["samples"] for row in classes.values()) / result["samples"]
    assert mean == pytest.approx(result["mAP"])
    lines = (folder / "per_class.csv").read_text().splitlines()
    assert lines[0] == "class,samples,R@1,mAP"
    assert lines[1].startswith("class0,3,")


def test_other_ranks_are_silent(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    common = ["--encoder", str(root / "run"), "--shards", str(root / "shards"), "--workers", "0"]
    assert main(["--local_rank=1", "retrieve", *common, "--clips", "1", "--crops", "1"]) == 0
    assert main(["--local_rank=1", "embed", *common, "--split", "nothing"]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert not (root / "run" / "retrieval").exists()
    assert len(list(root.glob("run/features/*/parts/*.safetensors"))) == 2  # of either list

"""Features are extracted once: the same bits from any number of ranks, after any kill."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from sce_video.cli import main
from sce_video.engine.runtime import Runtime
from sce_video.errors import UsageError, VerificationError
from sce_video.evals import embed as room
from sce_video.evals.bank import extract_for
from sce_video.evals.embed import Request, embed, read_features
from sce_video.evals.views import eval_views
from sce_video.files import sha256_file
from sce_video.model.encoder import EncoderSpec, build_encoder, save_encoder
from sce_video.model.weights import open_encoder
from sce_video.shardset.index import open_shards
from tests.runs import make_shards

VIDEOS = 18


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set and an encoder."""
    root = tmp_path_factory.mktemp("embed")
    make_shards(root, VIDEOS)
    torch.manual_seed(0)
    spec = EncoderSpec(
        trunk="r3d_18",
        width=4,
        frames=2,
        seconds=0.5,
        size=28,
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
    )
    (root / "run").mkdir()
    save_encoder(root / "run" / "encoder.safetensors", build_encoder(spec), spec)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """The same with nothing kept yet."""
    shutil.copytree(made / "run", tmp_path / "run", ignore=shutil.ignore_patterns("features"))
    (tmp_path / "shards").symlink_to(made / "shards")
    return tmp_path


@pytest.fixture(autouse=True)
def often() -> Any:
    """A part a batch."""
    with patch.object(room, "_SAVE_EVERY", 0.0):
        yield


def request_for(root: Path, split: str | None = None) -> Request:
    encoder = open_encoder(root / "run")
    views = eval_views(encoder.spec, 8, 3, None)  # 2 videos a batch
    index = open_shards(root / "shards")
    return Request(encoder, index, str(root / "shards"), split, views, torch.device("cpu"))


def rank(number: int, ranks: int) -> Runtime:
    return Runtime(number, number, ranks, torch.device("cpu"))


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


def bits(folder: Path) -> tuple[bytes, bytes]:
    return (folder / room.FEATURES_NAME).read_bytes(), (folder / room.ROWS_NAME).read_bytes()


@pytest.fixture(scope="module")
def whole(made: Path) -> tuple[Path, tuple[bytes, bytes]]:
    """What one process makes."""
    with patch.object(room, "_SAVE_EVERY", 1e9):
        folders = embed([request_for(made)], rank(0, 1))
    assert folders is not None
    return folders[0], bits(folders[0])


def same_but_for_the_place(a: tuple[bytes, bytes], b: tuple[bytes, bytes], where: Path) -> bool:
    """The header names encoder and shards; tensors and table are the same bits."""
    (x, rows), (y, other_rows) = a, b
    cut = [8 + int.from_bytes(data[:8], "little") for data in (x, y)]
    return rows == other_rows and x[cut[0] :] == y[cut[1] :]


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
    from sce_video.evals.features import extract

    spec, trunk = request.encoder.spec, {"": request.encoder.trunk}
    alone = extract(trunk, index, np.array([7]), request.views, mean=spec.mean, std=spec.std)[
        ""
    ].values
    torch.testing.assert_close(features[7:8], alone, rtol=1e-5, atol=1e-6)
    assert (features[7] - features[6]).norm() > 1e-3 * features[6].norm()


@pytest.mark.parametrize("ranks", [2, 3])
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
    assert request.kept() is None
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


def test_the_folder_is_of_all_that_the_numbers_depend_on(root: Path) -> None:
    request = request_for(root)
    encoder = request.encoder
    others = [
        replace(request, split="train"),
        replace(request, views=replace(request.views, size=30)),
        replace(request, device=torch.device("cuda")),
        replace(request, encoder=replace(encoder, identity={"encoder_sha256": "0"})),
        replace(
            request,
            encoder=replace(encoder, spec=encoder.spec.model_copy(update={"mean": (0, 0, 0)})),
        ),
        replace(request, index=replace(request.index, digest="0")),
    ]
    assert len({r.folder for r in [request, *others]}) == 1 + len(others)
    moved = {**encoder.identity, "encoder": "elsewhere"}
    same = replace(request, workers=5, encoder=replace(encoder, identity=moved))
    assert same.folder == request.folder


def test_the_group_may_read_features(root: Path, for_the_group: int) -> None:
    command = ["embed", "--encoder", str(root / "run"), "--shards", str(root / "shards")]
    command += ["--split", "test", "--clips", "1", "--crops", "1", "--workers", "0"]
    assert main([*command, "--out", str(root / "out")]) == 0
    files = [*root.glob("run/features/*/*"), *root.glob("out/*")]
    assert [path.stat().st_mode & 0o777 for path in files] == [for_the_group] * 4


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


def test_a_damaged_file_is_said(root: Path) -> None:
    request = request_for(root, "test")
    [folder] = embed([request], rank(0, 1)) or []
    (folder / "features.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(VerificationError, match=f"damaged.*delete {folder}"):
        read_features(folder, request)


@pytest.fixture
def lossy(root: Path, made: Path) -> Path:
    """The set with one test and one train video overwritten by zeros."""
    (root / "shards").unlink()
    shutil.copytree(made / "shards", root / "shards")
    index = open_shards(root / "shards")
    for split in ("train", "test"):
        row = int(index.rows(split)[2])
        tar = root / "shards" / index.strings("shard")[row]
        with tar.open("r+b") as stream:
            for member in ("media", "idx"):
                stream.seek(int(index.numbers(f"{member}_offset")[row]))
                stream.write(b"\0" * int(index.numbers(f"{member}_size")[row]))
    return root


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
    data = extract_for(lists, rank(0, 1))
    assert data is not None
    assert (len(data.bank.rows), len(data.queries.rows)) == (8, 4)
    assert data.protocol["unlabelled"] == 6
    assert min(data.bank.labels.min(), data.queries.labels.min()) >= 0
    nobody = index.table.set_column(column, "label", pa.array(np.full_like(labels, -1)))
    with pytest.raises(UsageError, match="no sample of train has a class"):
        extract_for([replace(r, index=replace(index, table=nobody)) for r in lists], rank(0, 1))

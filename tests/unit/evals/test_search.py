"""``sce-video search``: build, ask with files and keys, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sce_video.cli import main
from sce_video.evals import embed
from sce_video.evals import faiss_index as nearest
from sce_video.files import sha256_file
from sce_video.lock import LOCK_NAME, Lock
from sce_video.shardset.index import open_shards
from tests.servers import serving
from tests.unit.evals.small_set import CLASSES, FEW, make_set, random_encoder
from tests.unit.model.layouts import SLIM, make_run
from tests.videos import moving_square, write_video


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, a run with an encoder, and its index of the train list."""
    folder = tmp_path_factory.mktemp("search")
    shards, run = make_set(folder), random_encoder(folder / "run")
    command = ["search", "build", "--encoder", str(run), "--shards", str(shards)]
    assert main([*command, "--split", "train", *FEW]) == 0
    return folder


def ask(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["search", "query", "--index", str(root / "run/search"), "--json", *arguments]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_a_video_finds_itself_by_its_file(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = open_shards(root / "shards")
    row = int(index.rows("train")[5])
    found = ask(root, capsys, str(root / "raw" / index.strings("path")[row]), "--top", "4")
    assert [line["rank"] for line in found] == [1, 2, 3, 4]
    assert found[0]["score"] == pytest.approx(1, abs=1e-5)
    assert found[1]["score"] < 0.99999
    scores = [line["score"] for line in found]
    assert scores == sorted(scores, reverse=True)
    names = ("shard", "key", "label", "class", "path")
    assert {**found[0], "rank": 0, "score": 0} == {
        **{name: index.table.column(name)[row].as_py() for name in names},
        "row": row,
        "rank": 0,
        "score": 0,
    }


def test_a_key_finds_the_others(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = open_shards(root / "shards")
    row = int(index.rows("train")[5])
    by_file = ask(root, capsys, str(root / "raw" / index.strings("path")[row]), "--top", "4")
    by_key = ask(root, capsys, "--key", index.strings("key")[row], "--top", "3")
    assert [line["key"] for line in by_key] == [line["key"] for line in by_file[1:]]
    test = int(index.rows("test")[1])  # not in the index: read from the set
    by_file = ask(root, capsys, str(root / "raw" / index.strings("path")[test]))
    by_key = ask(root, capsys, "--key", index.strings("key")[test])
    assert [line["key"] for line in by_key] == [line["key"] for line in by_file]
    assert len(by_key) == 10


def test_a_file_that_is_not_there_is_a_wrong_command(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "query", "--index", str(root / "run/search"), "nope.avi"]) == 2
    assert "nope.avi: no such file" in capsys.readouterr().err


def test_an_image_is_a_still_clip(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = moving_square(1, seed=3)
    Image.fromarray(frame[0]).save(tmp_path / "still.png")
    still = write_video(tmp_path / "still.mp4", frame.repeat(24, 0), crf=1)
    by_image = ask(root, capsys, str(tmp_path / "still.png"))
    by_video = ask(root, capsys, str(still))
    assert by_image[0]["score"] == pytest.approx(by_video[0]["score"], abs=0.02)


@pytest.mark.slow
def test_an_approximate_index_names_the_same_samples(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("_LEAST", 1), ("_HELD", 2), ("_PER_LIST", 1)):
        monkeypatch.setattr(nearest, name, value)
    out = str(root / "ivf")
    command = ["search", "build", "--encoder", str(root / "run"), "--shards", str(root / "shards")]
    assert main([*command, "--split", "train", *FEW, "--kind", "ivf", "--out", out]) == 0
    assert "ivf, lists" in capsys.readouterr().out
    index = open_shards(root / "shards")
    for row in index.rows("train")[[0, 7, 11]].tolist():  # those at the end changed places
        video = str(root / "raw" / index.strings("path")[row])
        for asked in ([video], ["--key", index.strings("key")[row]]):
            exact = ask(root, capsys, *asked, "--top", "1")[0]
            assert main(["search", "query", "--index", out, "--json", "--top", "1", *asked]) == 0
            found = json.loads(capsys.readouterr().out)[0]
            if asked == [video]:
                assert found["row"] == row
            assert found == {**exact, "score": pytest.approx(exact["score"], abs=1e-5)}


def test_the_folder_and_the_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root / "run/search"
    protocol = json.loads((folder / "search.json").read_text())
    assert (protocol["samples"], protocol["kind"], protocol["clips"]) == (12, "flat", 2)
    assert (protocol["split"], protocol["size"]) == ("train", 18)
    rows = pq.read_table(folder / "rows.parquet")
    assert rows.column_names == ["row", "shard", "key", "label", "class", "path"]
    assert rows.column("row").to_pylist() == open_shards(root / "shards").rows("train").tolist()
    assert not list(folder.glob("*.tmp"))
    assert main(["search", "query", "--index", str(folder), str(root / "raw/v4.mp4")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0].split()[:3] == ["1", "1.0000", CLASSES[0]]


@pytest.mark.parametrize("damaged", ["index.faiss", "rows.parquet", "search.json"])
def test_damage_is_found_before_a_file_is_parsed(
    root: Path, tmp_path: Path, damaged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / "run/search", tmp_path / "index")
    file = tmp_path / "index" / damaged
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data)
    command = ["search", "query", "--index", str(tmp_path / "index"), "--key", "v4"]
    assert main(command) == 3
    assert damaged in capsys.readouterr().err
    file.unlink()
    assert main(command) == (2 if damaged == "search.json" else 3)


PROTOCOLS: dict[str, tuple[object, str]] = {
    "a list": ([], "damaged: holds no object"),
    "nothing": ({}, "kind: Field required"),
    "another format": ({"format": 2}, "format: Input should be 1"),
    "no clips": ({"clips": 0}, "clips: Input should be greater than or equal to 1"),
    "too many clips": ({"clips": 10**9}, "clips: Input should be less than or equal to 1000"),
    "too many crops": ({"crops": 10**9}, "crops: Input should be less than or equal to 3"),
    "too many frames": ({"frames": 10**9}, "frames: Input should be less than or equal to 4096"),
    "too large a side": ({"size": 10**9}, "size: Input should be less than or equal to 8192"),
    "frames of text": ({"frames": "many"}, "frames: Input should be a valid integer"),
    "seconds below 0": ({"seconds": -1}, "seconds: Input should be greater than or equal to 0"),
    "seconds without end": ({"seconds": float("inf")}, "damaged: no JSON: the number Infinity"),
    "a setting of NaN": (
        {"settings": {"nprobe": float("nan")}},
        "damaged: no JSON: the number NaN",
    ),
    "another kind": ({"kind": "hnsw"}, "kind: Input should be 'flat' or 'ivf'"),
    "more samples": ({"samples": 13}, "12 vectors of 13 samples; build again"),
    "no samples": ({"samples": 0}, "samples: Input should be greater than or equal to 1"),
    "ivf": ({"kind": "ivf"}, "no index of ours: of kind flat, not ivf"),
    "no files": ({"files": {}}, "index.faiss: not the one that search.json names"),
    "a list of files": ({"files": ["index.faiss"]}, "files: Input should be a valid dictionary"),
    "another key": ({"path": "/etc"}, "path: Extra inputs are not permitted"),
}


@pytest.mark.parametrize("case", PROTOCOLS)
def test_a_protocol_that_is_none_is_one_line(
    case: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, told = PROTOCOLS[case]
    shutil.copytree(root / "run/search", tmp_path / "index")
    path = tmp_path / "index" / "search.json"
    known = json.loads(path.read_text()) if change else {}
    path.write_text(json.dumps(known | change if isinstance(change, dict) else change))
    assert main(["search", "query", "--index", str(tmp_path / "index"), "--key", "v4"]) == 3
    error = capsys.readouterr().err
    assert (error.count("\n"), told in error) == (1, True), error


def change_rows(table: pa.Table, name: str, values: list[Any], kind: str) -> pa.Table:
    """A table with another column of that name."""
    array = pa.array(values, kind)
    return table.set_column(table.column_names.index(name), name, array)


TABLES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "fewer": (lambda t: t.slice(1), "11 rows, not 12"),
    "a column less": (lambda t: t.drop_columns(["path"]), "other columns"),
    "a column more": (lambda t: t.append_column("x", t.column("row")), "other columns"),
    "rows of text": (lambda t: change_rows(t, "row", ["a"] * 12, "string"), "other columns"),
    "a row twice": (lambda t: change_rows(t, "row", [7] * 12, "int64"), "rows that no set has"),
    "rows below 0": (
        lambda t: change_rows(t, "row", list(range(-12, 0)), "int64"),
        "rows that no set has",
    ),
    "no class": (lambda t: change_rows(t, "class", [None] * 12, "string"), "empty places"),
    "texts without end": (
        lambda t: change_rows(t, "path", ["x" * 6 * 10**6] * 12, "string"),
        "more text than 1,024 bytes a row",
    ),
}


@pytest.mark.parametrize("case", [*TABLES, "no parquet", "a cut one", "no UTF-8"])
def test_a_table_that_is_none_is_one_line_whatever_its_sum(
    case: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "index"
    shutil.copytree(root / "run/search", folder)
    path, told = folder / "rows.parquet", "no table of samples"
    if case in TABLES:
        change, told = TABLES[case]
        pq.write_table(
            change(pq.read_table(path)), path, use_dictionary=case == "texts without end"
        )
    elif case == "no UTF-8":
        pq.write_table(pq.read_table(path), path, compression="none")
        path.write_bytes(path.read_bytes().replace(b"v4.mp4", b"v\xff.mp4"))
        told = "UTF8"
    else:
        path.write_bytes(b"odd" * 9 if case == "no parquet" else path.read_bytes()[:-9])
    protocol = json.loads((folder / "search.json").read_text())
    protocol["files"]["rows.parquet"] = sha256_file(path)
    (folder / "search.json").write_text(json.dumps(protocol))
    assert main(["search", "query", "--index", str(folder), "--key", "v4"]) == 3
    error = capsys.readouterr().err
    assert error.startswith(f"sce-video: {path}: no table of samples: ")
    assert (error.count("\n"), told in error) == (1, True), error


@pytest.mark.parametrize("name", ["index.faiss", "rows.parquet", "search.json"])
def test_a_link_in_an_index_is_not_followed(
    name: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / "run/search", tmp_path / "index")
    (tmp_path / "index" / name).unlink()
    (tmp_path / "index" / name).symlink_to(root / "run/search" / name)  # to the very same bytes
    code = main(["search", "query", "--index", str(tmp_path / "index"), "--key", "v4"])
    assert code == (1 if name == "search.json" else 3)
    assert f"{name}: is a link" in capsys.readouterr().err


def test_texts_of_others_are_shown_in_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "index"
    shutil.copytree(root / "run/search", folder)
    path = folder / "rows.parquet"
    table = change_rows(pq.read_table(path), "path", ["a\x1b[2J\nb"] * 12, "string")
    pq.write_table(table, path)
    protocol = json.loads((folder / "search.json").read_text())
    protocol["files"]["rows.parquet"] = sha256_file(path)
    (folder / "search.json").write_text(json.dumps(protocol))
    assert main(["search", "query", "--index", str(folder), str(root / "raw/v4.mp4")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert all(line.endswith(r"a\x1b[2J\nb") for line in lines)
    for key in ("\udcff", "a\0b", "x" * 10**5):
        assert main(["search", "query", "--index", str(folder), "--key", key]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "OTHER", "raw/v0.mp4"], "not the encoder that"),
        (["--encoder", "/nowhere.safetensors", "raw/v0.mp4"], "say where: --encoder"),
        (["--key", "nothing"], "no sample with key 'nothing'"),
        (["list.csv"], "list.csv: no readable"),
        (["raw/v0.mp4", "--key", "v0"], "not allowed with"),
        ([], "one of the arguments"),
    ],
    ids=["encoder", "no-encoder", "no-key", "no-video", "both", "neither"],
)
def test_wrong_questions_are_one_line(
    root: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = random_encoder(root / "other") / "encoder.safetensors"
    other.write_bytes(other.read_bytes() + b" ")
    texts = [{"OTHER": str(other)}.get(a, str(root / a) if "." in a else a) for a in arguments]
    command = ["search", "query", "--index", str(root / "run/search"), *texts]
    try:
        code = main(command)
    except SystemExit as error:
        code = int(str(error.code))
    assert code == 2
    assert message in capsys.readouterr().err


def test_another_set_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = make_set(tmp_path, each=3)
    index = ["--index", str(root / "run/search")]
    assert main(["search", "query", *index, "--key", "x", "--shards", str(shards)]) == 2
    assert "not the set that" in capsys.readouterr().err


def test_an_address_out_of_an_index_is_not_asked(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCE_VIDEO_CACHE", str(tmp_path / "cache"))
    index = open_shards(root / "shards")
    key = index.strings("key")[int(index.rows("test")[1])]  # not in the index: read from the set
    expected = ask(root, capsys, "--key", key)
    copy = Path(shutil.copytree(root / "run/search", tmp_path / "copy"))
    protocol = json.loads((copy / "search.json").read_text())
    query = ["search", "query", "--index", str(copy), "--json", "--key", key]
    with serving(root / "shards") as server:
        (copy / "search.json").write_text(json.dumps({**protocol, "shards": server.url}))
        assert main(query) == 2
        assert capsys.readouterr().err == (
            f"sce-video: {copy}: names the set {server.url}; what a file names is not asked: give "
            "--shards URL to read the sample there\n"
        )
        assert not server.gets
        assert main([*query, "--shards", server.url]) == 0
        assert json.loads(capsys.readouterr().out) == expected
        assert server.gets["manifest.json"] == 1


def test_an_encoder_of_others_with_clips_of_its_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["--encoder", "torchvision:resnet18", "--shards", str(root / "shards"), *FEW]
    assert main(["search", "build", *common, "--size", "32", "--seed", "3"]) == 2
    assert "give --frames and --seconds" in capsys.readouterr().err
    common += ["--size", "32", "--seed", "3", "--frames", "2", "--seconds", "0.6"]
    assert main(["search", "build", *common]) == 0
    folder = tmp_path / "runs/torchvision-resnet18-seed3/search"
    protocol = json.loads((folder / "search.json").read_text())
    assert (protocol["encoder"], protocol["encoder_seed"]) == ("torchvision:resnet18", 3)
    assert (protocol["encoder_sha256"], protocol["frames"], protocol["size"]) == (None, 2, 32)
    query = ["search", "query", "--index", str(folder), "--json", "--top", "1"]
    monkeypatch.chdir(root)
    capsys.readouterr()
    assert main([*query, "raw/v4.mp4"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    assert found["path"] == "v4.mp4"
    assert found["score"] == pytest.approx(1, abs=1e-5)
    assert main([*query, "raw/v4.mp4", "--encoder", "torchvision:resnet50"]) == 2
    assert "not the encoder that" in capsys.readouterr().err


def test_one_job_builds_in_a_folder(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = random_encoder(tmp_path / "run"), tmp_path / "index"
    command = ["search", "build", "--encoder", str(run), "--shards", str(root / "shards"), *FEW]
    with Lock(out / LOCK_NAME):
        assert main([*command, "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"{out}: is being written by process {os.getpid()} on " in error
    assert [path.name for path in tmp_path.iterdir() if list(path.iterdir())] == ["run"]
    assert [path.name for path in run.iterdir()] == ["encoder.safetensors"]  # before the work
    assert main([*command, "--out", str(out)]) == 0
    made = ["index.faiss", "rows.parquet", "search.json"]
    assert sorted(path.name for path in out.iterdir()) == made


@pytest.mark.slow
def test_an_encoder_of_several_in_a_checkpoint(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = (*SLIM[1:], "model.trunk=r2plus1d_18_small", "clip.frames=2", "clip.size=16")
    torch.manual_seed(0)
    step = make_run(tmp_path / "run", "demo.yaml", keys, ("online.trunk", "momentum.trunk"))
    shards = ["--shards", str(root / "shards"), *FEW]
    assert main(["search", "build", "--encoder", f"{step}#momentum", *shards]) == 0
    told = capsys.readouterr()
    assert "takes another: #online.trunk" in told.err
    folder = tmp_path / "run" / step.name / "search"
    protocol = json.loads((folder / "search.json").read_text())
    assert protocol["encoder"] == str(step / "model.safetensors")
    assert protocol["encoder_part"] == "momentum.trunk"
    query = ["search", "query", "--index", str(folder), "--json", str(root / "raw/v4.mp4")]
    for where in ([], ["--encoder", str(step)], ["--encoder", f"{step}#momentum"]):
        assert main([*query, *where]) == 0
        assert json.loads(capsys.readouterr().out)[0]["score"] == pytest.approx(1, abs=1e-5)
    assert main([*query, "--encoder", f"{step}#online"]) == 2
    assert f"{folder} is of its part #momentum.trunk" in capsys.readouterr().err


def test_an_index_takes_the_features_that_are_kept(root: Path, tmp_path: Path) -> None:
    run = random_encoder(tmp_path / "run")
    common = ["--encoder", str(run), "--shards", str(root / "shards"), *FEW]
    assert main(["embed", *common]) == 0
    with patch.object(embed, "extract_batches", side_effect=AssertionError("decoded")):
        assert main(["search", "build", *common, "--split", "train"]) == 0
    for name in ("rows.parquet", "index.faiss"):
        ours, theirs = ((one / "search" / name).read_bytes() for one in (run, root / "run"))
        assert ours == theirs

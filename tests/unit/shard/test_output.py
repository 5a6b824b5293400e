"""The folder of a set: whose it is, what is finished in it, one writer at a time."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sce_video import lock
from sce_video.errors import SceVideoError, UsageError, VerificationError
from sce_video.files import write_whole
from sce_video.lock import LOCK_NAME, Holder, Lock
from sce_video.shard import output
from sce_video.shard.__main__ import main
from sce_video.shard.convert import ConversionState, convert
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.sources import Options, find_source
from sce_video.shardset.index import open_shards
from sce_video.shardset.manifest import JOURNAL_NAME
from tests.unit.shard.layouts import class_folders, content, interrupt_after, plan_of, put, run


def test_a_finished_set_is_left_alone(root: Path, reference: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.iterdir()}
    manifest, worked = convert(plan_of(root), reference, workers=1)
    assert not worked
    assert manifest == open_shards(reference).manifest
    assert {path: path.stat().st_mtime_ns for path in reference.iterdir()} == before


def test_a_tar_that_was_moved_and_linked_is_not_made_again(
    root: Path, reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(reference, folder)
    tar = sorted(folder.glob("*.tar"))[0]
    tar.rename(tmp_path / "elsewhere.tar")
    tar.symlink_to(tmp_path / "elsewhere.tar")
    with pytest.raises(UsageError, match=rf"{tar}: is a link; put the file itself there, or"):
        convert(plan_of(root), folder, workers=1)
    assert (folder / "manifest.json").is_file()


def test_another_plan_is_refused_and_overwrite_starts_again(
    root: Path, reference: Path, tmp_path: Path
) -> None:
    folder, raw = tmp_path / "toy", tmp_path / "raw"
    shutil.copytree(reference, folder)
    shutil.copytree(root, raw)
    (raw / "class2" / "v2_8.mp4").unlink()
    with pytest.raises(UsageError, match=r"changed number of files \(12 -> 11\), file names.*--ov"):
        run(plan_of(raw), folder)
    with pytest.raises(UsageError, match=r"--limit \(None -> 5\)"):
        run(plan_of(root, limit=5), folder)
    (folder / ".plan.json").unlink()
    with pytest.raises(UsageError, match="changed files or settings"):
        run(plan_of(root, limit=5), folder)
    (folder / "notes.txt").write_text("mine")
    manifest = run(plan_of(raw, samples_per_shard=6), folder, overwrite=True, max_rejects=0.1)
    assert manifest.samples == 10
    assert sorted(path.name for path in folder.glob("*.tar")) == [
        "toy-000000.tar",
        "toy-000001.tar",
    ]
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_folder_that_is_not_ours(root: Path, tmp_path: Path) -> None:
    put(tmp_path, "lock.tex")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"not empty and no shard set \(it has lock\.tex\)"):
            run(plan_of(root), tmp_path, overwrite=overwrite)
    assert content(tmp_path) == {"lock.tex": b"x"}
    with pytest.raises(UsageError, match="not a folder"):
        run(plan_of(root), tmp_path / "lock.tex")


def test_two_conversions_at_once(root: Path, tmp_path: Path) -> None:
    def another(progress: ConversionState) -> None:
        run(plan_of(root), tmp_path / "toy")

    with pytest.raises(UsageError, match=rf"toy: is being written by process {os.getpid()} on "):
        run(plan_of(root), tmp_path / "toy", on_progress=another)
    assert not (tmp_path / "toy" / LOCK_NAME).exists()


def test_a_conversion_that_lost_its_lock_ends_and_notes_nothing_more(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still for long, and another machine took it for gone."""
    folder, held, noted = tmp_path / "toy", list[Lock](), list[bytes]()
    monkeypatch.setattr(lock, "BEAT", 0.01)

    class Kept(Lock):
        def __enter__(self) -> Lock:
            held.append(self)
            return super().__enter__()

    def lose(progress: ConversionState) -> None:
        if progress.samples + progress.rejected == 5 and not noted:  # in the second shard
            noted.append((folder / JOURNAL_NAME).read_bytes())
            text = (folder / LOCK_NAME).read_text().replace('"token": "', '"token": "another')
            write_whole(folder / LOCK_NAME, text.encode())
            while held[0].lost is None:
                time.sleep(0.01)

    monkeypatch.setattr(output, "Lock", Kept)
    with pytest.raises(SceVideoError, match="toy/lock: was taken by process"):
        run(plan_of(root), folder, max_rejects=0.1, on_progress=lose)
    assert [(folder / JOURNAL_NAME).read_bytes()] == noted
    assert '"token": "another' in (folder / LOCK_NAME).read_text()


def test_what_a_killed_conversion_left_in_its_first_moment_is_no_obstacle(
    root: Path, reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "toy"
    gone = replace(Holder.ourselves(), started=1)
    put(folder, LOCK_NAME, data=json.dumps(asdict(gone)).encode())
    put(folder, f"{LOCK_NAME}.0123.tmp", ".plan.json.tmp")
    run(plan_of(root), folder, max_rejects=0.1)
    assert content(folder) == content(reference)


def test_a_finished_set_that_cannot_be_written_is_left_alone(
    root: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != reference and real(path, mode))
    monkeypatch.setattr(Lock, "__enter__", lambda *_: pytest.fail("a lock in a read-only folder"))
    assert not convert(plan_of(root), reference, workers=1)[1]


@pytest.mark.parametrize(
    "lost", [["toy-000001.tar"], ["toy-000000.tar", "classes.txt"], ["rejects.csv"], [".plan.json"]]
)
def test_what_a_finished_set_lost_is_made_again(
    lost: list[str], reference: Path, root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(reference, folder)
    kept = {p: p.stat().st_mtime_ns for p in folder.glob("*.tar") if p.name not in lost}
    for name in lost:
        (folder / name).unlink()
    if lost[0].endswith(".tar"):
        (folder / lost[0]).write_bytes(b"cut")
    if lost == [".plan.json"]:
        assert not convert(plan_of(root), folder, workers=1, max_rejects=0.1)[1]
        return
    run(plan_of(root), folder, max_rejects=0.1)
    assert content(folder) == content(reference)
    if "rejects.csv" not in lost:  # without it, nobody knows what the short shard left out
        assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())


def test_an_output_folder_below_the_root_is_no_input(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(root, raw)
    command = ["folder", "--root", str(raw), "--max-rejects", "0.1", "--out", str(raw / "a/out")]
    assert main(command) == 0
    first = content(raw / "a/out")
    assert "nothing to do" not in capsys.readouterr().out
    assert main(command) == 0
    assert "made from this very input: nothing to do" in capsys.readouterr().out
    assert content(raw / "a/out") == first
    (raw / "a/out/toy.mp4").write_bytes(b"no input")
    (raw / "a/out/folder-000000.tar").unlink()
    assert main(command) == 0  # not complete: one shard is made again
    made = content(raw / "a/out")
    assert made.pop("toy.mp4") == b"no input"
    assert made == first
    again = [*command[:-1], str(raw / "b"), "--unlabelled"]
    assert main(again) == 0
    assert "a/out,shard set\n" in (raw / "b/rejects.csv").read_text()
    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out


def _begun(root: Path, folder: Path) -> list[bytes]:
    """A conversion stopped in its second shard; lines of its journal."""
    with pytest.raises(KeyboardInterrupt):
        run(plan_of(root), folder, max_rejects=0.1, on_progress=interrupt_after(6))
    return (folder / JOURNAL_NAME).read_bytes().splitlines(keepends=True)


ODD_LINES: dict[str, Callable[[bytes], bytes]] = {
    "another place": lambda line: line.replace(b"toy-000000.tar", b"../toy-000000.tar"),
    "another plan": lambda line: line.replace(b"toy-000000.tar", b"toy-000009.tar"),
    "more samples": lambda line: line.replace(b", 4, ", b", 5, "),
    "no samples": lambda line: line.replace(b", 4, ", b", -4, "),
    "other size": lambda line: line.replace(b", 4, ", b", 4, 1"),
    "large": lambda line: line.replace(b", 4, ", b", 4, " + b"9" * 5000),
    "half": lambda line: line[:-5] + b"\n",
    "deep": lambda line: b"[" * 100_000 + b"\n",
    "bytes": lambda line: b"\xff\0\n",
    "twice": lambda line: line * 2,
    "fields": lambda line: b'["toy-000000.tar", 4, 5, []]\n',
    "rejects": lambda line: b'["toy-000000.tar", 4, 5, "x", [1, 2]]\n',
}


@pytest.mark.parametrize("kind", ODD_LINES)
def test_a_journal_is_believed_as_far_as_it_fits_the_plan(
    kind: str, root: Path, reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "toy"
    first, *rest = _begun(root, folder)
    (folder / JOURNAL_NAME).write_bytes(b"".join([ODD_LINES[kind](first), *rest]))
    shutil.copy(folder / "toy-000000.tar", tmp_path)
    run(plan_of(root), folder, max_rejects=0.1)
    assert content(folder) == content(reference)


@pytest.mark.parametrize("name", [JOURNAL_NAME, ".plan.json"])
def test_a_pipe_and_a_damaged_plan_are_told_in_one_line(
    name: str, root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "toy"
    _begun(root, folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(VerificationError, match=rf"{name}: is not a regular file"):
        run(plan_of(root), folder)
    (folder / name).unlink()
    for text in ("[1]", '{"format": 3}', "{", "[" * 100_000):
        (folder / ".plan.json").write_text(text)
        with pytest.raises(VerificationError, match=r"plan\.json: damaged.*; --overwrite starts a"):
            run(plan_of(root), folder)
    run(plan_of(root), folder, max_rejects=0.1, overwrite=True)


def test_rejects_of_odd_names_are_found_again(clips: Path, tmp_path: Path) -> None:
    """Sheets get ``'=1.mp4``, and a tar that was lost is made of the same samples again."""
    raw, folder = class_folders(tmp_path / "raw", clips, classes=1), tmp_path / "toy"
    for name in ("=1.mp4", "-2.mp4", "a\n\x1b\u200f.mp4", "@x.mp4"):
        put(raw, name, data=b"no video")
    options = Options(unlabelled=True)
    scan = find_source("folder").scan("folder", raw, options)
    plan = make_plan(scan, Settings("toy", samples_per_shard=4))
    run(plan, folder, max_rejects=1.0)
    before = content(folder)
    text = before["rejects.csv"].decode()
    assert [line.split(".mp4")[0] for line in text.splitlines()[1:]] == [
        "'-2",
        "'=1",
        "'@x",
        "a\\n\\x1b\\u200f",
    ]
    kept, lost = sorted(folder.glob("*.tar"))[1:], min(folder.glob("*.tar"))
    times = [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    run(plan, folder, max_rejects=1.0)
    assert content(folder) == before
    assert [path.stat().st_mtime_ns for path in kept] == times

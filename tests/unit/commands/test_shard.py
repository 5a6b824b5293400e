"""The command line through a real process: codes, messages, signals."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sce_video.cli import main as cli
from sce_video.config.load import load_config
from sce_video.shard.__main__ import main
from tests.unit.shard import layouts

COMMAND = (sys.executable, "-m", "sce_video.shard")


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    repository = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(repository), "PYTHONWARNINGS": "error"}
    environment.pop("SCE_VIDEO_RAW", None)
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_is_light(tmp_path: Path) -> None:
    result = run("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "kinetics400" in result.stdout
    assert "verify DIR" in result.stdout


@pytest.mark.slow
def test_default_paths(tmp_path: Path, clips: Path) -> None:
    layouts.class_folders(tmp_path / "raw" / "folder", clips)
    result = run("folder", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "12 videos in 1 shards" in result.stdout
    assert "next: " in result.stdout
    assert (tmp_path / "shards/folder/folder-000000.tar").is_file()
    assert "nothing to do" in run("folder", cwd=tmp_path).stdout
    assert "12 samples: as the manifest says" in run("verify", "shards/folder", cwd=tmp_path).stdout
    assert "classes       3: class0" in run("info", "shards/folder", cwd=tmp_path).stdout
    with (tmp_path / "shards/folder/folder-000000.tar").open("r+b") as stream:
        stream.write(b"x")
    result = run("verify", "shards/folder", cwd=tmp_path)
    assert (result.returncode, ": bytes 0-511: not the header of v" in result.stderr) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ucf101"], "raw/ucf101: no such folder; give the raw data:"),
        (["ucf"], "unknown data set 'ucf'; did you mean 'ucf101'?"),
        (["k400", "--root", "."], "unknown data set 'k400'; did you mean 'kinetics400'?"),
        (["verfy", "."], "did you mean 'verify'?"),
        (["xyz"], "unknown data set 'xyz'; there are kinetics400, "),
        (["demo", "--dry-run"], "raw/demo: its videos are made on first use"),
        (["folder", "--root", __file__], "not a folder"),
        (["ucf101", "--root", "."], "expected UCF-101/CLASS"),
        (["folder", "--root", ".", "--csv", "no.csv"], "--csv no.csv: no such file"),
        (["verify", "."], "no finished shard set"),
        (["info", "nowhere"], "no finished shard set"),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCE_VIDEO_RAW", raising=False)
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert message in output.err


def test_a_set_that_no_config_could_name_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["folder", "--root", str(tmp_path), "--out", "a\udcff"]) == 2
    assert capsys.readouterr().err == (
        "sce-video: a\\xff: not UTF-8; give another --out, or set LC_ALL=C.UTF-8\n"
    )


def test_the_caller_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["shard", "ucf101", "--root", str(tmp_path / "x")]) == 2
    assert "sce-video shard ucf101 --root RAW" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "0"], "argument --workers: '0' is no whole number from 1 to 1024"),
        (["--max-rejects", "5%"], "'5%' is no number from 0 to 1"),
        (["--limit", "x"], "'x' is no whole number"),
        (["--overwite"], "unrecognized arguments: --overwite; did you mean '--overwrite'?"),
        (["--encode", "layerd"], "invalid choice: 'layerd'"),
    ],
)
def test_wrong_flags_are_one_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["folder", *flags])
    assert caught.value.code == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1


HOSTILE = {
    b"- \x7f": r"- \x7f",
    b"=cmd|calc!A1": "=cmd|calc!A1",
    b"\x1b[2J\x07": r"\x1b[2J\x07",
    b"\xc2\x9b31m": r"\x9b31m",
    b"\xff\xfe": r"\xff\xfe",
    b"mp4.\xe2\x80\xaeexe": r"mp4.\u202eexe",
}
"""Names as a file system takes them, and as they are shown."""


def test_names_of_any_kind_reach_no_terminal(
    tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    good, out = (clips / "clip0.mp4").read_bytes(), "s/\n\x1b[1m'é"
    for number, name in enumerate(HOSTILE):
        folder = tmp_path / "raw" / os.fsdecode(name)
        layouts.put(folder, os.fsdecode(name + b"\n.mp4"), data=good if number % 2 else b"bad")
        layouts.put(folder, os.fsdecode(name + b"\t.txt"))
    asked = ["folder", "--root", "raw", "--out", out]
    assert main([*asked, "--dry-run"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[2] == r"shards       1 in s/\n\x1b[1m'é"
    assert sorted(shown[-6:]) == sorted(rf"  {name}/{name}\t.txt" for name in HOSTILE.values())
    assert main(asked) == 1
    [refused] = capsys.readouterr().err.splitlines()
    assert r"3 unreadable files are more than 5.0% of 6 " in refused
    assert r"; see s/\n\x1b[1m'é/rejects.csv, then" in refused
    made = run(*asked, "--max-rejects", "1", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "1 shards are finished: going on\n")
    *said, following = made.stdout.splitlines()
    assert main(["info", out]) == main(["info", out, "--json"]) == main(["verify", out]) == 0
    *told, as_json, verified = capsys.readouterr().out.splitlines()
    assert said[:-2] == told
    for line in (*said, following, as_json, verified):
        assert line.isprintable()
    assert len(json.loads(as_json)["classes"]) == len(HOSTILE)
    (config := tmp_path / "c.yaml").write_text("task: pretrain\n")
    words = shlex.split(following)[3:]
    assert load_config(str(config), words).data.shards == out


def test_the_next_command_names_the_split(tmp_path: Path, clips: Path) -> None:
    raw = layouts.class_folders(tmp_path / "raw" / "folder", clips)
    lines = [f"class0/v0_{n}.mp4,a,{'train' if n < 2 else 'test'}" for n in range(4)]
    layouts.put_text(raw, "list.csv", ["path,label,split", *lines])
    shown = run("folder", "--csv", "raw/folder/list.csv", "--out", "s/a", cwd=tmp_path).stdout
    assert shown.endswith("next: deepspeed sce_video/train.py data.shards=s/a\n")
    shown = run("folder", "--out", "s/b", cwd=tmp_path).stdout
    assert shown.endswith("data.shards=s/b data.split=null\n")


def test_a_reader_that_has_seen_enough_and_a_file_that_is_closed(tmp_path: Path) -> None:
    layouts.ucf101(tmp_path / "raw" / "ucf101")
    command = f"{sys.executable} -m sce_video.shard ucf101 --dry-run | head -n 1"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run(  # noqa: S602
        command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    (tmp_path / "set" / "manifest.json").mkdir(parents=True)
    result = run("info", "set", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def test_raw_variable_and_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layouts.ucf101(tmp_path / "ucf101")
    monkeypatch.setenv("SCE_VIDEO_RAW", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["ucf101", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "3 videos, 3 B" in shown
    assert "split1       test 1, train 2" in shown
    assert "missing: 1\n  UCF-101/Biking/v_Biking_g01_c02.avi" in shown
    assert "\ndisk         about 41.0 KiB needed, " in shown
    assert re.search(r"\nplan digest  [0-9a-f]{64}\n", shown)


def test_dry_run_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        stats = {path: path.stat() for path in (tmp_path, *tmp_path.rglob("*"))}
        return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}

    monkeypatch.chdir(tmp_path)
    layouts.put(tmp_path, "raw/folder/a/1.mp4", "raw/folder/b/2.mp4", "old/mine.txt")
    before = state()
    for out in ("shards/folder", "not/there/yet", "old"):
        assert main(["folder", "--dry-run", "--overwrite", "--out", out, "--workers", "3"]) == 0
    assert "samples      2 videos, 2 B" in capsys.readouterr().out
    assert state() == before


def test_no_torch(tmp_path: Path, clips: Path) -> None:
    """Torch takes seconds and gigabytes; nothing here needs it."""
    layouts.class_folders(tmp_path / "raw", clips, each=1)
    code = (
        "import sys, pkgutil, importlib, sce_video.shard as room\n"
        "for module in pkgutil.walk_packages(room.__path__, 'sce_video.shard.'):\n"
        "    importlib.import_module(module.name)\n"
        "from sce_video.shard.__main__ import main\n"
        "if __name__ == '__main__':\n"
        f"    assert main(['folder', '--root', {str(tmp_path / 'raw')!r}, '--out', 'o']) == 0\n"
        "    heavy = {'torch', 'webdataset', 'deepspeed', 'torchvision'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    repository = Path(__file__).resolve().parents[3]
    subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )

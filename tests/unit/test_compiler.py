"""The place of compiled code, whether a compiler works, and what was compiled."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor
from torch._inductor.runtime.cache_dir_utils import cache_dir, default_cache_dir

from sce_video import compiler

CPU = torch.device("cpu")
PLACE = "TORCHINDUCTOR_CACHE_DIR"


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE, os.environ[PLACE])  # is put back, whoever changes it
    torch._dynamo.reset()
    counters.clear()


def test_code_is_kept_with_the_shards_or_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCE_VIDEO_CACHE", str(tmp_path))
    monkeypatch.setenv(PLACE, "/elsewhere")
    compiler.prepare()
    assert os.environ[PLACE] == "/elsewhere"
    monkeypatch.delenv(PLACE)
    compiler.prepare()
    assert os.environ[PLACE] == str(tmp_path / "compiled" / compiler.processor())
    monkeypatch.delenv(PLACE)
    monkeypatch.delenv("SCE_VIDEO_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    compiler.prepare()
    ours = tmp_path / "home" / ".cache" / "sce_video" / "compiled" / compiler.processor()
    assert os.environ[PLACE] == str(ours)
    assert ours.is_dir()
    assert not list(ours.iterdir())


def test_torch_s_own_choice_is_not_the_user_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCE_VIDEO_CACHE", str(tmp_path))
    monkeypatch.delenv(PLACE)
    cache_dir()  # as torch does while it is imported
    assert os.environ[PLACE] == default_cache_dir()
    compiler.prepare()
    assert os.environ[PLACE] == str(tmp_path / "compiled" / compiler.processor())


@pytest.mark.parametrize("why", ["no folder", "read-only", "no home"])
def test_a_place_that_cannot_be_used_is_one_line(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path if why == "read-only" else tmp_path / "file"
    monkeypatch.setenv("SCE_VIDEO_CACHE", "" if why == "no home" else str(place))
    monkeypatch.delenv(PLACE)

    def refuse(error: BaseException) -> None:
        raise error

    if why == "read-only":  # which root would not notice
        refused = PermissionError(13, "Permission denied", str(place))
        monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: refuse(refused))
    if why == "no home":
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", lambda _: refuse(KeyError("no such user")))
    compiler.prepare()
    assert os.environ.get(PLACE, compiler.torch_place()) == compiler.torch_place()
    [line] = [record.getMessage() for record in caplog.records if record.name == "sce_video"]
    assert ("home" if why == "no home" else str(place)) in line


def test_processors_with_other_instructions_have_other_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = "processor : 0\nmodel name : A\ncpu MHz : {}\nflags : {}\n\nprocessor : 1\nflags : no\n"
    files = [told.format(*of) for of in (("1", "avx2"), ("2", "avx2"), ("1", "avx2 avx512f"))]
    read = iter(files)
    monkeypatch.setattr(Path, "read_text", lambda _: next(read, files[-1]))
    names = [compiler.processor() for _ in files]
    assert names[0] == names[1] != names[2]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO AVX")
    assert re.fullmatch("NOAVX-[0-9a-f]{12}", compiler.processor())
    assert compiler.processor()[-12:] == names[2][-12:]


def test_a_compiler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE, str(tmp_path))
    with inductor.patch({"cpp.cxx": (None, "/nowhere/g++")}):
        reason = compiler.why_not(CPU)
    assert reason
    assert "/nowhere/g++" in reason
    assert "\n" not in reason


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler (g++)")
def test_a_compiler_that_works_and_what_it_did() -> None:
    assert compiler.compiled_so_far() is None
    assert compiler.why_not(CPU) is None
    told = compiler.compiled_so_far()
    assert told
    assert re.fullmatch(rf"compiled 1 graphs in \d+ s; kept in {os.environ[PLACE]}", told)

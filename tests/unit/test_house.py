"""The structure of the package: imports go down, names are free, start-up is light."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "sce_video"

# A module may import from its own floor and those above it in this list.
FLOORS = [
    {"errors", "progress", "files"},
    {"arguments"},
    {"config"},
    {"video"},
    {"shardset"},
    {"shard", "stream"},
    {"augment"},
    {"objectives"},
    {"model"},
    {"engine"},
    {"evals"},
    {"report", "export"},
    {"train", "bench"},
    {"demo"},
    {"commands"},
    {"cli"},
    {"__main__", "__init__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def room(path: Path) -> str:
    if path.name == "__main__.py":  # a front door, whichever room it opens
        return "__main__"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("sce_video.")}
    return found


def test_imports_go_down() -> None:
    upward = [
        f"{path.relative_to(REPOSITORY)} imports {target}"
        for path in PACKAGE.rglob("*.py")
        for target in imported_rooms(path)
        if room(path) != "__init__" and FLOOR[target] > FLOOR[room(path)]
    ]
    assert not upward


def test_rooms_of_one_floor_do_not_import_each_other() -> None:
    sideways = [
        f"{path.relative_to(REPOSITORY)} imports {target}"
        for path in PACKAGE.rglob("*.py")
        for target in imported_rooms(path)
        if target != room(path) and FLOOR[target] == FLOOR[room(path)]
        if room(path) not in ("cli", "__main__", "__init__")
    ]
    assert not sideways


def test_the_engine_knows_no_evaluation_and_the_shard_room_no_torch() -> None:
    for path in (PACKAGE / "engine").rglob("*.py"):
        assert "evals" not in imported_rooms(path)
    for path in (PACKAGE / "shard").rglob("*.py"):
        assert "import torch" not in path.read_text(), path


def test_what_reads_by_an_index_needs_no_webdataset() -> None:
    code = (
        "import importlib, pkgutil, sys, sce_video.evals, sce_video.report, sce_video.stream.data\n"
        "for room in (sce_video.evals, sce_video.report):\n"
        "    for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "assert 'sce_video.evals.search' in sys.modules\n"
        "assert 'webdataset' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_first_level_names_are_free() -> None:
    taken = set(sys.stdlib_module_names)
    for name, distributions in importlib.metadata.packages_distributions().items():
        if set(distributions) != {"sce-video"}:
            taken.add(name)
    ours = {p.name.removesuffix(".py") for p in PACKAGE.iterdir()} - {"__pycache__"}
    assert not {n for n in ours if not n.startswith("__")} & taken


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("import sce_video", 0.3),
        ("from sce_video.cli import main; main(['--help'])", 1.0),
        ("from sce_video.cli import main; main(['retrieve', '--help'])", 1.0),
        ("from sce_video.train import main; main(['--help'])", 1.0),
    ],
)
def test_start_up_is_light(code: str, limit: float) -> None:
    probe = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\ntry:\n    {code}\n"
    probe += "except SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    best = float("inf")
    for _ in range(3):  # the best of three: the machine may be busy
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True)
        best = min(best, time.perf_counter() - began)
    # Python itself takes a part of it; the contract is the wall clock of the command.
    assert best < limit


def test_files_and_functions_stay_small() -> None:
    long_files = [p for p in PACKAGE.rglob("*.py") if p.read_text().count("\n") > 400]
    assert not long_files
    long_functions = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert not long_functions

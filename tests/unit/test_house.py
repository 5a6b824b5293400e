"""The structure of the package: imports go down, names are free, start-up is light."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from sce_video.cli import VERBS
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "sce_video"

# A module may import from its own floor and those above it in this list.
FLOORS = [
    {"text"},
    {"terminal"},
    {"errors", "progress", "files", "processes"},
    {"documents"},
    {"arguments", "compiler", "lock"},
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
SHARED = "evaluation"
"""The module of commands that is no verb: what several of them share."""
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
            if node.module == "sce_video":  # ``from sce_video import train`` is train's room
                names = [f"sce_video.{alias.name}" for alias in node.names if is_room(alias.name)]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("sce_video.")}
    return found


def is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


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


@pytest.mark.slow
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


def test_all_verbs_are_made_alike() -> None:
    modules = {p.stem for p in (PACKAGE / "commands").glob("*.py")} - {"__init__", SHARED}
    assert modules == set(VERBS)
    for verb, about in VERBS.items():
        module = import_module(f"sce_video.commands.{verb}")
        assert 0 < len(about) < 70, verb
        assert list(inspect.signature(module.main).parameters) == ["arguments", "prog"], verb
        public = [name for name in dir(module) if inspect.isfunction(getattr(module, name))]
        own = [n for n in public if getattr(module, n).__module__ == module.__name__]
        assert [name for name in own if not name.startswith("_")] == ["main"], verb


def test_front_doors_are_a_few_lines() -> None:
    doors = list(PACKAGE.rglob("__main__.py"))
    assert len(doors) == 2
    for path in doors:
        assert path.read_text().count("\n") < 20, path
        assert imported_rooms(path) <= {"cli", "commands"}, path


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import sce_video", id="import"),
        *(
            pytest.param(f"from sce_video.cli import main; main({arguments!r})", id=name)
            for name, arguments in {
                "help": ["--help"],
                **{verb: [verb, "--help"] for verb in VERBS},
                "shard-verify": ["shard", "verify", "--help"],
                "search-build": ["search", "build", "--help"],
            }.items()
        ),
        pytest.param("from sce_video.train import main; main(['--help'])", id="train.py"),
    ],
)
def test_start_up_is_light(code: str) -> None:
    """Only the package's own modules and the standard library, before there are arguments."""
    probe = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\nbefore = set(sys.modules)\n"
    probe += f"try:\n    {code}\nexcept SystemExit:\n    pass\n"
    probe += "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert loaded - set(sys.stdlib_module_names) == {"sce_video"}


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

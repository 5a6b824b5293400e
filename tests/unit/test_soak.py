"""A soak of several pieces: tests/soak.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

CONFTEST = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from tests.soak import add_option as pytest_addoption, register as pytest_configure
"""
TESTS = """
import os, signal
from pathlib import Path
import pytest

pytestmark = pytest.mark.soak

@pytest.mark.parametrize("seed", range(5))
def test_loop(seed, record_property):
    record_property("difference", seed / 10)
    with open("ran", "a") as ran:
        ran.write(str(seed))
    assert seed != 1
    if seed == 3 and not Path("second").exists():
        Path("second").touch()
        os.kill(os.getpid(), signal.SIGKILL)

def test_of_what_breaks(request):
    request.addfinalizer(lambda: 1 / 0)

def test_of_what_is_not_here():
    pytest.skip("no such machine")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of seven soak tests; two of them fail, and one kills pytest when it runs first."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = soak: long\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    return tmp_path


def soak(project: Path, *options: str) -> tuple[str, str, dict[str, dict[str, Any]]]:
    """The seeds that ran, what pytest printed, and the rows of the table by test."""
    (project / "ran").write_text("")
    plugins = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *options]
    out = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False).stdout
    rows = json.loads((project / "soak.json").read_text())
    return (project / "ran").read_text(), out, {r["test"].partition("::")[2]: r for r in rows}


@pytest.mark.slow
def test_a_killed_soak_goes_on_where_it_was(project: Path) -> None:
    ran, _, rows = soak(project, "-m", "soak")
    assert ran == "0123"
    assert {test: row["outcome"] for test, row in rows.items()} == {
        "test_loop[0]": "passed",
        "test_loop[1]": "failed",
        "test_loop[2]": "passed",
    }
    before = rows["test_loop[2]"]
    assert before["difference"] == 0.2
    assert rows["test_loop[1]"]["why"] == "assert 1 != 1"

    ran, out, rows = soak(project, "-m", "soak", "--continue")
    assert ran == "134"
    assert "2 deselected" in out
    assert "7 rows in soak.json: 4 passed, 1 failed, 1 error, 1 skipped; 2 had passed" in out
    assert rows["test_loop[2]"] == before
    assert rows["test_of_what_breaks"]["why"] == "ZeroDivisionError: division by zero"
    assert "no such machine" in rows["test_of_what_is_not_here"]["why"]

    with (project / "tests" / "test_it.py").open("a") as source:
        source.write("# other code\n")
    ran, _, after = soak(project, "-m", "soak", "--continue", "-k", "2 or 4")
    assert ran == "24"
    assert len(after) == 7
    assert after["test_loop[2]"]["code"] != before["code"] == after["test_loop[0]"]["code"]

    ran, out, rows = soak(project, "-m", "soak", "-k", "0")
    assert (ran, list(rows)) == ("0", ["test_loop[0]"])
    assert "1 rows in soak.json: 1 passed\n" in out


@pytest.mark.slow
def test_processes_share_what_passed(project: Path) -> None:
    (project / "second").touch()
    soak(project, "-m", "soak", "-k", "loop and not 4")
    ran, out, rows = soak(project, "-m", "soak", "--continue", "-n", "2", "-k", "loop")
    assert sorted(ran) == ["1", "4"]
    assert "5 rows in soak.json: 4 passed, 1 failed; 3 had passed on this code" in out
    assert len(rows) == 5

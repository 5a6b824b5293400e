"""The table of ``pytest -m soak``, soak.json, which grows as tests end; a run goes on from it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sce_video.files import write_whole


def add_option(parser: pytest.Parser) -> None:
    """``--continue``: keep the rows of soak.json, and skip what passed on the same code."""
    about = "with -m soak: without the tests that soak.json has as passed on the same code"
    parser.addoption("--continue", dest="go_on", action="store_true", help=about)


def register(config: pytest.Config) -> None:
    """Keep the table if this is ``pytest -m soak``."""
    if config.option.markexpr == "soak":
        config.pluginmanager.register(_Table(config), "soak-table")
    elif config.option.go_on:
        raise pytest.UsageError("--continue goes with -m soak")


class _Table:
    """Rows by test. Of several processes the first one writes, and tells the others what passed."""

    def __init__(self, config: Any) -> None:
        self.path = config.rootpath / "soak.json"
        self.code = _digest(config.rootpath)
        self.writes = not hasattr(config, "workerinput")
        kept = config.option.go_on and self.writes and self.path.exists()
        table = json.loads(self.path.read_text()) if kept else []
        self.rows: dict[str, dict[str, Any]] = {row["test"]: row for row in table}
        good = [row for row in table if row["outcome"] == "passed"]
        self.passed = [row["test"] for row in good if row.get("code") == self.code]
        if not self.writes:
            self.passed = config.workerinput["soak_passed"]

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Each process of pytest-xdist has to see the same tests, one that is started later too."""
        node.workerinput["soak_passed"] = self.passed

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        done = set(self.passed)
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
        items[:] = [item for item in items if item.nodeid not in done]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self.writes or (report.when != "call" and report.passed):
            return
        row = {
            "test": report.nodeid,
            "outcome": "error" if report.failed and report.when != "call" else report.outcome,
            "seconds": round(report.duration, 2),
            "code": self.code,
            **dict(report.user_properties),
        }
        if not report.passed:
            crash = getattr(report.longrepr, "reprcrash", None)
            row["why"] = (crash.message if crash else report.longreprtext)[-400:]
        self.rows[report.nodeid] = row
        write_whole(self.path, (json.dumps(list(self.rows.values()), indent=1) + "\n").encode())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = Counter(row["outcome"] for row in self.rows.values())
        how = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
        kept = f"; {len(self.passed)} had passed on this code" if self.passed else ""
        terminalreporter.write_line(f"{len(self.rows)} rows in soak.json: {how or 'none'}{kept}")


def _digest(root: Path) -> str:
    """Of all sources below ``root`` that a test may run."""
    digest = hashlib.sha256()
    for path in sorted(
        p for folder in ("sce_video", "tests") for p in root.glob(f"{folder}/**/*.py")
    ):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]

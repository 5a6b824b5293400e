"""A run's folder that somebody else made: bounds, links, pipes, and files of any other form."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sce_video.evals.classification import write_spread
from sce_video.report import _page, inputs
from sce_video.report.inputs import read_run
from tests.report_run import CLASSES, write_metrics, write_results

PROTOCOL = {"shards": "/gone", "dataset": "d", "manifest_sha256": "0", "not_in_shards": {"lost": 1}}
DEEP = "[" * 5000 + "]" * 5000


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with all files that the page is made of, but no set."""
    run = tmp_path / "run"
    write_metrics(run)
    (run / "retrieval").mkdir()
    summary = {"R@1": 0.5, "mAP": 0.5, "samples": 3, "missing": 0, "protocol": PROTOCOL}
    (run / "retrieval/retrieval.json").write_text(json.dumps(summary))
    found = [{"query": 0, "nearest": [1, 2], "scores": [0.5, 0.25]}]
    (run / "retrieval/neighbours.json").write_text(json.dumps(found))
    write_results(run)
    test = json.loads((run / "test/test.json").read_text())
    protocol = {"dataset": "ucf101", "split": "split1:test", "classifier": "runs/a"}
    write_spread([{**test, "top1": x, "protocol": protocol} for x in (0.25, 0.75)], run / "test")
    rows = [{"name": "ours", "a": 0.5, "b": 3}]
    headline = {"title": "t", "columns": ["a", "b"], "rows": rows, "notes": ["n"]}
    (run / "results.json").write_text(json.dumps(headline))
    (run / "samples").mkdir()
    (run / "samples/views.png").write_bytes((run / "test/confusion.png").read_bytes())
    return run


def described(*runs: Path) -> dict[str, Any]:
    """What the page of runs shows of the first."""
    text = _page([str(i) for i in range(len(runs))], [read_run(run) for run in runs], {})
    data = text.partition('id="data">')[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(data)["runs"][0]
    return found


def test_a_whole_run_has_no_problem(run: Path) -> None:
    shown = described(run, run)
    assert shown["problems"] == []
    assert [len(shown[name]) for name in ("results", "facts")] == [4, 2]
    assert all(shown[name] for name in ("headline", "confusion", "views", "config"))


ODD: list[Any] = [
    *(None, True, -1, 2**63 - 1, 1e308, float("nan"), "", "x"),
    *([], [1], ["a", {}], {}, {"a": 1}, {"": {"": []}}, {"a": {"b": {"c": 1}}}),
]
FILES = (
    *("status.json", "results.json", "retrieval/retrieval.json", "retrieval/neighbours.json"),
    *("knn/knn.json", "test/test.json", "test/mean.json", "config.yaml"),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in JSON values, and of lists those in the first."""
    inner = (
        list(value) if isinstance(value, dict) else [0] * bool(isinstance(value, list) and value)
    )
    return [at, *(place for key in inner for place in places(value[key], (*at, key)))]


def replaced(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """JSON values with another one at a place."""
    if not at:
        return new
    copy = value.copy()
    copy[at[0]] = replaced(value[at[0]], at[1:], new)
    return copy


@pytest.mark.parametrize(
    "seed",
    [i if i in (0, 7) else pytest.param(i, marks=pytest.mark.slow) for i in range(len(ODD))],
)
def test_files_of_any_other_form_give_a_page(run: Path, seed: int) -> None:
    config = {
        "task": "finetune",
        "model": {"trunk": "r3d_18", "width": 8},
        "clip": {"frames": 8, "seconds": 2.0, "size": 112},
        "objective": {"name": "sce"},
    }
    (run / "config.yaml").write_text(json.dumps(config))
    whole = {name: json.loads((run / name).read_text()) for name in FILES}
    found = {name: places(value) for name, value in whole.items()}
    for turn in range(max(map(len, found.values()))):
        for number, (name, value) in enumerate(whole.items()):
            at = found[name][turn % len(found[name])]
            odd = ODD[(seed + turn + number) % len(ODD)]
            (run / name).write_text(json.dumps(replaced(value, at, odd)))
        described(run, run)


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


ODD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (lambda path: path.symlink_to("/etc/passwd"), "is a link"),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "is a link"),
    "link to itself": (lambda path: path.symlink_to(path.name), "is a link"),
    "pipe": (os.mkfifo, "is not a regular file"),
    "folder": (Path.mkdir, "is not a regular file"),
    "sparse": (_sparse, ""),
    "deep": (lambda path: path.write_text(DEEP), ""),
    "bytes": (lambda path: path.write_bytes(bytes(range(256)) * 9), ""),
}
ALL = (
    *(*FILES, "metrics.jsonl", "run.log", "test/per_class.csv"),
    *("samples/views.png", "test/confusion.png"),
)


@pytest.mark.parametrize("name", ALL)
def test_what_is_no_file_is_neither_followed_nor_waited_for(run: Path, name: str) -> None:
    for make, said in ODD_FILES.values():
        (run / name).unlink(missing_ok=True)
        make(run / name)
        shown = described(run)
        told = [line for line in shown["problems"] if Path(name).name in line]
        assert told or (name == "run.log" and not said), (make, said)
        assert all(said in line for line in told)
        assert "root:x:" not in json.dumps(shown)
        (run / name).rmdir() if said and (run / name).is_dir() else (run / name).unlink()


def test_folders_of_a_run_may_be_no_links(run: Path, tmp_path: Path) -> None:
    (run / "samples").rename(tmp_path / "private")
    (run / "samples").symlink_to(tmp_path / "private")
    shown = described(run)
    assert shown["views"] is None
    assert shown["problems"] == [
        "samples/views.png: lies in a folder that is a link (samples); it is left out."
    ]


def test_of_long_metrics_and_logs_the_newest_is_read(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_metrics(run, steps=1000)
    size = (run / "metrics.jsonl").stat().st_size
    monkeypatch.setattr(inputs, "_TAIL", 1000)
    monkeypatch.setattr(inputs, "_LOG_TAIL", 200)
    stamp = "2026-01-02 03:04:05,678"
    log = f"{stamp} INFO rank 0: this run\nmodel   new\n" * 50 + f"{stamp} ERROR: last\n"
    (run / "run.log").write_text(log)
    found = read_run(run)
    assert found.metrics[-1]["step"] == 1000
    assert 5 < len(found.metrics) < 20
    assert found.plan == ["model   new"]
    assert found.last == "ERROR: last"
    told = [
        f"run.log: has {len(log):,} bytes; the newest 164 are read, what is older is left out.",
        f"metrics.jsonl: has {size:,} bytes; the newest 927 are read, what is older is left out.",
    ]
    assert found.problems == told
    (run / "metrics.jsonl").write_text("x" * 5000)
    assert read_run(run).metrics == []


@pytest.mark.parametrize(
    "row",
    [
        *('{"step": 1e300}', '{"step": -1}', '{"step": true}', '{"step": "7"}', "7", "[]", ""),
        *('{"step": 9007199254740992}', '{"step": ' + "9" * 5000 + "}", DEEP, '{"a": 1}', "\0"),
    ],
)
def test_a_row_that_is_none_is_left_out(run: Path, row: str) -> None:
    (run / "metrics.jsonl").write_text(f'{{"step": 1, "a": 1}}\n{row}\n{{"step": 3, "a": NaN}}\n')
    found = read_run(run)
    assert [line["step"] for line in found.metrics] == [1, 3]
    assert found.problems == [
        "metrics.jsonl: 1 of 3 lines cannot be read and are left out (the first is line 2)."
    ]


def test_series_are_bounded(run: Path) -> None:
    row = {"step": 1, "x" * 101: 1, **{f"s{i}": 1e308 * (i % 2) for i in range(1000)}}
    (run / "metrics.jsonl").write_text(json.dumps(row))
    [found] = read_run(run).metrics
    assert list(found) == ["step", *(f"s{i}" for i in range(199))]
    assert described(run)["problems"] == ["metrics.jsonl: 802 series are left out."]


@pytest.mark.parametrize(
    "text",
    [
        *("class,top1\na,b\n", "class,top1\na,1,2\n", "class,top1\na\n", "top1\n1\n"),
        *(f"class,top1\n{'a' * 200_000},1\n", "class,top1\na,²\n", "\0"),
    ],
)
def test_a_table_of_another_form_is_left_out(run: Path, text: str) -> None:
    (run / "test/per_class.csv").write_text(text)
    shown = described(run)
    assert [line.partition(":")[0] for line in shown["problems"]] == ["per_class.csv"]
    assert len(shown["results"]) == 4


def test_a_table_keeps_what_is_odd_and_can_be_shown(run: Path) -> None:
    text = f"class,top1\n{CLASSES[0]},{'9' * 5000}\nb\0\x1b,nan\n"
    (run / "test/per_class.csv").write_text(text)
    shown = described(run)
    assert shown["problems"] == []
    [table] = [found["classes"] for found in shown["results"] if found["title"][:4] == "Test"]
    assert table["rows"] == [[CLASSES[0], None], ["b\\x00\\x1b", None]]


def test_aliases_are_not_expanded(run: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(9):
        lines.append(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]")
    (run / "config.yaml").write_text("\n".join(lines))
    shown = described(run, run)
    assert shown["config"] == "\n".join(lines)
    [problem] = shown["problems"]
    assert problem.startswith("config.yaml: more than 20,000 values")
    (run / "config.yaml").write_text("run: {dir: 2024-99-99}")
    assert described(run, run)["problems"][0].startswith("config.yaml: not valid YAML")


@pytest.mark.parametrize("beat", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", 5, []])
def test_times_that_no_calendar_has(run: Path, beat: object) -> None:
    (run / "status.json").write_text(json.dumps({"state": "done", "heartbeat": beat}))
    for name in FILES:
        os.utime(run / name, (1 << 40, 1 << 40)) if (run / name).exists() else None
    assert described(run)["subtitle"].startswith("finished · ")

"""A small finished run with shards and a retrieval result, made for the tests of its page."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from sce_video.report.inputs import RunFiles
from sce_video.shard.__main__ import main as shard
from sce_video.shardset.index import open_shards
from tests.videos import moving_square, write_video

EVIL = "</script><script>document.title='owned'</script>"
"""A class name that would run if it got into the page as markup."""
QUOTED = "\"cut\" & 'paste'"
CLASSES = ("Archery", EVIL, QUOTED)
EACH = 4  # videos a class, the last one a query


def make_run(root: Path) -> Path:
    """``ROOT/shards`` and ``ROOT/run``; query i's nearest is right for the first class only."""
    lines = []
    for number in range(len(CLASSES) * EACH):
        write_video(root / "raw" / f"v{number}.mp4", moving_square(12, seed=number))
        label = CLASSES[number // EACH].replace('"', '""')
        split = "test" if number % EACH == EACH - 1 else "train"
        lines.append(f'v{number}.mp4,"{label}",{split}')
    table = root / "list.csv"
    table.write_text("path,label,split\n" + "\n".join(lines) + "\n")
    shards = root / "shards"
    command = ["folder", "--root", str(root / "raw"), "--csv", str(table), "--out", str(shards)]
    assert shard([*command, "--workers", "1"]) == 0
    run = root / "run"
    write_metrics(run)
    write_retrieval(run, shards)
    return run


def write_metrics(run: Path, steps: int = 20) -> None:
    """``metrics.jsonl``, ``status.json`` and ``config.yaml``."""
    run.mkdir(parents=True, exist_ok=True)
    rows = [
        {"step": s, "train/loss": 5 / s, "train/lr": s / 100, "train/bad_samples": 0.0}
        for s in range(1, steps + 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "status.json").write_text(json.dumps({"state": "done", "step": steps}))
    (run / "config.yaml").write_text("model:\n  trunk: r2plus1d_18\n  width: 8\n")


def write_results(run: Path, *, top1: float = 0.5) -> None:
    """``knn`` and ``test``, and ``per_class`` of retrieval."""
    path = run / "retrieval" / "retrieval.json"
    summary = json.loads(path.read_text())
    shares = dict(zip(CLASSES, (1.0, 0.0, 0.25), strict=True))
    summary["per_class"] = {
        name: {"samples": 10 - i, "R@1": share, "mAP": share / 2}
        for i, (name, share) in enumerate(shares.items())
    }
    path.write_text(json.dumps(summary))
    common = {"samples": 3, "missing": 0, "missing_samples": []}
    protocol = {"views": "10 clips x 3 crops, softmax averaged", "queries": "test", EVIL: QUOTED}
    knn = {"top1": top1, "bank_samples": 9, "protocol": {**protocol, "k": 20, "temp": 0.07}}
    test = {"top1": top1, "top5": 1.0, "mean_class_accuracy": 0.25, "protocol": protocol}
    for name, result in (("knn", knn), ("test", test)):
        (run / name).mkdir(exist_ok=True)
        (run / name / f"{name}.json").write_text(json.dumps(result | common))
    with (run / "test" / "per_class.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["class", "samples", "right", "top1"])
        table.writerows([name, 4, round(4 * s), s] for name, s in shares.items())
    Image.new("RGB", (300, 300), "navy").save(run / "test" / "confusion.png")


def write_retrieval(run: Path, shards: Path) -> None:
    """``retrieval.json`` and ``neighbours.json`` of the shards' split column."""
    index = open_shards(shards)
    bank, queries = index.rows("train").tolist(), index.rows("test").tolist()
    classes = index.strings("class")
    found: list[dict[str, Any]] = []
    for query in queries:
        own = [row for row in bank if classes[row] == classes[query]]
        other = [row for row in bank if classes[row] != classes[query]]
        nearest = own + other if classes[query] == CLASSES[0] else other + own
        scores = [round(0.9 - 0.05 * i, 4) for i in range(len(nearest))]
        found.append({"query": query, "nearest": nearest, "scores": scores})
    summary = {
        "R@1": 1 / 3,
        "R@5": 1.0,
        "mAP": 0.5,
        "protocol": {
            "encoder": "runs/<b>",
            "encoder_sha256": "ab" * 32,
            "shards": str(shards),
            "dataset": "folder",
            "manifest_sha256": index.digest,
            "not_in_shards": {"missing": 7},
            "bank": "train",
            "queries": "test",
            "views": "2 clips x 3 crops, features averaged",
            "frames": 8,
            "seconds": 2.0,
            "size": 37,
        },
        "samples": len(queries),
        "bank_samples": len(bank),
        "missing": 1,
        "missing_samples": ["x.tar/key: <broken>"],
    }
    (run / "retrieval").mkdir(parents=True, exist_ok=True)
    (run / "retrieval" / "retrieval.json").write_text(json.dumps(summary))
    (run / "retrieval" / "neighbours.json").write_text(json.dumps(found))


def side(r1: float | None, text: str | None = "optim: {lr: 1}", **protocol: Any) -> RunFiles:
    """A run with a retrieval result, if any."""
    summary = {"R@1": r1, "samples": 4, "protocol": {"encoder_sha256": str(r1), **protocol}}
    results: dict[str, Any] = {} if r1 is None else {"retrieval": summary}
    empty: dict[str, Any] = {"metrics": [], "status": {}, "plan": [], "last": None}
    empty |= {"alive": False, "neighbours": None, "per_class": {}, "comparison": None}
    return RunFiles(Path(), datetime.now(UTC), config=text, results=results, **empty)

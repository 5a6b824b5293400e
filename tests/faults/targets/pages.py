"""The reader of a whole run's folder: the page about it."""

from __future__ import annotations

from pathlib import Path

from sce_video.report import write_report
from tests.faults.mutators.dice import one_of
from tests.faults.mutators.generic import damage
from tests.faults.mutators.pictures import png_file
from tests.faults.mutators.text import csv_text, json_text, jsonl_text, lines_text, yaml_text
from tests.faults.targets.house import House
from tests.faults.targets.target import Target


def _make_page(house: House, folder: Path) -> None:
    house.shards, house.results  # noqa: B018  (made)
    house.give(folder, "shards", "page")


def _report(folder: Path, place: str) -> None:
    page = write_report([folder / "page"]).read_text(encoding="utf-8")
    assert page.count("</script") == page.count("<script")


TARGETS = (
    Target(
        "run of a page",
        _make_page,
        {
            "page/config.yaml": yaml_text,
            "page/status.json": json_text,
            "page/metrics.jsonl": jsonl_text,
            "page/run.log": lines_text,
            "page/retrieval/retrieval.json": json_text,
            "page/retrieval/neighbours.json": json_text,
            "page/knn/knn.json": json_text,
            "page/test/test.json": json_text,
            "page/test/mean.json": json_text,
            "page/test/per_class.csv": csv_text,
            "page/test/confusion.png": one_of(png_file, damage),
            "shards/manifest.json": json_text,
            "shards/folder-000000.tar": damage,
        },
        _report,
        share=6,
    ),
)

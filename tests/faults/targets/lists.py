"""Readers of lists: what the makers of data sets, and people, write about their videos."""

from __future__ import annotations

from pathlib import Path

from sce_video.errors import complain
from sce_video.shard.plan import Settings, make_plan
from sce_video.shard.show import print_plan
from sce_video.shard.sources import Options, find_source
from tests.faults.mutators.text import csv_text, lines_text
from tests.faults.targets.house import House
from tests.faults.targets.target import Target
from tests.unit.shard.layouts import kinetics, put, put_text, ucf101


def _plan(name: str, folder: Path, options: Options) -> None:
    """The dry run: scan, plan, what people are told."""
    scan = find_source(name).scan(name, folder / "raw", options)
    for note in scan.notes:
        complain(note)
    print_plan(make_plan(scan, Settings(name)), folder / "out")


def _make_own(house: House, folder: Path) -> None:
    put(folder / "raw", *(f"{c}/{n}.mp4" for c in ("a", "b") for n in range(3)))
    rows = [f"{c}/{n}.mp4,{c},{'train' if n else 'test'}" for c in ("a", "b") for n in range(3)]
    put_text(folder, "own.csv", ["path,label,split", *rows])
    put_text(folder, "own.txt", [f"{c}/{n}.mp4 {n}" for c in ("a", "b") for n in range(3)])


def _read_own(folder: Path, place: str) -> None:
    path = folder / place
    given = Options(csv=path) if path.suffix == ".csv" else Options(lists=(str(path),))
    _plan("folder", folder, given)


def _make_hmdb51(house: House, folder: Path) -> None:
    names = {c: [f"v_{c}_{n}.avi" for n in range(3)] for c in ("Archery", "Biking")}
    for label, own in names.items():
        put(folder / "raw", *(f"{label}/{name}" for name in own))
        lists = folder / "raw/testTrainMulti_7030_splits"
        for split in (1, 2, 3):
            lines = [f"{name} {1 + (n == split - 1)} " for n, name in enumerate(own)]
            put_text(lists, f"{label}_test_split{split}.txt", lines)


def _make_imagenet(house: House, folder: Path) -> None:
    names = [f"ILSVRC2012_val_0000000{n}.JPEG" for n in (1, 2, 3)]
    put(folder / "raw", *(f"val/{name}" for name in names), "train/n01440764/a.JPEG")
    rows = [f"{name[:-5]},n01440764 1 2 3 4" for name in names]
    put_text(folder / "raw", "LOC_val_solution.csv", ["ImageId,PredictionString", *rows])


_UCF = "raw/ucfTrainTestlist"
TARGETS = (
    Target("own list", _make_own, {"own.csv": csv_text, "own.txt": lines_text}, _read_own),
    Target(
        "lists of UCF101",
        lambda house, folder: ucf101(folder / "raw"),
        {f"{_UCF}/{name}.txt": lines_text for name in ("classInd", "trainlist01", "testlist02")},
        lambda folder, place: _plan("ucf101", folder, Options()),
    ),
    Target(
        "lists of HMDB51",
        _make_hmdb51,
        {"raw/testTrainMulti_7030_splits/Biking_test_split1.txt": lines_text},
        lambda folder, place: _plan("hmdb51", folder, Options()),
        share=1,
    ),
    Target(
        "lists of Kinetics",
        lambda house, folder: kinetics(folder / "raw"),
        {f"raw/annotations/{name}.csv": csv_text for name in ("train", "val")},
        lambda folder, place: _plan("kinetics400", folder, Options()),
    ),
    Target(
        "lists of ImageNet",
        _make_imagenet,
        {"raw/LOC_val_solution.csv": csv_text},
        lambda folder, place: _plan("imagenet", folder, Options()),
        share=1,
    ),
)

"""Synthetic raw data sets in their makers' layouts; the files need not be videos."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from sce_video.shard.convert import ConversionState, convert
from sce_video.shard.plan import ConversionPlan, Settings, make_plan
from sce_video.shard.sources import Options, Scan, find_source
from sce_video.shardset.manifest import Manifest
from sce_video.shardset.reasons import ELSEWHERE, TWICE


def scan(name: str, root: Path, **options: object) -> Scan:
    """What a source finds below ``root``."""
    return find_source(name).scan(name, root, Options(**options))  # type: ignore[arg-type]


def labels(found: Scan) -> dict[str, str]:
    """Path -> class name of each sample."""
    return {r.path: found.classes[r.label] if r.label >= 0 else "" for r in found.records}


def left_out(found: Scan, reason: str) -> tuple[str, ...]:
    """Paths that a scan leaves out for a reason; ``conflicting`` = listed twice."""
    reason = {"conflicting": TWICE, "elsewhere": ELSEWHERE}.get(reason, reason)
    return tuple(path for path, why in found.rejects if why == reason)


def summary(found: Scan) -> Scan:
    """A scan without what tells archives from files."""
    records = tuple(replace(r, source=Path(), offset=None) for r in found.records)
    return replace(found, records=records)


def put(root: Path, *paths: str, data: bytes = b"x") -> None:
    """Write small files below ``root``."""
    for name in paths:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def put_text(root: Path, name: str, lines: Iterable[str]) -> None:
    """Write a text file below ``root``."""
    put(root, name, data="".join(f"{line}\n" for line in lines).encode())


def class_folders(root: Path, clips: Path, classes: int = 3, each: int = 4) -> Path:
    """``ROOT/classC/vC_N.mp4``, copies of the session's clips."""
    for number in range(classes * each):
        label = number // each
        path = root / f"class{label}" / f"v{label}_{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clips / f"clip{number % 4}.mp4", path)
    return root


def ucf101(root: Path) -> Path:
    """Two classes, four videos listed in three splits, one of them not there."""
    put(root, *(f"UCF-101/{c}/v_{c}_g01_c0{n}.avi" for c in ("Archery", "Biking") for n in (1, 2)))
    (root / "UCF-101/Biking/v_Biking_g01_c02.avi").unlink()
    put_text(root, "ucfTrainTestlist/classInd.txt", ["1 Archery", "2 Biking"])
    names = [f"{c}/v_{c}_g01_c0{n}.avi" for c in ("Archery", "Biking") for n in (1, 2)]
    for split in (1, 2, 3):
        test = names[split - 1]
        train = [f"{name} {1 + name.startswith('B')}" for name in names if name != test]
        put_text(root, f"ucfTrainTestlist/trainlist0{split}.txt", train)
        put_text(root, f"ucfTrainTestlist/testlist0{split}.txt", [test])
    return root


def kinetics(root: Path) -> Path:
    """CVDF layout: train lists 3 (one missing), val lists 2 (one replaced); label map of 3."""
    header = "label,youtube_id,time_start,time_end,split,is_cc"
    put_text(
        root,
        "annotations/train.csv",
        [header, "yoga,-a_b,3,13,train,0", '"zip, line",cd,0,10,train,0', "yoga,gone,1,11,train,0"],
    )
    put_text(root, "annotations/val.csv", [header, "yoga,ef,7,17,val,0", "abseiling,gh,8,18,val,1"])
    put(root, "train/-a_b_000003_000013.mp4", "train/cd_000000_000010.mp4")
    put(root, "val/ef_000007_000017.mp4", "val/gh_000008_000018.mp4", "val/stray_000000_000010.mp4")
    put(root, "replacement/deep/gh_000008_000018.mp4", data=b"replaced")
    return root


def tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """A tar of these files, in their order; zipped if it is called so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:" if path.suffix == ".tar" else "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def read_all(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, by its path in it."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def plan_of(root: Path, samples_per_shard: int = 4, limit: int | None = None) -> ConversionPlan:
    """A plan of class folders."""
    scan = find_source("folder").scan("folder", root, Options())
    settings = Settings("toy", samples_per_shard=samples_per_shard, limit=limit)
    return make_plan(scan, settings)


def content(folder: Path) -> dict[str, bytes]:
    """Bytes by file name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def run(plan: ConversionPlan, folder: Path, workers: int = 1, **options: object) -> Manifest:
    """Convert; returns the manifest."""
    manifest, _ = convert(plan, folder, workers=workers, **options)  # type: ignore[arg-type]
    return manifest


def interrupt_after(samples: int) -> Callable[[ConversionState], None]:
    """Ctrl-C after so many."""

    def on_progress(progress: ConversionState) -> None:
        if progress.samples + progress.rejected >= samples:
            raise KeyboardInterrupt

    return on_progress

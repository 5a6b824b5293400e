"""Data sets read from their archives: what is listed, in which order, and the same bytes."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sce_video.errors import SceVideoError, UsageError
from sce_video.shard.__main__ import main
from sce_video.shard.convert import ConversionState, convert
from sce_video.shard.plan import ConversionPlan, Settings, changes, make_plan
from sce_video.shard.sources import Options, Record, Scan, find_source
from sce_video.shard.sources.archive import unpacked
from sce_video.shard.spool import spooled
from sce_video.shard.verify import verify
from sce_video.shard.worker import Accepted, FileJob, process_file
from sce_video.shardset.index import open_shards
from tests.unit.shard import layouts
from tests.unit.shard.layouts import put, put_text, read_all, tar
from tests.videos import moving_square

WNIDS = ("n01440764", "n01443537", "n02124075")


def scan(name: str, root: Path, **options: object) -> Scan:
    return find_source(name).scan(name, root, Options(**options))  # type: ignore[arg-type]


def members(archive: Path) -> list[Record]:
    return unpacked([Record(f"train/{archive.name}", archive, 0)])


def summary(found: Scan) -> Scan:
    """A scan without what tells archives from files."""
    records = tuple(replace(r, source=Path(), offset=None) for r in found.records)
    return replace(found, records=records)


# Listing


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.TGZ"])
def test_members_and_where_they_lie(name: str, tmp_path: Path) -> None:
    long = "x" * 150 + ".mp4"
    files = {"./a.mp4": b"first", "b/c.mp4": b"", long: b"long", "é'\"日.mp4": b"unicode"}
    skipped = {"._a.mp4": b"mac", "b/.DS_Store": b"mac", "../up.mp4": b"out"}
    archive = tar(tmp_path / name, {**files, **skipped, "b//last.mp4": b"end"})
    found = members(archive)
    assert [f.path for f in found] == [
        *("train/a.mp4", "train/b/c.mp4", f"train/{long}", "train/é'\"日.mp4", "train/b/last.mp4")
    ]
    data = archive.read_bytes() if name == "a.tar" else gzip.decompress(archive.read_bytes())
    for file, content in zip(found, [*files.values(), b"end"], strict=True):
        assert file.offset is not None
        assert (data[file.offset :][: file.size], file.source) == (content, archive)


def test_links_folders_and_foreign_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("l.mp4", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "x.mp4"
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo(b"caf\xe9.mp4".decode("utf-8", "surrogateescape")))
    assert [f.path for f in members(path)] == [r"train/caf\xe9.mp4"]


def test_one_file_for_each_path(tmp_path: Path) -> None:
    """As after unpacking one part after the other; what is unpacked already counts."""
    for part, data in enumerate((b"1", b"22")):
        tar(tmp_path / f"train/part_{part}.tar", {"a.mp4": data, "b.mp4": data, "c.mp4": data})
    with tarfile.open(tmp_path / "train/part_1.tar", "a") as archive:
        info = tarfile.TarInfo("a.mp4")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"333"))
    put(tmp_path, "train/b.mp4", data=b"4444")
    tar(tmp_path / "train/part_2.tar.gz", {"d.mp4": b"55555"})
    files = [Record(p.relative_to(tmp_path).as_posix(), p, 4) for p in tmp_path.glob("train/*")]
    sizes = {f.path: f.size for f in unpacked(sorted(files, key=lambda file: file.path))}
    assert sizes == {"train/a.mp4": 3, "train/b.mp4": 4, "train/c.mp4": 2, "train/d.mp4": 5}


def test_a_cut_tar_is_found_wherever_it_is_cut(tmp_path: Path) -> None:
    files = {f"{n}.mp4": bytes([65 + n]) * 700 for n in range(3)}
    whole = tar(tmp_path / "whole.tar", files).read_bytes()
    end = 3 * 512 * 3
    for cut in [*range(0, end + 512, 256), 1, end - 1, end + 511]:
        (tmp_path / "a.tar").write_bytes(whole[:cut])
        with pytest.raises(UsageError, match=r"a\.tar: damaged or cut \(.*\); get it again") as e:
            members(tmp_path / "a.tar")
        assert "\n" not in str(e.value)
    for at in (0, 512 * 3 + 2, 512 * 6 + 150):  # a header in the middle is not the end
        damaged = bytearray(whole)
        damaged[at] ^= 1
        (tmp_path / "a.tar").write_bytes(damaged)
        with pytest.raises(UsageError, match="damaged or cut"):
            members(tmp_path / "a.tar")


def test_a_damaged_zip_is_found(tmp_path: Path, noise: bytes) -> None:
    whole = tar(tmp_path / "whole.tar.gz", {"a.mp4": noise, "b.mp4": noise}).read_bytes()
    damaged = [whole[:cut] for cut in (0, 5, 700, len(whole) // 2, len(whole) - 4)]
    for at in (1, 3000, len(whole) - 6):
        flipped = bytearray(whole)
        flipped[at] ^= 64
        damaged.append(bytes(flipped))
    damaged += [noise, gzip.compress(noise), b"<html>404</html>"]
    for data in damaged:
        (tmp_path / "a.tar.gz").write_bytes(data)
        with pytest.raises(UsageError, match=r"a\.tar\.gz: damaged or cut"):
            members(tmp_path / "a.tar.gz")


# Kinetics


def pack_kinetics(files: Path, root: Path, where: str = "{}") -> Path:
    """The CVDF folders of ``files`` as archives: two parts a split, the replacements in one."""
    for split in ("train", "val"):
        content = list(read_all(files / split).items())
        for part in (0, 1):
            tar(root / where.format(split) / f"part_{part}.tar.gz", dict(content[part::2]))
    spare = root / where.format("replacement") / "replacement_for_corrupted_k400.tgz"
    tar(spare, {f"./{name}": data for name, data in read_all(files / "replacement").items()})
    return root


@pytest.mark.parametrize(
    ("where", "lists"),
    [
        ("{}", "annotations"),
        ("k400_targz/{}", "annotations"),
        ("k400_targz/{}", "k400/annotations"),
    ],
)
def test_kinetics_parts_are_what_they_hold(where: str, lists: str, tmp_path: Path) -> None:
    files = layouts.kinetics(tmp_path / "files")
    root = pack_kinetics(files, tmp_path / "packed", where)
    shutil.copytree(files / "annotations", root / lists)
    found = scan("kinetics400", root)
    assert all(record.part for record in found.records)
    assert summary(found) == summary(scan("kinetics400", files))
    assert (len(found.missing), len(found.unlisted), len(found.replaced)) == (1, 1, 1)
    val = scan("kinetics400", root, splits=("val",))
    assert summary(val) == summary(scan("kinetics400", files, splits=("val",)))


def test_kinetics_downloads_without_is_cc_and_in_class_folders(tmp_path: Path) -> None:
    header = "label,youtube_id,time_start,time_end,split"
    put_text(tmp_path, "k600/annotations/train.txt", [header, "yoga,ab,0,10,train"])
    tar(tmp_path / "k600_targz/train/part_0.tar.gz", {"ab_000000_000010.mp4": b"x"})
    tar(tmp_path / "k600_targz/train/part_1.tar.gz", {})
    assert [r.path for r in scan("kinetics600", tmp_path).records] == ["train/ab_000000_000010.mp4"]
    for base in ("k700-2020", "k700_2020"):
        root = tmp_path / base
        parts = {"./a b/x.mp4": b"x", "yoga/y.mp4": b"x"}
        tar(root / f"{base}_targz/train/k700_train_000.tar.gz", parts)
        found = scan("kinetics700", root)
        assert found.classes == ("a b", "yoga")
        assert [(r.path, r.label) for r in found.records] == [
            ("train/a b/x.mp4", 0),
            ("train/yoga/y.mp4", 1),
        ]
        put_text(root, f"{base}/annotations/label_map.txt", ["yoga"])
        with pytest.raises(UsageError, match=r"k700_train_000\.tar\.gz: a b: no such class"):
            scan("kinetics700", root)


def test_a_damaged_part_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pack_kinetics(layouts.kinetics(tmp_path), tmp_path / "root")
    shutil.copytree(tmp_path / "annotations", root / "annotations")
    part = root / "train/part_1.tar.gz"
    part.write_bytes(part.read_bytes()[:-20])
    assert main(["kinetics400", "--root", str(root), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert f"{part}: damaged or cut" in error
    assert error.count("\n") == 1


# The plan


def parts_scan(parts: int, each: int, suffix: str, root: str = "/r") -> Scan:
    """Videos that were numbered through and then put into parts."""
    records = [
        Record(f"train/v{part}_{n:03d}.mp4", Path(f"{root}/part_{part}{suffix}"), 1, 0, {}, n)
        for part in range(parts)
        for n in range(each)
    ]
    return Scan("video", tuple(records), ("c",))


def test_zipped_parts_stay_together() -> None:
    plan = make_plan(parts_scan(8, 50, ".tar.gz"), Settings("s", samples_per_shard=30))
    records = list(plan.records)
    order = [r.part for r in records]
    runs = [part for at, part in enumerate(order) if at == 0 or order[at - 1] != part]
    assert len(runs) == 8
    assert runs != sorted(runs, key=str)
    for at in range(0, 400, 50):
        names = [r.path for r in records[at : at + 50]]
        assert names != sorted(names)
    elsewhere = make_plan(parts_scan(8, 50, ".tar.gz", "/x"), plan.settings)
    assert elsewhere.digest == plan.digest
    again = make_plan(parts_scan(4, 100, ".tar.gz"), plan.settings)
    assert "order of archives" in changes(plan.parts, again.parts)


def test_plain_tars_change_no_plan() -> None:
    tars = parts_scan(4, 25, ".tar")
    files = replace(tars, records=tuple(replace(r, offset=None) for r in tars.records))
    plans = [make_plan(found, Settings("s")) for found in (tars, files)]
    assert plans[0].digest == plans[1].digest
    assert "order of archives" not in plans[0].parts


# Conversion


def test_a_member_is_read_where_it_lies(tmp_path: Path, clips: Path) -> None:
    data = (clips / "clip.avi").read_bytes()
    archive = tar(tmp_path / "a.tar", {"x.avi": b"xyz", "y.avi": data, "z.avi": b"z" * 5000})
    found = members(archive)[1]
    job = FileJob(found)
    answer = process_file(job)
    assert isinstance(answer, Accepted)
    assert answer.data == data
    for content in ({"x.avi": b"xyz", "y.avi": data[:-1]}, {"y.avi": data}, {"x.avi": data * 2}):
        tar(archive, content)
        with pytest.raises(SceVideoError, match="changed while it was being sharded"):
            process_file(job)
    tar(archive, {"x.avi": b"xyz", "y.avi": data})
    archive.write_bytes(archive.read_bytes()[: (found.offset or 0) + 100])
    with pytest.raises(SceVideoError, match="changed while it was being sharded"):
        process_file(job)


def spools(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("spool*")]


@pytest.fixture(scope="module")
def parts_root(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """Kinetics of five zipped parts with two videos each, and one video that is unpacked."""
    root = tmp_path_factory.mktemp("parts")
    data = [(clips / f"clip{seed}.mp4").read_bytes() for seed in range(4)]
    names = [f"{n:02d}_000000_000010.mp4" for n in range(11)]
    rows = [f"yoga,{n:02d},0,10,train" for n in range(11)]
    put_text(root, "annotations/train.csv", ["label,youtube_id,time_start,time_end,split", *rows])
    for part in range(5):
        pair = names[2 * part : 2 * part + 2]
        tar(root / f"train/part_{part}.tar.gz", {n: data[int(n[:2]) % 4] for n in pair})
    put(root, f"train/{names[10]}", data=data[2])
    return root


def plan_of(root: Path) -> ConversionPlan:
    return make_plan(scan("kinetics400", root), Settings("k", samples_per_shard=3))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, parts_root: Path) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "k"
    seen: list[int] = []
    convert(
        plan_of(parts_root),
        folder,
        workers=1,
        on_progress=lambda progress: seen.append(len(spools(folder))),
    )
    assert 0 < max(seen) <= 2
    return folder


def test_what_was_zipped_is_what_is_in_the_set(
    parts_root: Path, reference: Path, clips: Path
) -> None:
    assert spools(reference) == []
    assert verify(reference) == 0
    shards = open_shards(reference)
    assert len(shards) == 11
    for row in shards.table.to_pylist():
        tar_bytes = (reference / row["shard"]).read_bytes()
        source = clips / f"clip{int(row['path'][6:8]) % 4}.mp4"
        assert tar_bytes[row["media_offset"] :][: row["media_size"]] == source.read_bytes()
    for name, data in read_all(reference).items():
        assert b"part_" not in data, name


@pytest.mark.parametrize("samples", [1, 4, 10])
def test_an_interruption_leaves_no_spool(
    samples: int, parts_root: Path, reference: Path, tmp_path: Path
) -> None:
    def interrupt(progress: ConversionState) -> None:
        if progress.samples >= samples:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(plan_of(parts_root), tmp_path / "k", workers=2, on_progress=interrupt)
    assert spools(tmp_path / "k") == []
    (tmp_path / "k/spool-000001.tar.tmp").write_bytes(b"left by a crash")
    convert(plan_of(parts_root), tmp_path / "k", workers=2)
    assert read_all(tmp_path / "k") == read_all(reference)


def test_a_part_that_is_damaged_meanwhile(parts_root: Path, tmp_path: Path) -> None:
    shutil.copytree(parts_root, tmp_path / "raw")
    plan = plan_of(tmp_path / "raw")
    part = tmp_path / "raw/train/part_2.tar.gz"
    part.write_bytes(part.read_bytes()[:-1000])
    with pytest.raises(UsageError, match=r"part_2\.tar\.gz: damaged or cut"):
        convert(plan, tmp_path / "k", workers=1)
    assert spools(tmp_path / "k") == []
    tar(part, {"04_000000_000010.mp4": b"other", "05_000000_000010.mp4": b"other"})
    with pytest.raises(SceVideoError, match=r"part_2\.tar\.gz: train/0\d_.*mp4: changed"):
        convert(plan, tmp_path / "k", workers=1)
    assert spools(tmp_path / "k") == []


def test_never_more_than_two_copies(tmp_path: Path) -> None:
    parts = [tar(tmp_path / f"{n}.tar.gz", {"x.mp4": bytes([n]) * 10}) for n in range(6)]
    records = [Record("x.mp4", part, 10, offset=512) for part in parts for _ in range(3)]
    jobs = [FileJob(record) for record in records]
    seen: list[int] = []

    def work(group: Sequence[FileJob]) -> Iterator[bytes]:
        for job in group:
            seen.append(len(spools(tmp_path)))
            yield (job.copy or tmp_path).read_bytes()[512:522]

    answers = spooled(work, jobs, tmp_path)
    assert list(answers) == [bytes([n // 3]) * 10 for n in range(18)]
    assert max(seen) <= 2
    assert spools(tmp_path) == []


# ImageNet


def image_bytes(seed: int, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(moving_square(1, 30, 40, seed)[0]).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def imagenet(root: Path) -> tuple[Path, Path]:
    """The same images as class folders and as the official tars; the makers' odd files too."""
    folders, tars = root / "folders", root / "tars"
    inner: dict[str, bytes] = {}
    for label, wnid in enumerate(WNIDS):
        images = {f"{wnid}_{n}.JPEG": image_bytes(10 * label + n) for n in (18, 3, 7)}
        images[f"{wnid}_99.JPEG"] = image_bytes(label, *(("PNG",), ("JPEG", "CMYK"), ())[label])
        for name, data in images.items():
            put(folders, f"train/{wnid}/{name}", data=data)
        inner[f"{wnid}.tar"] = tar(root / "inner.tar", images).read_bytes()
    tar(tars / "ILSVRC2012_img_train.tar", inner)
    synsets = [WNIDS[number] for number in (2, 0, 0, 1, 2)]
    val = {f"ILSVRC2012_val_{n:08d}.JPEG": image_bytes(50 + n) for n in range(1, 6)}
    for wnid, (name, data) in zip(synsets, val.items(), strict=True):
        put(folders, f"val/{wnid}/{name}", data=data)
    tar(tars / "ILSVRC2012_img_val.tar", val)
    put_text(tars, "imagenet_2012_validation_synset_labels.txt", synsets)
    return folders, tars


def test_imagenet_tars_and_folders_give_the_same_set(tmp_path: Path) -> None:
    sets = []
    for root in imagenet(tmp_path):
        plan = make_plan(scan("imagenet", root), Settings("imagenet", samples_per_shard=7))
        convert(plan, tmp_path / "sets" / root.name, workers=1)
        sets.append(read_all(tmp_path / "sets" / root.name))
    assert sets[0] == sets[1]
    shards = open_shards(tmp_path / "sets/tars")
    assert shards.manifest.classes == WNIDS
    assert shards.manifest.splits == {"split": {"train": 12, "val": 5}}
    rows = {row["path"]: row for row in shards.table.to_pylist()}
    assert rows["val/n01440764/ILSVRC2012_val_00000002.JPEG"]["class"] == "n01440764"
    assert rows["train/n01440764/n01440764_18.JPEG"]["ext"] == "jpg"
    assert rows["train/n01440764/n01440764_99.JPEG"]["ext"] == "png"
    assert rows["train/n01443537/n01443537_99.JPEG"]["ext"] == "jpg"


def test_imagenet_one_split_and_what_else_is_there(tmp_path: Path) -> None:
    folders, tars = imagenet(tmp_path)
    for split in ("train", "val"):
        found = scan("imagenet", tars, splits=(split,))
        assert summary(found) == summary(scan("imagenet", folders, splits=(split,)))
    labels = tars / "imagenet_2012_validation_synset_labels.txt"
    put(tars, f"annotations/{labels.name}", data=labels.read_bytes())
    labels.unlink()
    assert summary(scan("imagenet", tars)) == summary(scan("imagenet", folders))
    tar(tars / "ILSVRC2012_img_val.tar", {"readme.txt": b"x", "ILSVRC2012_val_00000001.JPEG": b"x"})
    assert scan("imagenet", tars).unlisted == ("val/readme.txt",)
    shutil.copytree(folders / "val", tars / "val")  # unpacked since
    assert len(scan("imagenet", tars, splits=("val",)).records) == 5


def test_imagenet_wrong_labels_and_damaged_tars(tmp_path: Path) -> None:
    _, tars = imagenet(tmp_path)
    labels = tars / "imagenet_2012_validation_synset_labels.txt"
    lines = labels.read_text().splitlines()
    put_text(tars, labels.name, lines[:4])
    with pytest.raises(UsageError, match=r"labels\.txt: has 4 lines, none for .*_00000005\.JPEG"):
        scan("imagenet", tars)
    put_text(tars, labels.name, ["490", "361"])
    with pytest.raises(UsageError, match=r"labels\.txt: expected one WNID a line, got '490'"):
        scan("imagenet", tars)
    labels.unlink()
    with pytest.raises(UsageError, match=rf"val\.tar: its labels lack; put {labels.name} beside"):
        scan("imagenet", tars)
    assert len(scan("imagenet", tars, splits=("train",)).records) == 12
    whole = tar(tmp_path / "inner.tar", {"n01440764_1.JPEG": b"x" * 2000}).read_bytes()
    for cut in (1024, 2560):  # in a file; where the end should be, so that the next header follows
        inner = {"n01440764.tar": whole[:cut], "n01443537.tar": whole}
        tar(tars / "ILSVRC2012_img_train.tar", inner)
        with pytest.raises(UsageError, match=r"img_train\.tar: damaged or cut"):
            scan("imagenet", tars, splits=("train",))


def test_listing_a_tar_of_tars_reads_headers_only(tmp_path: Path) -> None:
    images = {f"n01440764_{n}.JPEG": bytes(1 << 20) for n in range(20)}
    inner = tar(tmp_path / "inner.tar", images).read_bytes()
    tar(tmp_path / "ILSVRC2012_img_train.tar", {f"{WNIDS[0]}.tar": inner})

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = bytes_read()
    assert len(scan("imagenet", tmp_path).records) == 20
    assert bytes_read() - before < len(inner) / 10

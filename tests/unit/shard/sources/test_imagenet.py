"""ImageNet as class folders and as the official tars."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from sce_video.errors import UsageError
from sce_video.shard.convert import convert
from sce_video.shard.plan import Settings, make_plan
from sce_video.shardset.index import open_shards
from tests.unit.shard.layouts import labels, left_out, put, put_text, read_all, scan, summary, tar
from tests.videos import moving_square


def test_imagenet(tmp_path: Path) -> None:
    put(tmp_path, "train/n02/b.JPEG", "train/n01/a.JPEG", "val/n03/c.JPEG", "val/readme.txt")
    found = scan("imagenet", tmp_path)
    assert (found.media, found.classes) == ("image", ("n01", "n02", "n03"))
    assert labels(found)["val/n03/c.JPEG"] == "n03"
    assert left_out(found, "not an image") == ("val/readme.txt",)
    only = scan("imagenet", tmp_path, splits=("val",))
    assert [(r.path, r.label) for r in only.records] == [("val/n03/c.JPEG", 2)]
    with pytest.raises(UsageError, match=r"expected test/WNID"):
        scan("imagenet", tmp_path, splits=("test",))


def test_a_split_of_another_name_is_told_with_the_way_out(tmp_path: Path) -> None:
    put(tmp_path, "train/n01/a.JPEG", "validation/n01/b.JPEG")
    found = scan("imagenet", tmp_path)
    assert left_out(found, "in no list or class folder") == ("validation/n01/b.JPEG",)
    assert "splits are the folders train, val, test: rename others" in found.notes[0]


WNIDS = ("n01440764", "n01443537", "n02124075")


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
    assert left_out(scan("imagenet", tars), "not an image") == ("val/readme.txt",)
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


def kaggle(tars: Path, root: Path) -> Path:
    """The official tars as Kaggle packs them, but for a test split."""
    inside = root / "ILSVRC/Data/CLS-LOC"
    with tarfile.open(tars / "ILSVRC2012_img_train.tar") as outer:
        for member in outer:
            with tarfile.open(fileobj=outer.extractfile(member)) as inner:
                inner.extractall(inside / "train" / member.name.removesuffix(".tar"), filter="data")
    with tarfile.open(tars / "ILSVRC2012_img_val.tar") as outer:
        outer.extractall(inside / "val", filter="data")
    wnids = (tars / "imagenet_2012_validation_synset_labels.txt").read_text().split()
    rows = [f"ILSVRC2012_val_{n:08d},{x} 1 2 3 4 {x} 5 6 7 8 " for n, x in enumerate(wnids, 1)]
    put_text(root, "LOC_val_solution.csv", ["ImageId,PredictionString", *reversed(rows)])
    put(root, "ILSVRC/Annotations/CLS-LOC/val/1.xml", "ILSVRC/ImageSets/CLS-LOC/val.txt")
    return root


@pytest.mark.parametrize("below", ["", "ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_imagenet_is_that_of_the_tars(below: str, tmp_path: Path) -> None:
    _, tars = imagenet(tmp_path)
    root = kaggle(tars, tmp_path / "kaggle")
    found = scan("imagenet", root / below)
    assert summary(found) == summary(scan("imagenet", tars))
    train = scan("imagenet", root / below, splits=("train",))
    assert summary(train) == summary(scan("imagenet", tars, splits=("train",)))
    put(root, "LOC_synset_mapping.txt", "ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_00000001.JPEG")
    put(root, "ILSVRC/Data/CLS-LOC/val/other.JPEG", "ILSVRC/Data/CLS-LOC/train/loose.JPEG")
    found = scan("imagenet", root / below)
    [test] = [record for record in found.records if record.splits["split"] == "test"]
    assert (test.path, test.label) == ("test/ILSVRC2012_test_00000001.JPEG", -1)
    assert left_out(found, "elsewhere") == ("train/loose.JPEG", "val/other.JPEG")
    assert left_out(found, "not an image") == ("LOC_synset_mapping.txt",) * (not below)
    only = scan("imagenet", root / below, splits=("test",))
    assert (only.classes, len(only.records)) == (found.classes, 1)


def test_kaggles_val_without_or_with_wrong_labels(tmp_path: Path) -> None:
    _, tars = imagenet(tmp_path)
    root = kaggle(tars, tmp_path / "kaggle")
    solution = root / "LOC_val_solution.csv"
    lines = solution.read_text().splitlines()
    put_text(root, solution.name, lines[:3])
    with pytest.raises(UsageError, match=r"solution\.csv: has 2 lines, none for ILSVRC2012_val_0"):
        scan("imagenet", root)
    put_text(root, solution.name, [*lines, "ILSVRC2012_val_00000009,"])
    with pytest.raises(UsageError, match=r"solution\.csv: expected a WNID for each image, got ''"):
        scan("imagenet", root)
    solution.unlink()
    with pytest.raises(UsageError, match=r"CLS-LOC/val: its labels lack; put .* --split train"):
        scan("imagenet", root)
    assert len(scan("imagenet", root, splits=("train",)).records) == 12


def test_flat_folders_of_other_layouts(tmp_path: Path) -> None:
    """The val tar unpacked without a script, and Tiny ImageNet as it is distributed."""
    flat, tiny = tmp_path / "flat", tmp_path / "tiny"
    put(flat, f"train/{WNIDS[0]}/1.JPEG", "val/ILSVRC2012_val_00000001.JPEG", "test/x.JPEG")
    put_text(flat, "imagenet_2012_validation_synset_labels.txt", [WNIDS[1]])
    assert labels(scan("imagenet", flat)) == {
        f"train/{WNIDS[0]}/1.JPEG": WNIDS[0],
        f"val/{WNIDS[1]}/ILSVRC2012_val_00000001.JPEG": WNIDS[1],
        "test/x.JPEG": "",
    }
    put(tiny, f"train/{WNIDS[0]}/images/1.JPEG", "val/images/val_0.JPEG", "test/images/2.JPEG")
    put_text(tiny, "val/val_annotations.txt", [f"val_0.JPEG\t{WNIDS[0]}\t0\t32\t44\t62"])
    found = scan("imagenet", tiny)
    assert found.classes == (WNIDS[0],)
    assert labels(found) == {
        f"train/{WNIDS[0]}/images/1.JPEG": WNIDS[0],
        f"val/{WNIDS[0]}/val_0.JPEG": WNIDS[0],
        "test/images/2.JPEG": "",
    }
    assert found.rejects == ()

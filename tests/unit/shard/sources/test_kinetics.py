"""Kinetics: lists, class folders, replacements, chosen classes, and all that from archives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sce_video.errors import UsageError
from sce_video.shard.__main__ import main
from tests.unit.shard import layouts
from tests.unit.shard.layouts import labels, left_out, put, put_text, read_all, scan, summary, tar


def test_kinetics_cvdf(tmp_path: Path) -> None:
    found = scan("kinetics400", layouts.kinetics(tmp_path))
    assert found.classes == ("abseiling", "yoga", "zip, line")
    assert labels(found) == {
        "train/-a_b_000003_000013.mp4": "yoga",
        "train/cd_000000_000010.mp4": "zip, line",
        "val/ef_000007_000017.mp4": "yoga",
        "replacement/deep/gh_000008_000018.mp4": "abseiling",
    }
    assert {r.splits["split"] for r in found.records if r.path.startswith("rep")} == {"val"}
    assert left_out(found, "missing") == ("train/gone_000001_000011.mp4",)
    assert left_out(found, "elsewhere") == ("val/stray_000000_000010.mp4",)
    assert left_out(found, "replaced") == ("val/gh_000008_000018.mp4",)


def test_kinetics_labels_do_not_depend_on_the_split(tmp_path: Path) -> None:
    layouts.kinetics(tmp_path)
    both, val = scan("kinetics600", tmp_path), scan("kinetics600", tmp_path, splits=("val",))
    assert val.classes == both.classes
    assert {r.splits["split"] for r in val.records} == {"val"}
    assert {r.path: r.label for r in val.records}.items() <= {
        r.path: r.label for r in both.records
    }.items()
    assert left_out(val, "missing") == ()
    train = scan("kinetics600", tmp_path, splits=("train",))
    assert (len(train.records), left_out(train, "elsewhere"), left_out(train, "replaced")) == (
        2,
        (),
        (),
    )


def test_kinetics_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "train/riding_a_bike/a.mp4", "train/yoga/b.mkv", "validate/yoga/c.webm")
    found = scan("kinetics700", tmp_path)
    assert found.classes == ("riding_a_bike", "yoga")
    assert {r.path: r.splits["split"] for r in found.records}["validate/yoga/c.webm"] == "val"
    put_text(tmp_path, "annotations/label_map_k400.txt", ["yoga", "riding a bike", "abseiling"])
    found = scan("kinetics700", tmp_path)
    assert found.classes == ("abseiling", "riding a bike", "yoga")
    assert labels(found)["train/riding_a_bike/a.mp4"] == "riding a bike"
    put(tmp_path, "train/unheard of/d.mp4")
    with pytest.raises(UsageError, match="unheard of: no such class"):
        scan("kinetics700", tmp_path)


def test_kinetics_asks_for_what_lacks(tmp_path: Path) -> None:
    put(tmp_path, "train/a_000000_000010.mp4")
    with pytest.raises(UsageError, match=r"annotations/train\.csv, or class folders"):
        scan("kinetics400", tmp_path)
    layouts.kinetics(tmp_path)
    with pytest.raises(UsageError, match=r"expected test/\*\.mp4"):
        scan("kinetics400", tmp_path, splits=("test",))
    with pytest.raises(UsageError, match="no split 'dev'"):
        scan("kinetics400", tmp_path, splits=("dev",))
    put_text(tmp_path, "annotations/val.csv", ["label,id", "yoga,ef"])
    with pytest.raises(UsageError, match="no column 'youtube_id'"):
        scan("kinetics400", tmp_path)


def test_kinetics_doubled_and_odd_rows(tmp_path: Path) -> None:
    """Names as in Kinetics-700: quotes, apostrophes, brackets; and beyond ASCII."""
    names = ["massaging person's head", "petting animal (not cat)", 'say ""hi""', "スキー, ⛷"]
    rows = [f'"{name}",id{n},{n}.0,{n + 10},train' for n, name in enumerate(names)]
    again = ["yoga,id0,0,10,train", rows[1]]
    header = "\ufefflabel,youtube_id,time_start,time_end,split"
    put_text(tmp_path, "annotations/train.csv", [header, *rows, *again])
    put(tmp_path, *(f"train/id{n}_{n:06d}_{n + 10:06d}.mp4" for n in range(4)))
    found = scan("kinetics700", tmp_path)
    assert list(labels(found).values()) == [*names[:2], 'say "hi"', names[3]]
    assert left_out(found, "conflicting") == ("train/id0_000000_000010.mp4",)
    (tmp_path / "annotations/train.csv").write_bytes(b"label,youtube_id,time_start,time_end\n\xff")
    with pytest.raises(UsageError, match=r"train\.csv: not a csv in UTF-8"):
        scan("kinetics700", tmp_path)
    for times in ("", ",inf,inf", f",{'9' * 5000},1", ",nan,1"):
        put_text(tmp_path, "annotations/train.csv", [header, f"yoga,ab{times}"])
        with pytest.raises(UsageError, match=r"train\.csv, line 2: times must be seconds"):
            scan("kinetics700", tmp_path)


def test_kinetics_some_classes(tmp_path: Path) -> None:
    layouts.kinetics(tmp_path)
    with pytest.raises(UsageError, match="kinetics200 needs --classes FILE"):
        scan("kinetics200", tmp_path)
    put_text(tmp_path, "some.txt", ["zip,_line", "abseiling", "zip, line"])
    found = scan("kinetics200", tmp_path, classes=tmp_path / "some.txt")
    assert found.classes == ("abseiling", "zip, line")
    assert [(r.path, r.label) for r in found.records] == [
        ("replacement/deep/gh_000008_000018.mp4", 0),
        ("train/cd_000000_000010.mp4", 1),
    ]
    assert (left_out(found, "missing"), left_out(found, "elsewhere")) == (
        (),
        ("val/stray_000000_000010.mp4",),
    )
    assert left_out(found, "replaced") == ("val/gh_000008_000018.mp4",)
    put_text(tmp_path, "some.txt", ["yoga"])
    found = scan("kinetics400", tmp_path, classes=tmp_path / "some.txt")
    assert set(labels(found).values()) == {"yoga"}
    assert left_out(found, "missing") == ("train/gone_000001_000011.mp4",)
    assert (left_out(found, "elsewhere"), left_out(found, "replaced")) == (
        ("val/stray_000000_000010.mp4",),
        (),
    )
    put_text(tmp_path, "some.txt", ["yoga", "yoghurt"])
    with pytest.raises(UsageError, match=r"some\.txt: the data set has no class 'yoghurt'"):
        scan("kinetics400", tmp_path, classes=tmp_path / "some.txt")
    with pytest.raises(UsageError, match=r"no\.txt: No such file"):
        scan("kinetics400", tmp_path, classes=tmp_path / "no.txt")


def test_kinetics_some_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "train/riding_a_bike/a.mp4", "train/yoga/b.mkv", "val/yoga/c.webm")
    put_text(tmp_path, "some.txt", ["riding a bike"])
    found = scan("kinetics600", tmp_path, classes=tmp_path / "some.txt")
    assert labels(found) == {"train/riding_a_bike/a.mp4": "riding_a_bike"}
    assert (found.classes, left_out(found, "elsewhere")) == (("riding_a_bike",), ())


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
        pytest.param("k400_targz/{}", "annotations", marks=pytest.mark.slow),
        pytest.param("k400_targz/{}", "k400/annotations", marks=pytest.mark.slow),
    ],
)
def test_kinetics_parts_are_what_they_hold(where: str, lists: str, tmp_path: Path) -> None:
    files = layouts.kinetics(tmp_path / "files")
    root = pack_kinetics(files, tmp_path / "packed", where)
    shutil.copytree(files / "annotations", root / lists)
    found = scan("kinetics400", root)
    assert all(record.part for record in found.records)
    assert summary(found) == summary(scan("kinetics400", files))
    assert (
        len(left_out(found, "missing")),
        len(left_out(found, "elsewhere")),
        len(left_out(found, "replaced")),
    ) == (1, 1, 1)
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


def test_classes_are_known_by_letters_and_digits(tmp_path: Path) -> None:
    """Class folders as torchvision writes them, and others."""
    names = ["petting animal (not cat)", "massaging person's head", "tango dancing", "abseiling"]
    header = "label,youtube_id,time_start,time_end,split"
    rows = [f'"{name}",id{n},0,10,train' for n, name in enumerate(names)]
    put_text(tmp_path, "annotations/train.csv", [header, *rows])
    folders = ["petting_animal_not_cat", "massaging_persons_head", "Tango-Dancing", "abseiling"]
    put(tmp_path, *(f"train/{folder}/id{n}_000000_000010.mp4" for n, folder in enumerate(folders)))
    put(tmp_path, "train/tango dancing/deep/x.mp4", "val/TangoDancing/y.mp4", "train/z.mp4")
    found = scan("kinetics400", tmp_path)
    assert found.classes == tuple(sorted(names))
    assert labels(found) == {
        **{f"train/{f}/id{n}_000000_000010.mp4": names[n] for n, f in enumerate(folders)},
        "train/tango dancing/deep/x.mp4": "tango dancing",
        "val/TangoDancing/y.mp4": "tango dancing",
    }
    assert found.rejects == (("train/z.mp4", "in no list or class folder"),)
    put_text(tmp_path, "some.txt", ["massaging_persons_head"])
    some = scan("kinetics400", tmp_path, classes=tmp_path / "some.txt")
    assert (some.classes, len(some.records)) == (("massaging person's head",), 1)
    assert left_out(some, "elsewhere") == ("train/z.mp4",)
    put_text(tmp_path, "annotations/val.csv", [header, "tango: dancing,v,0,10,val"])
    with pytest.raises(UsageError, match=r"'Tango-Dancing' may be 'tango dancing' or 'tango: danc"):
        scan("kinetics400", tmp_path)


def test_class_folders_that_may_be_one_class(tmp_path: Path) -> None:
    put(tmp_path, "train/riding a bike/a.mp4", "val/riding_a_bike/b.mp4")
    with pytest.raises(UsageError, match=r"are class folders 'riding a bike' and 'riding_a_bike'"):
        scan("kinetics400", tmp_path)
    put_text(tmp_path, "annotations/label_map.txt", ["Riding a bike"])
    assert set(labels(scan("kinetics400", tmp_path)).values()) == {"Riding a bike"}
    put(tmp_path, "train/⛷/c.mp4", "train/🏂/d.mp4")
    (tmp_path / "annotations/label_map.txt").unlink()
    (tmp_path / "val/riding_a_bike/b.mp4").rename(tmp_path / "train/riding a bike/b.mp4")
    (tmp_path / "val/riding_a_bike").rmdir()
    assert scan("kinetics400", tmp_path).classes == ("riding a bike", "⛷", "🏂")


def test_kinetics_of_linked_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "disk/yoga/a.mp4", "disk/run/b.mp4", "root/val/yoga/c.mp4")
    (tmp_path / "root/train").mkdir()
    for name in ("yoga", "run"):
        (tmp_path / "root/train" / name).symlink_to(tmp_path / "disk" / name)
    found = scan("kinetics400", tmp_path / "root")
    assert labels(found) == {"train/run/b.mp4": "run", "train/yoga/a.mp4": "yoga"} | {
        "val/yoga/c.mp4": "yoga"
    }


def test_a_split_without_lists_or_classes_is_named(tmp_path: Path) -> None:
    put(tmp_path, "train/yoga/a.mp4", "val/yoga/b.mp4", "test/c_000000_000010.mp4")
    found = scan("kinetics400", tmp_path)
    assert len(found.records) == 2
    assert left_out(found, "elsewhere") == ("test/c_000000_000010.mp4",)
    train = scan("kinetics400", tmp_path, splits=("train",))
    assert (len(train.records), train.rejects) == (1, ())


def test_of_two_folders_of_a_split_one_is_taken(tmp_path: Path) -> None:
    """Originals beside smaller ones are the same videos."""
    put(tmp_path, "train/yoga/a.mp4", "train_256/yoga/a.mp4", "val_256/yoga/b.mp4")
    (tmp_path / "val").mkdir()
    found = scan("kinetics400", tmp_path)
    assert {r.path: r.splits["split"] for r in found.records} == {
        "train/yoga/a.mp4": "train",
        "val_256/yoga/b.mp4": "val",
    }
    assert left_out(found, "elsewhere") == ("train_256/yoga/a.mp4",)


def test_what_the_downloader_left_is_named_once(tmp_path: Path) -> None:
    root = layouts.kinetics(tmp_path / "k400")
    put(root, "train/stray.mp4", "train/deep/er/x.txt")
    put(tmp_path, "k400_targz/val/notes.txt", "readme.md")
    found = scan("kinetics400", tmp_path)
    assert len(found.records) == 4
    assert sorted(found.rejects) == [
        ("readme.md", "not a video"),
        ("train/deep/er/x.txt", "not a video"),
        ("train/gone_000001_000011.mp4", "missing"),
        ("train/stray.mp4", "in no list or class folder"),
        ("val/gh_000008_000018.mp4", "replaced"),
        ("val/notes.txt", "not a video"),
        ("val/stray_000000_000010.mp4", "in no list or class folder"),
    ]

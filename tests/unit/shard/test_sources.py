"""Every source on a synthetic layout, and what it says to a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sce_video.errors import UsageError
from sce_video.shard.sources import SOURCES, Options, Scan, find_source
from tests.unit.shard import layouts
from tests.unit.shard.layouts import put, put_text


def scan(name: str, root: Path, **options: object) -> Scan:
    return find_source(name).scan(name, root, Options(**options))  # type: ignore[arg-type]


def labels(found: Scan) -> dict[str, str]:
    return {r.path: found.classes[r.label] if r.label >= 0 else "" for r in found.records}


def test_unknown_name_has_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean kinetics400"):
        find_source("kinetic400")
    with pytest.raises(UsageError, match=r"Known: kinetics400, .*folder"):
        find_source("zzz")


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_empty_root_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("hello")
    options = {"classes": tmp_path / "README.txt"} if name == "kinetics200" else {}
    with pytest.raises(UsageError, match=str(tmp_path)) as caught:
        scan(name, tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert "expected" in str(caught.value)


def test_ucf101(tmp_path: Path) -> None:
    put(layouts.ucf101(tmp_path), "UCF-101/Biking/extra.avi", "UCF-101/Biking/notes.txt")
    found = scan("ucf101", tmp_path)
    assert found.classes == ("Archery", "Biking")
    assert found.columns == ("split1", "split2", "split3")
    assert [r.path for r in found.records] == [
        "UCF-101/Archery/v_Archery_g01_c01.avi",
        "UCF-101/Archery/v_Archery_g01_c02.avi",
        "UCF-101/Biking/v_Biking_g01_c01.avi",
    ]
    assert found.records[0].splits == {"split1": "test", "split2": "train", "split3": "train"}
    assert [r.label for r in found.records] == [0, 0, 1]
    assert found.missing == ("UCF-101/Biking/v_Biking_g01_c02.avi",)
    assert found.unlisted == ("UCF-101/Biking/extra.avi", "UCF-101/Biking/notes.txt")


def test_ucf101_in_train_and_test_of_one_split(tmp_path: Path) -> None:
    layouts.ucf101(tmp_path)
    with (tmp_path / "ucfTrainTestlist/testlist02.txt").open("a") as stream:
        stream.write("Archery/v_Archery_g01_c01.avi\n")
    assert scan("ucf101", tmp_path).conflicting == ("UCF-101/Archery/v_Archery_g01_c01.avi",)


def test_ucf101_lines_that_end_in_blanks_or_come_twice(tmp_path: Path) -> None:
    before = scan("ucf101", layouts.ucf101(tmp_path))
    for path in (tmp_path / "ucfTrainTestlist").iterdir():
        lines = path.read_text().splitlines()
        put_text(tmp_path, f"ucfTrainTestlist/{path.name}", [f"{line} \r" for line in lines * 2])
    assert scan("ucf101", tmp_path) == before
    put_text(tmp_path, "ucfTrainTestlist/classInd.txt", ["1 Archery"])
    with pytest.raises(UsageError, match=r"classInd\.txt: no class 'Biking'"):
        scan("ucf101", tmp_path)


def test_hmdb51(tmp_path: Path) -> None:
    names = ["(Rad)Schlag_die_Bank!_x_0.avi", "Goal_#_2_[NEW];-)_300+_1.avi", "twice.avi", "un.avi"]
    put(tmp_path, *(f"catch/{name}" for name in names), "catch/stray.avi")
    for split, flags in ((1, "1210"), (2, "2120"), (3, "0010")):
        lines = [f"{name} {flag} " for name, flag in zip(names, flags, strict=True)]
        put_text(
            tmp_path,
            f"testTrainMulti_7030_splits/catch_test_split{split}.txt",
            [*lines, lines[2], "gone.avi 1 "],
        )
        put_text(
            tmp_path, f"testTrainMulti_7030_splits/brush_hair_test_split{split}.txt", ["a.avi 1 "]
        )
    found = scan("hmdb51", tmp_path)
    assert found.classes == ("brush_hair", "catch")
    splits = {r.path: dict(r.splits) for r in found.records}
    assert splits == {
        "catch/(Rad)Schlag_die_Bank!_x_0.avi": {"split1": "train", "split2": "test"},
        "catch/Goal_#_2_[NEW];-)_300+_1.avi": {"split1": "test", "split2": "train"},
        "catch/twice.avi": {"split1": "train", "split2": "test", "split3": "train"},
        "catch/un.avi": {},
    }
    assert found.missing == ("brush_hair/a.avi", "catch/gone.avi")
    assert found.unlisted == ("catch/stray.avi",)
    assert found.conflicting == ()


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
    assert found.missing == ("train/gone_000001_000011.mp4",)
    assert found.unlisted == ("val/stray_000000_000010.mp4",)
    assert found.replaced == ("val/gh_000008_000018.mp4",)


def test_kinetics_labels_do_not_depend_on_the_split(tmp_path: Path) -> None:
    layouts.kinetics(tmp_path)
    both, val = scan("kinetics600", tmp_path), scan("kinetics600", tmp_path, splits=("val",))
    assert val.classes == both.classes
    assert {r.splits["split"] for r in val.records} == {"val"}
    assert {r.path: r.label for r in val.records}.items() <= {
        r.path: r.label for r in both.records
    }.items()
    assert val.missing == ()
    train = scan("kinetics600", tmp_path, splits=("train",))
    assert (len(train.records), train.unlisted, train.replaced) == (2, (), ())


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
    assert found.conflicting == ("train/id0_000000_000010.mp4",)
    (tmp_path / "annotations/train.csv").write_bytes(b"label,youtube_id,time_start,time_end\n\xff")
    with pytest.raises(UsageError, match=r"train\.csv: not a csv in UTF-8"):
        scan("kinetics700", tmp_path)
    put_text(tmp_path, "annotations/train.csv", [header, "yoga,ab"])
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
    assert (found.missing, found.unlisted) == ((), ("val/stray_000000_000010.mp4",))
    assert found.replaced == ("val/gh_000008_000018.mp4",)
    put_text(tmp_path, "some.txt", ["yoga"])
    found = scan("kinetics400", tmp_path, classes=tmp_path / "some.txt")
    assert set(labels(found).values()) == {"yoga"}
    assert found.missing == ("train/gone_000001_000011.mp4",)
    assert (found.unlisted, found.replaced) == (("val/stray_000000_000010.mp4",), ())
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
    assert (found.classes, found.unlisted) == (("riding_a_bike",), ())


def test_imagenet(tmp_path: Path) -> None:
    put(tmp_path, "train/n02/b.JPEG", "train/n01/a.JPEG", "val/n03/c.JPEG", "val/readme.txt")
    found = scan("imagenet", tmp_path)
    assert (found.media, found.classes) == ("image", ("n01", "n02", "n03"))
    assert labels(found)["val/n03/c.JPEG"] == "n03"
    assert found.unlisted == ("val/readme.txt",)
    only = scan("imagenet", tmp_path, splits=("val",))
    assert [(r.path, r.label) for r in only.records] == [("val/n03/c.JPEG", 2)]
    with pytest.raises(UsageError, match=r"expected test/WNID"):
        scan("imagenet", tmp_path, splits=("test",))


def test_folder_classes(tmp_path: Path) -> None:
    put(tmp_path, "b c/2.mp4", "a/1.AVI", "a/.hidden.mp4", "a/note.txt", "loose.mp4")
    found = scan("folder", tmp_path)
    assert (found.media, found.classes, found.columns) == ("video", ("a", "b c"), ())
    assert labels(found) == {"a/1.AVI": "a", "b c/2.mp4": "b c"}
    assert found.unlisted == ("a/note.txt", "loose.mp4")
    put(tmp_path, "a/3.jpg")
    with pytest.raises(UsageError, match="videos and images in one set"):
        scan("folder", tmp_path)


def test_folder_unlabelled(tmp_path: Path) -> None:
    put(tmp_path, "x.mp4", "deep/er/y.mkv")
    found = scan("folder", tmp_path, unlabelled=True)
    assert [(r.path, r.label) for r in found.records] == [("deep/er/y.mkv", -1), ("x.mp4", -1)]
    assert found.classes == ()


def test_folder_csv(tmp_path: Path) -> None:
    put(tmp_path, "x/1.mp4", "x/2.mp4", "x/3.mp4")
    listing = tmp_path / "list.csv"
    rows = ["x/1.mp4,10,train", "x/2.mp4,9,val", "x/3.mp4,,train", "gone.mp4,9,val"]
    put_text(tmp_path, "list.csv", ["path,label,split", *rows, "x/1.mp4,9,train"])
    found = scan("folder", tmp_path, csv=listing)
    assert found.classes == ("9", "10")
    assert labels(found) == {"x/1.mp4": "10", "x/2.mp4": "9", "x/3.mp4": ""}
    assert (found.missing, found.conflicting) == (("gone.mp4",), ("x/1.mp4",))
    assert [r.path for r in scan("folder", tmp_path, csv=listing, splits=("val",)).records] == [
        "x/2.mp4"
    ]
    for line in ("../x/1.mp4,1,", "/x/1.mp4,1,"):
        put_text(tmp_path, "list.csv", ["path,label,split", line])
        with pytest.raises(UsageError, match=r"line 2: .* no relative path below the root"):
            scan("folder", tmp_path, csv=listing)
    put_text(tmp_path, "list.csv", ["x/1.mp4 1"])
    with pytest.raises(UsageError, match=r"columns path,label\[,split\]"):
        scan("folder", tmp_path, csv=listing)


def test_folder_csv_with_quotes_and_unicode(tmp_path: Path) -> None:
    names = ["a, b/clip 1.mp4", 'it\'s "x"/é+[1]!.mkv', "日本/ß;#.webm", "c/d.mpg", "c/e.avi"]
    put(tmp_path, *names)
    rows = ['"' + name.replace('"', '""') + '","Tai ""Chi"", old",train' for name in names]
    put_text(tmp_path, "list.csv", ["\ufeffpath,label,split", *rows, *rows])
    found = scan("folder", tmp_path, csv=tmp_path / "list.csv")
    assert labels(found) == dict.fromkeys(sorted(names), 'Tai "Chi", old')
    assert (found.missing, found.conflicting) == ((), ())
    (tmp_path / "list.csv").write_bytes(b"path,label\ncaf\xe9.mp4,x\n")
    with pytest.raises(UsageError, match=r"list\.csv: not a csv in UTF-8"):
        scan("folder", tmp_path, csv=tmp_path / "list.csv")
    assert labels(scan("folder", tmp_path)) == {name: name.partition("/")[0] for name in names}


def test_options_that_do_not_apply(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ucf101 takes no --split"):
        scan("ucf101", tmp_path, splits=("train",))
    with pytest.raises(UsageError, match="imagenet takes no --classes"):
        scan("imagenet", tmp_path, classes=tmp_path)
    with pytest.raises(UsageError, match="imagenet takes no --unlabelled"):
        scan("imagenet", tmp_path, unlabelled=True)


def test_foreign_bytes_in_names(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (tmp_path / "a" / b"caf\xe9.mp4".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    (record,) = scan("folder", tmp_path).records
    assert record.path == r"a/caf\xe9.mp4"
    assert record.source.read_bytes() == b"x"


def test_folder_leaves_nothing_out_in_silence(tmp_path: Path) -> None:
    put(tmp_path, "a/1.mp4", "a/deep/er/2.mp4", "train/b/3.mp4", "0.mp4", "a/notes.txt")
    (tmp_path / "a" / "link.mp4").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "a" / "pipe.mp4")
    (tmp_path / os.fsdecode(b"latin\xe9")).mkdir()
    put(tmp_path, os.fsdecode(b"latin\xe9/4.mp4"))
    scan = find_source("folder").scan("folder", tmp_path, Options())
    assert [record.path for record in scan.records] == ["a/1.mp4", "latin\\xe9/4.mp4"]
    assert scan.classes == ("a", "latin\\xe9")
    assert scan.unlisted == (
        "0.mp4",
        "a/deep/er/2.mp4",
        "a/link.mp4",
        "a/notes.txt",
        "a/pipe.mp4",
        "train/b/3.mp4",
    )

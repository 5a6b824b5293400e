"""All sources: names, options, and what is said to a wrong folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sce_video.errors import UsageError
from sce_video.shard.sources import SOURCES, find_source
from tests.unit.shard.layouts import put, put_text, scan


def test_unknown_name_has_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'kinetics400'"):
        find_source("kinetic400")
    with pytest.raises(UsageError, match=r"'zzz'; there are kinetics400, .*folder, verify, info$"):
        find_source("zzz")


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_empty_root_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("hello")
    options = {"classes": tmp_path / "README.txt"} if name == "kinetics200" else {}
    with pytest.raises(UsageError, match=str(tmp_path)) as caught:
        scan(name, tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert "expected" in str(caught.value)


K400 = [
    "label,youtube_id,time_start,time_end,split",
    "petting animal (not cat),a,0,10,train",
    "massaging person's head,b,0,10,train",
    "yoga,gone,0,10,train",
]
TORCHVISION = (
    "train/petting_animal_not_cat/a_000000_000010.mp4 train/massaging_persons_head/b.mp4 "
    "train/yoga/c.mp4 train/d_000000_000010.mp4 files/k400_train_path.txt tars/part_0.tar.gz"
)
KAGGLE = (
    "{0}train/n01440764/n01440764_1.JPEG {0}val/ILSVRC2012_val_00000001.JPEG {0}val/note.txt "
    "{0}test/ILSVRC2012_test_00000001.JPEG LOC_synset_mapping.txt ILSVRC/train.mp4"
).format("ILSVRC/Data/CLS-LOC/")
SOLUTION = [
    "ImageId,PredictionString",
    "ILSVRC2012_val_00000001,n01751748 111 108 230 170 n01751748 1 2 3 4 ",
]
UCF = (
    "UCF-101/Archery/a.mp4 UCF-101/Archery/a.mkv UCF-101/Biking/sub/b.webm UCF-101/Biking/b.jpg "
    "UCF-101/c.avi UCF101.rar d.wmv"
)
UCF_LISTS = {
    "ucfTrainTestlist/classInd.txt": ["1 Archery", "2 Biking"],
    "ucfTrainTestlist/trainlist01.txt": ["Archery/a.avi 1", "Biking/gone.avi 2"],
    "ucfTrainTestlist/testlist01.txt": ["Biking/b.avi"],
}
HMDB = {"testTrainMulti_7030_splits/catch_test_split1.txt": ["a.avi 1 ", "b.avi 2 "]}
LAYOUTS: dict[str, tuple[str, str, int, dict[str, list[str]], dict[str, object]]] = {
    "classes": ("folder", "a/1.mp4 a/2.txt a/x/3.mp4 b/4.avi 5.mp4 b/6.ts 7.zip 8", 3, {}, {}),
    "pictures": ("folder", "a/1.jpg a/2.png b/3.jpeg b/4.mp4 a/5.gif 6.webp b/7.mts", 3, {}, {}),
    "splits": ("folder", "train/a/1.mp4 val/a/2.mp4 val/3.mp4 test/4.mp4 5.jpg", 2, {}, {}),
    "one split": (
        "folder",
        "train/a/1.mp4 val/a/2.mp4 val/3.mp4 5.jpg",
        1,
        {},
        {"splits": ("train",)},
    ),
    "unlabelled": ("folder", "a/1.mp4 2.mov a/3.jpg a/4.flv 5.csv", 2, {}, {"unlabelled": True}),
    "csv": (
        "folder",
        "a/1.mp4 a/2.mp4 a/3.jpg 4.txt",
        1,
        {"x.csv": ["path,label", "a/1.mp4,q", "b,r"]},
        {"csv": "x.csv"},
    ),
    "list": (
        "folder",
        "a/1.mp4 a/2.mp4 a/3.jpg 4.txt",
        1,
        {"x.csv": ["a/1.mp4 7", "b 8"]},
        {"lists": ("x.csv",)},
    ),
    "torchvision": ("kinetics400", TORCHVISION, 3, {"annotations/train.csv": K400}, {}),
    "kaggle": ("imagenet", KAGGLE, 3, {"LOC_val_solution.csv": SOLUTION}, {}),
    "tiny": (
        "imagenet",
        "train/n01440764/images/1.JPEG val/images/0.JPEG test/images/0.JPEG words.txt a.png",
        3,
        {"val/val_annotations.txt": ["0.JPEG\tn01440764\t0\t0\t1\t1"]},
        {},
    ),
    "ucf101": ("ucf101", UCF, 2, UCF_LISTS, {}),
    "hmdb51": (
        "hmdb51",
        "catch/a.mp4 catch/b.avi catch/b.mp4 catch/c.avi d.avi e.png",
        2,
        HMDB,
        {},
    ),
    "demo": ("demo", "train/a/1.mp4 test/a/2.mp4 3.mp4 other/a/4.mp4 test/5.txt", 2, {}, {}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_file_is_a_sample_or_named_with_its_reason(layout: str, tmp_path: Path) -> None:
    name, paths, samples, lists, options = LAYOUTS[layout]
    put(tmp_path, *paths.split())
    for path, lines in lists.items():
        put_text(tmp_path, path, lines)
    (tmp_path / "lost.mp4").symlink_to("nowhere")
    (tmp_path / "up").symlink_to("..")
    given = {key: tmp_path / "x.csv" if key == "csv" else value for key, value in options.items()}
    given |= {"lists": (str(tmp_path / "x.csv"),)} if "lists" in options else {}
    found = scan(name, tmp_path, **given)
    named = dict(found.rejects)
    assert (named.pop("lost.mp4"), named.pop("up")) == (
        "link to nowhere",
        "link to a folder above it",
    )
    assert len(found.records) == samples
    taken = {record.source.relative_to(tmp_path).as_posix() for record in found.records}
    not_asked = {path for path in paths.split() if layout == "one split" and "val/" in path}
    named |= {f"ILSVRC/Data/CLS-LOC/{path}": why for path, why in named.items()}
    assert {path for path in paths.split() if path in taken or path in named} | not_asked == {
        *paths.split()
    }
    assert not taken & named.keys()
    assert not lists.keys() & named.keys()
    assert all(note.count("\n") == 0 for note in found.notes)


FOLDERS = st.sampled_from(["a", "b c", "é", "UCF-101", "n01440764", "ILSVRC/Data/CLS-LOC"])
FOLDERS |= st.sampled_from(["train", "Val", "test", "images", "annotations", "replacement", "k400"])
NAMES = st.sampled_from(["1.mp4", "v.AVI", "v.mkv", "id_000000_000010.mp4", "n.txt", "none"])
NAMES |= st.sampled_from(["x.jpg", "ILSVRC2012_val_00000001.JPEG", "q.ts", "z.gif", "w.zip"])
PATHS = st.tuples(st.lists(FOLDERS, max_size=4), NAMES).map(lambda at: "/".join([*at[0], at[1]]))


@pytest.mark.parametrize("name", ["folder", "kinetics400", "imagenet", "demo"])
@given(paths=st.sets(PATHS, min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_no_file_is_dropped_without_a_word(name: str, paths: set[str]) -> None:
    refused, found = "", None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        put(root, *paths)
        try:
            found = scan(name, root)
        except UsageError as error:
            refused = str(error)
    if found is None:
        assert refused.startswith(folder)
        assert "\n" not in refused
        return
    taken = {record.source.relative_to(root).as_posix() for record in found.records}
    named = [path for path, _ in found.rejects]
    assert len(taken) + len(named) == len(paths)
    for path in paths - taken:
        assert any(path.endswith(tail) for tail in named), path


def test_options_that_do_not_apply(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ucf101 takes no --split"):
        scan("ucf101", tmp_path, splits=("train",))
    with pytest.raises(UsageError, match="imagenet takes no --classes"):
        scan("imagenet", tmp_path, classes=tmp_path)
    with pytest.raises(UsageError, match="imagenet takes no --unlabelled"):
        scan("imagenet", tmp_path, unlabelled=True)

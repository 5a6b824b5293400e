"""HMDB51 as it is distributed."""

from __future__ import annotations

from pathlib import Path

from tests.unit.shard.layouts import left_out, put, put_text, scan


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
    assert left_out(found, "missing") == ("brush_hair/a.avi", "catch/gone.avi")
    assert left_out(found, "elsewhere") == ("catch/stray.avi",)
    assert left_out(found, "conflicting") == ()

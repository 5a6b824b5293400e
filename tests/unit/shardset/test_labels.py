"""The class of a sample, wherever it is written: the same for the converter and for streaming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import webdataset

from sce_video.errors import UsageError
from sce_video.shard.sources import Options, find_source
from sce_video.shardset.labels import (
    LabelError,
    class_name,
    class_number,
    match_classes,
    number_classes,
    stated_classes,
)
from sce_video.shardset.tar_members import LABEL_BYTES
from sce_video.stream.foreign.clips import VIDEOS, tar_samples


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", "7"), (" yoga\n", "yoga"), ("-1", None), ("", None), ("  ", None), ("0", "0")],
)
def test_a_text(text: str, expected: str | None) -> None:
    assert class_name(text) == expected
    assert list(stated_classes({"cls": text.encode()})) == ([] if expected is None else [expected])
    assert list(stated_classes({"json": json.dumps({"label": text}).encode()})) == (
        [] if expected is None else [expected]
    )


@pytest.mark.parametrize(
    ("fields", "expected", "number"),
    [
        ({"class": 0}, ["0"], 0),
        ({"label": 0}, ["0"], 0),
        ({"label": 3.0}, ["3"], 3),
        ({"class": "yoga", "label": 4}, ["yoga", "4"], 4),
        ({"class": "yoga"}, ["yoga"], -1),
        ({"class": "", "label": 2}, ["2"], 2),
        ({"class": None, "label": -1}, [], -1),
        ({"class": -1, "label": 5}, ["5"], 5),
        ({"label": -1.0}, [], -1),
        ({"label": 2**63 - 1}, ["9223372036854775807"], -1),
        ({"label": 2, "hash": 2**64 - 1, "score": float("nan")}, ["2"], 2),
        ({"class": "yo\n\tga\x1b"}, ["yo\\n\\tga\\x1b"], -1),
        ({"caption": "x"}, [], -1),
        ([], [], -1),
    ],
    ids=json.dumps,
)
def test_a_json(fields: object, expected: list[str], number: int) -> None:
    found = list(stated_classes({"json": json.dumps(fields).encode(), "mp4": b"x"}))
    assert found == expected
    assert class_number(found) == number


def test_cls_counts_before_json() -> None:
    assert list(stated_classes({"cls": b"-1", "json": b'{"label": 3}'})) == []
    assert list(stated_classes({"cls": b"2", "json": b"{"})) == ["2"]
    assert list(stated_classes({})) == []


REFUSED = [([1, 2], "[1, 2]"), ({"a": 1}, '{"a": 1}'), (True, "true"), (False, "false")]
REFUSED += [(10**30, "1e+30"), (1e300, "1e+300"), (-1e16, "-1e+16")]
REFUSED += [(1.5, "1.5"), (float("nan"), "NaN"), (float("inf"), "Infinity")]


@pytest.mark.parametrize(("value", "shown"), REFUSED, ids=[shown for _, shown in REFUSED])
@pytest.mark.parametrize("key", ["class", "label"])
def test_what_is_no_label_is_refused_by_name(key: str, value: Any, shown: str) -> None:
    with pytest.raises(LabelError) as caught:
        next(stated_classes({"json": json.dumps({key: value}).encode()}))
    assert str(caught.value) == f"'{key}' in its json is {shown}, neither a whole number nor a name"


def test_what_cannot_be_read_is_refused() -> None:
    for sample in ({"json": b"{"}, {"cls": b"\xff"}, {"json": b"[" * 100_000}):
        with pytest.raises(LabelError):
            next(stated_classes(sample))
    with pytest.raises(LabelError) as caught:
        next(stated_classes({"json": json.dumps({"class": ["x"] * 999}).encode()}))
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("label", [[1, 2], True, 3.5, {"a": 1}], ids=json.dumps)
def test_a_label_behind_a_class_is_not_judged(label: object) -> None:
    named = {"json": json.dumps({"class": "dog", "label": label}).encode()}
    assert next(stated_classes(named)) == "dog"
    numbered = {"json": json.dumps({"class": 7, "label": label}).encode()}
    assert class_number(stated_classes(numbered)) == 7


def test_numbers_are_sorted_as_numbers() -> None:
    assert number_classes(["9" * 5000, "3"]) == {"3": 0, "9" * 5000: 1}  # too long for a number
    assert number_classes(["10", "\u0663"]) == {"10": 0, "\u0663": 1}  # a digit, but not ours
    assert number_classes(["10", "2", "0", "2"]) == {"0": 0, "2": 1, "10": 2}
    assert number_classes(["10", "-5", "2"]) == {"-5": 0, "2": 1, "10": 2}
    assert number_classes(["07", "7", "10"]) == {"07": 0, "7": 1, "10": 2}
    assert number_classes(["10", "2", "yoga"]) == {"10": 0, "2": 1, "yoga": 2}
    assert number_classes([]) == {}


def test_sharding_and_streaming_agree(tmp_path: Path) -> None:
    stated: dict[str, dict[str, Any]] = {
        "a": {"cls": b"2"},
        "b": {"json": {"label": 10}},
        "c": {"json": {"class": 0}},
        "d": {"cls": b"-1"},
        "e": {"json": {"label": -1, "class": ""}},
        "f": {"json": {"caption": "x"}},
        "g": {"cls": b"2", "json": {"boxes": "0" * LABEL_BYTES}},  # too large, and not asked
    }
    path = tmp_path / "t.tar"
    with webdataset.TarWriter(str(path)) as tar:
        for key, members in stated.items():
            tar.write({"__key__": key, "mp4": key.encode(), **members})
    scan = find_source("webdataset").scan("webdataset", tmp_path, Options())
    sharded = [scan.classes[r.label] if r.label >= 0 else None for r in scan.records]
    with path.open("rb") as stream:
        streamed = [sample.label for sample in tar_samples(stream, "t", VIDEOS)]
    assert sharded == ["2", "10", "0", None, None, None, "2"]
    assert streamed == [2, 10, 0, -1, -1, -1, 2]
    assert scan.classes == ("0", "2", "10")


def test_a_refused_label_names_the_file_and_streams_as_none(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with webdataset.TarWriter(str(path)) as tar:
        tar.write({"__key__": "a", "mp4": b"x", "json": {"label": [3]}})
        tar.write({"__key__": "b", "mp4": b"y", "cls": b"yoga"})
    what = (
        "its label is not readable ('label' in its json is [3], neither a whole number nor a name)"
    )
    with pytest.raises(UsageError) as caught:
        find_source("webdataset").scan("webdataset", tmp_path, Options())
    assert str(caught.value) == f"{path}: t.tar/a: {what}"
    with path.open("rb") as stream:
        bad, good = tar_samples(stream, "t", VIDEOS)
    assert (bad.name, bad.data, bad.label, bad.problem) == ("t/a", b"x", -1, "")
    assert bad.unlabelled == what
    assert (good.data, good.label, good.problem) == (b"y", -1, "")


def test_classes_are_matched_by_name() -> None:
    known = ["archery", "bowling", "diving"]
    assert match_classes("set", known, known, "run", range(3)) == [0, 1, 2]
    assert match_classes("set", ["diving", "archery"], known, "run", [0, 1, 1]) == [2, 0]
    assert match_classes("set", ["diving", "yoga"], known, "run", [0, -1]) == [2, -1]
    assert match_classes("set", [], known, "run", [-1]) == []
    with pytest.raises(UsageError) as caught:
        match_classes("set", ["diving", "yoga", "Bowling"], known, "run", [2, 1, 0, 1])
    assert str(caught.value) == ("set: 2 of its classes are not among the 3 of run: yoga, Bowling")
    with pytest.raises(UsageError, match=r"10 of its classes .*: 0, 1, 2, 3, 4, \.\.\.$"):
        match_classes("set", [str(n) for n in range(10)], known, "run", range(10))


def test_numbers_of_thousands_of_digits_are_no_labels() -> None:
    for text in ("9" * 5_000, "-" + "9" * 5_000, "9" * 5_000 + ".5"):
        with pytest.raises(LabelError, match=r"'label' in its json is -?Infinity, neither a whole"):
            next(stated_classes({"json": f'{{"label": {text}}}'.encode()}))
    assert class_number(stated_classes({"cls": b"9" * 5_000})) == -1


def test_half_a_character_is_no_name() -> None:
    """Json can write it, and no file can hold it."""
    with pytest.raises(LabelError, match=r"no UTF-8 text"):
        list(stated_classes({"json": rb'{"class": "a\ud800"}'}))
    whole = rb'{"class": "\ud83d\ude00"}'
    assert list(stated_classes({"json": whole})) == ["\N{GRINNING FACE}"]

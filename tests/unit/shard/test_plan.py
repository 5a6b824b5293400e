"""The plan is a pure function: keys, order, shards, digest."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sce_video.errors import UsageError
from sce_video.shard.plan import Settings, changes, make_keys, make_plan
from sce_video.shard.sources import Record, Scan
from sce_video.shardset.reasons import ELSEWHERE, OF_LISTS
from sce_video.video.limits import Limits

SETTINGS = Settings("set", samples_per_shard=100)


def some_scan(count: int = 1000, classes: int = 10) -> Scan:
    """``count`` videos listed class by class."""
    each = count // classes
    return Scan(
        media="video",
        records=tuple(
            Record(f"c{n // each}/v{n:04d}.mp4", Path("x"), n, n // each, {"split": "train"})
            for n in range(count)
        ),
        classes=tuple(f"c{label}" for label in range(classes)),
        columns=("split",),
        rejects=(("gone.mp4", "missing"),),
    )


@given(st.lists(st.text(min_size=1, max_size=120), min_size=1, max_size=20, unique=True))
def test_keys_are_unique_and_plain(names: list[str]) -> None:
    keys = make_keys([f"{name}.mp4" for name in names])
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert re.fullmatch(r"[A-Za-z0-9_-]+", key)
        assert len(f"{key}.webm") <= 100


def test_keys_are_hashed_only_where_needed() -> None:
    paths = ["a/Goal_#_2.avi", "b/x.avi", "c/x.avi", "d/v1.2_x.mp4", "e/-abc_000.mp4", "f/x.mp4"]
    keys = make_keys(paths)
    assert keys[0] == "Goal___2"
    assert keys[3:5] == ["v1_2_x", "-abc_000"]
    hashed = [keys[1], keys[2], keys[5]]
    assert len(set(hashed)) == 3
    assert all(len(key) == 10 and key.startswith("x-") for key in hashed)


def test_a_key_that_looks_like_a_hashed_one() -> None:
    first = make_keys(["a/x.mp4", "b/x.mp4"])[0]
    keys = make_keys(["a/x.mp4", "b/x.mp4", f"c/{first}.mp4"])
    assert len(set(keys)) == 3


def test_shards_mix_classes_and_ignore_the_listing_order() -> None:
    found = some_scan()
    plan = make_plan(found, SETTINGS)
    assert [len(shard) for shard in plan.shards] == [100] * 10
    assert list(plan.named_shards)[3] == "set-000003.tar"
    for shard in plan.shards:
        counts = Counter(record.label for record in shard)
        assert len(counts) == 10
        assert max(counts.values()) < 25
    shuffled = make_plan(replace(found, records=found.records[::-1]), SETTINGS)
    assert shuffled.shards == plan.shards
    assert shuffled.digest == plan.digest


def test_the_order_of_two_samples_does_not_depend_on_others() -> None:
    found = some_scan()
    fewer = make_plan(replace(found, records=found.records[::3]), SETTINGS)
    order = [record.path for record in make_plan(found, SETTINGS).records]
    kept = [record.path for record in fewer.records]
    assert [path for path in order if path in set(kept)] == kept


def test_limit_takes_a_mixture() -> None:
    plan = make_plan(some_scan(), replace(SETTINGS, limit=50))
    assert plan.samples == 50
    assert len({record.label for record in plan.shards[0]}) >= 8


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("file sizes", {"size": 7777}),
        ("labels", {"label": 3}),
        ("splits", {"splits": {"split": "val"}}),
        ("file names", {"path": "c0/other.mp4"}),
    ],
)
def test_digest_sees_a_changed_record(what: str, change: dict[str, object]) -> None:
    found = some_scan(100)
    old = make_plan(found, SETTINGS)
    records = (replace(found.records[0], **change), *found.records[1:])  # type: ignore[arg-type]
    new = make_plan(replace(found, records=records), SETTINGS)
    assert new.digest != old.digest
    assert what in changes(old.parts, new.parts)


def test_changes_shows_settings_in_clear() -> None:
    old = make_plan(some_scan(100), SETTINGS)
    new = make_plan(some_scan(100), replace(SETTINGS, limits=Limits(min_frames=5), limit=100))
    assert changes(old.parts, new.parts) == "--limit (None -> 100), limit on min_frames (2 -> 5)"
    assert changes(old.parts, old.parts) == ""


def test_sources_do_not_enter_the_digest() -> None:
    found = some_scan(10)
    moved = tuple(replace(record, source=Path("/elsewhere")) for record in found.records)
    assert (
        make_plan(found, SETTINGS).digest
        == make_plan(replace(found, records=moved), SETTINGS).digest
    )


@pytest.mark.parametrize("name", ["b\nc", "b\tc", "\x1b[2J", "b\u2028c", "b" * 1001, ""])
def test_names_are_those_of_a_manifest(name: str) -> None:
    with pytest.raises(UsageError, match=r"class '.*': a name must be one line of at most 1,000 c"):
        make_plan(Scan("video", (), classes=("a", name)), SETTINGS)
    with pytest.raises(UsageError, match=r"split '.*': a name must be one line"):
        make_plan(Scan("video", (), columns=(name,)), SETTINGS)
    if name:  # else it is none
        record = Record("a.mp4", Path("x"), 1, splits={"split": name})
        with pytest.raises(UsageError, match=r"split '.*': a name must be one line"):
            make_plan(Scan("video", (record,), columns=("split",)), SETTINGS)


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


def test_what_lies_beside_a_data_set_changes_no_plan() -> None:
    found = some_scan(10)
    beside = [("x.mp4", ELSEWHERE), ("y.txt", "not a video"), ("shards", "shard set")]
    more = replace(found, rejects=(*found.rejects, *beside))
    assert make_plan(more, SETTINGS).digest == make_plan(found, SETTINGS).digest
    assert make_plan(more, SETTINGS).rejects == tuple(sorted(more.rejects))
    for reason in OF_LISTS:
        listed = replace(found, rejects=(*found.rejects, ("c0/z.mp4", reason)))
        changed = changes(make_plan(found, SETTINGS).parts, make_plan(listed, SETTINGS).parts)
        assert changed == "files left out"

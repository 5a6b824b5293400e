"""Which tars a run reads, who reads which, and what it may not ask for."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sce_video.config.load import load_config
from sce_video.errors import UsageError
from sce_video.stream.data import open_data
from sce_video.stream.foreign.plan import ForeignPlan, expand, is_foreign
from sce_video.stream.remote.cache import Cache
from tests.unit.stream.foreign.tars import plan, write_tar


@given(st.integers(1, 9), st.integers(1, 20), st.integers(0, 3))
def test_readers_together_visit_everything_once_a_pass(tars: int, readers: int, pas: int) -> None:
    found = plan([f"{i}.tar" for i in range(tars)])
    each = [found.visits(8, pas, reader, readers) for reader in range(readers)]
    assert all(each)
    seen = Counter(
        (tar, n) for visits in each for tar, part, parts in visits for n in range(part, 40, parts)
    )
    assert seen == Counter({(f"{i}.tar", n): 1 for i in range(tars) for n in range(40)})
    assert each == [found.visits(8, pas, reader, readers) for reader in range(readers)]


def test_passes_and_starts_differ() -> None:
    found = plan([f"{i}.tar" for i in range(30)])
    orders = {tuple(tar for tar, _, _ in found.visits(s, p, 0, 2)) for s in (0, 8) for p in (0, 1)}
    assert len(orders) == 4


def test_ranges_lists_and_globs(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / f"t-{i:06}.tar").touch()
    everything = [str(tmp_path / f"t-{i:06}.tar") for i in range(12)]
    assert expand(str(tmp_path / "t-{000000..000011}.tar")) == everything
    assert expand(str(tmp_path / "t-*.tar")) == everything
    assert (
        expand([everything[3], str(tmp_path / "t-00001?.tar")]) == everything[3:4] + everything[10:]
    )
    assert expand("http://h/{a..c}-{0..1}.tar?sig=1") == [
        f"http://h/{x}-{n}.tar?sig=1" for x in "abc" for n in range(2)
    ]
    assert expand("s3://b/t{8..10}.tar") == ["s3://b/t8.tar", "s3://b/t9.tar", "s3://b/t10.tar"]
    for ending in (
        "tar.gz",
        "tgz",
        "tar.zst",
        "tar.bz2",
        "tbz2",
        "tar.xz",
        "txz",
        "tar.lz4",
        "zip",
    ):
        assert is_foreign(f"x/y.{ending}"), ending
        assert is_foreign(f"https://h/y.{ending}?sig=1"), ending
    for shards in (
        "x/*.tar",
        "x.tar",
        "X.TAR",
        "x-{0..1}",
        ["x"],
        "http://h/x.tar?y",
        "s3://b/{a,b}",
    ):
        assert is_foreign(shards), shards
    for shards in (
        str(tmp_path),
        "shards/ucf101",
        "shards/my.tarts",
        "a.tar/b",
        "http://h/set",
        "s3://b/set",
        "http://h/set?a*",
    ):
        assert not is_foreign(shards), shards


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.shards=TMP/*.tar"], "data.epoch_samples is missing"),
        (["data.shards=TMP/*.tar", "data.epoch_samples=99", "data.split=a"], "have no splits"),
        (["data.shards=TMP/*.tar", "data.epoch_samples=3"], "no full batch of 32"),
        (["data.shards=TMP/*.zip", "data.epoch_samples=99"], "no such file"),
        (["data.shards=TMP/none.tar.gz", "data.epoch_samples=99"], "none.tar.gz: no such file"),
        (
            ["data.shards=TMP/*.parquet", "data.epoch_samples=99"],
            "a Parquet file, no tar",
        ),
        (["data.shards=TMP/*", "data.epoch_samples=99"], "no tar; give tars alone, such as"),
        (["data.shards=[]", "data.epoch_samples=99"], "an empty list"),
        (["data.shards=['']", "data.epoch_samples=99"], "an empty name in the list"),
        (["data.shards=[TMP]", "data.epoch_samples=99"], "a folder; for its tars"),
        (["data.shards='pipe:cat x'", "data.epoch_samples=99"], "pipes run a shell"),
        (["data.shards=['pipe:cat x']", "data.epoch_samples=99"], "pipes run a shell"),
        (["data.shards=[file:///x.tar]", "data.epoch_samples=99"], "not a local path and none of"),
        (["data.shards=http://h/*.tar", "data.epoch_samples=99"], "no globs in URLs"),
        (["data.shards='x-{0..1'", "data.epoch_samples=99"], "a brace is not closed"),
        (["data.shards='x-{0..2000000}'", "data.epoch_samples=99"], "more than 250,000 tars"),
        (["data.shards=TMP", "data.epoch_samples=99"], "but a tar without an index"),
    ],
    ids=[
        "no epoch_samples",
        "split",
        "no full batch",
        "no such file",
        "no such zipped tar",
        "parquet",
        "all files",
        "empty list",
        "empty name",
        "folder",
        "pipe",
        "pipe in a list",
        "file URL",
        "glob in a URL",
        "open brace",
        "long range",
        "a folder of tars",
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, settings: list[str], message: str) -> None:
    write_tar(tmp_path / "a.tar", [])
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    (tmp_path / "a.json").write_text("{}")
    given = ["data.split=null", *(text.replace("TMP", str(tmp_path)) for text in settings)]
    with pytest.raises(UsageError, match=message) as caught:
        open_data(load_config("demo.yaml", given), 0, 1)
    assert "\n" not in str(caught.value)


def test_labels_want_an_index(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [])
    given = [f"data.shards={tmp_path}/*.tar", "data.epoch_samples=999", "data.split=null"]
    with pytest.raises(UsageError, match="task=linear: needs shards with an index"):
        open_data(load_config("linear/k400_r3d_18.yaml", given), 0, 1)


def test_the_plan_of_a_run(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [])
    settings = ["data.split=null", f"data.shards={tmp_path}/*.tar", "data.epoch_samples=99"]
    settings += [f"data.cache={tmp_path}/c", "data.cache_gib=2", "train.accumulate=2"]
    index, found = open_data(load_config("demo.yaml", settings), 1, 2)
    assert index is None
    assert isinstance(found, ForeignPlan)
    assert (found.steps_per_epoch, found.micro_batch, found.rank) == (3, 8, 1)
    assert found.cache == Cache(tmp_path / "c", 2**31)
    assert found.micro_batches_left(64) == 2 * (13 * 3 - 2)
    other = open_data(load_config("demo.yaml", [*settings, "data.epoch_samples=98"]), 1, 2)[1]
    assert other.digest != found.digest


def test_a_tar_whose_name_is_not_utf_8_is_as_good(tmp_path: Path) -> None:
    write_tar(tmp_path / "a\udcff.tar", [])
    settings = ["data.split=null", f"data.shards={tmp_path}/*.tar", "data.epoch_samples=99"]
    found = open_data(load_config("demo.yaml", settings), 0, 1)[1]
    assert isinstance(found, ForeignPlan)
    assert found.shards == (f"{tmp_path}/a\udcff.tar",)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "a gzip file": gzip.compress,
    "a bzip2 file": bz2.compress,
    "an xz file": lzma.compress,
    "a Zstandard file": lambda data: b"\x28\xb5\x2f\xfd" + data,
    "an LZ4 file": lambda data: b"\x04\x22\x4d\x18" + data,
    "a zip file": lambda data: b"PK\3\4" + data,
}


@pytest.mark.parametrize("name", ["t.tar", "t.tar.gz", "t.tgz", "t.tar.zst", "t.zip", "t"])
@pytest.mark.parametrize("kind", PACKED)
def test_packed_tars_are_refused_by_their_bytes(tmp_path: Path, kind: str, name: str) -> None:
    """Whatever they are called, before anything starts."""
    tar = Path(write_tar(tmp_path / "plain" / "t.tar", [("a.mp4", b"x" * 999)]))
    path = tmp_path / name
    path.write_bytes(PACKED[kind](tar.read_bytes()))
    for shards in (str(path), [str(tar), str(path)], str(tmp_path / f"{name}*")):
        if isinstance(shards, str) and not is_foreign(shards):
            continue  # a name without any sign of a tar
        with pytest.raises(UsageError) as caught:
            expand(shards)
        assert str(caught.value) == (
            f"{path}: {kind}: several readers cannot share what is packed; unpack it first"
        )


def test_a_plain_tar_may_be_called_anything(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "wide.tar.gz", [("vid_wide.mp4", b"x")])
    assert expand(tar) == [tar]
    assert expand(str(tmp_path / "w*")) == [tar]
    other = write_tar(tmp_path / "shards", [("BM.jpg", b"x")])
    assert expand([other, tar]) == [other, tar]


def test_packed_tars_elsewhere_are_refused_by_their_names() -> None:
    for ending in ("tar.gz", "TGZ", "tar.zst", "zip"):
        with pytest.raises(
            UsageError, match=rf"^http://h/x.{ending}: several readers cannot share"
        ):
            expand([f"http://h/x.{ending}?token=secret"])


def test_what_is_no_tar_is_named(tmp_path: Path) -> None:
    for name, data, message in (
        ("a.tar", b"<html>404</html>", "an HTML page, no tar"),
        ("b.tar", b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer, no tar"),
        ("c.mp4", b"\0\0\0\x18ftypisom", "an MP4 or MOV video, no tar"),
        ("d", b"", "no tar"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=f"{name}: {message}; g(et it again|ive tars alone)"):
            expand([str(tmp_path / name)])
    damaged = tmp_path / "e.tar"  # told when it is read, as any other damage
    damaged.write_bytes(b"\xff" * 2048)
    assert expand(str(damaged)) == [str(damaged)]

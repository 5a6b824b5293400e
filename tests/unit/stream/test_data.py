"""What a run reads and looks at: refusals before anything is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sce_video.config.load import load_config
from sce_video.errors import UsageError
from sce_video.shardset.index import ShardIndex
from sce_video.stream.data import HeldOut, open_data, open_held_out
from sce_video.stream.reader import RemoteIndex
from tests.servers import Server
from tests.unit.evals.small_set import CLASSES, make_other_set, make_set


def test_a_run_with_labels_wants_them_all(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["data.split=null", "train.batch_size=2", "clip.seconds=0.6"]
    config = load_config("linear/k400_r3d_18.yaml", [f"data.shards={index.folder}", *settings])
    found, plan = open_data(config, 0, 1)
    assert (plan.samples, plan.classes) == (6, 2)
    assert found is not None
    column = found.table.schema.get_field_index("label")
    labels = pa.array([0, 1, -1, 0, -1, 1], pa.int32())
    table = found.table.set_column(column, found.table.schema.field(column), labels)
    other = replace(found, table=table)
    monkeypatch.setattr("sce_video.stream.data.open_set", lambda *_: other)
    key = other.strings("key")[2]
    with pytest.raises(UsageError, match=f"2 of 6 samples have no label, such as {key}; give a"):
        open_data(config, 0, 1)
    unlabelled = [f"data.shards={index.folder}", "data.split=null", "train.batch_size=2"]
    assert open_data(load_config("demo.yaml", unlabelled), 0, 1)[1].samples == 6


def test_a_training_refuses_a_cache_below_a_window(server: Server, tmp_path: Path) -> None:
    settings = [f"data.shards={server.url}/set", "data.split=null", "train.batch_size=2"]
    settings += [f"data.cache={tmp_path / 'cache'}"]
    index, found = open_data(load_config("demo.yaml", settings), 0, 1)
    assert isinstance(index, RemoteIndex)
    assert (found.samples, found.digest) == (6, index.digest)
    with pytest.raises(
        UsageError, match=r"data.cache_gib: 9.54e-07 GiB hold less than the 16 shards"
    ):
        open_data(load_config("demo.yaml", [*settings, "data.cache_gib=0.00000095367432"]), 0, 1)
    with pytest.raises(
        UsageError, match=r"^http.*/set: no split 'train'; it has .*; data.split=null takes all$"
    ):
        open_data(load_config("demo.yaml", [*settings, "data.split=train"]), 0, 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_set(folder, each=3)
    return folder


PRETRAIN = ("demo.yaml", "objective.queue=64", "train.batch_size=3")
LABELS = ("linear/own.yaml", "clip={frames: 2, seconds: 0.6, size: 16}", "train.batch_size=3")


def held_out(
    root: Path,
    other: Path,
    *keys: str,
    classes: tuple[str, ...] = CLASSES,
    config: tuple[str, ...] = PRETRAIN,
) -> HeldOut:
    given = [f"data.shards={root / 'shards'}", "data.split=train", *config[1:]]
    read = load_config(config[0], [*given, "eval.every=1", f"eval.shards={other}", *keys])
    index, plan = open_data(read, 0, 1)
    assert index is not None
    trained = replace(index, manifest=index.manifest.model_copy(update={"classes": classes}))
    found = open_held_out(read, plan, trained)
    assert found is not None
    return found


@pytest.mark.parametrize("config", [PRETRAIN, LABELS], ids=["pretrain", "linear"])
def test_held_out_labels_are_those_that_the_run_learns(config: tuple[str, ...], root: Path) -> None:
    """Numbers are matched by the names of the classes."""
    other = root / "Bowling-Diving"
    other = other if other.exists() else make_other_set(root, ("Bowling", "Diving"))
    found = held_out(root, other, "eval.split=test", config=config)
    names = found.index.strings("class")
    assert set(found.index.numbers("label").tolist()) == {0, 1}
    assert [CLASSES[label] for label in found.labels] == [names[row] for row in found.rows]
    turned = held_out(root, other, "eval.split=test", classes=CLASSES[::-1], config=config)
    assert [CLASSES[2 - label] for label in turned.labels] == [names[row] for row in turned.rows]
    same = held_out(root, root / "shards", "eval.split=test", config=config)
    np.testing.assert_array_equal(same.labels, same.index.numbers("label")[same.rows])


def test_held_out_classes_that_the_run_does_not_learn(root: Path) -> None:
    other = make_other_set(root, ("Archery", "Bowling"), renamed="Yoga")
    learns = ((PRETRAIN, "the probe learns (eval.linear)"), (LABELS, "the run learns"))
    for config, who in learns:
        with pytest.raises(UsageError) as caught:
            held_out(root, other, "eval.split=test", config=config)
        assert str(caught.value) == (
            f"eval: {other}: 1 of its classes are not among the 3 of {root / 'shards'}, "
            f"which {who}: Yoga"
        )
    for keys, classes in ((("eval.linear=false",), CLASSES), ((), ())):  # neighbours alone
        found = held_out(root, other, "eval.split=test", *keys, classes=classes)
        assert len(found.labels) == 0
        assert len(found.rows) == 2


@pytest.mark.parametrize("config", [PRETRAIN, LABELS], ids=["pretrain", "linear"])
def test_held_out_samples_are_no_others(config: tuple[str, ...], root: Path) -> None:
    """Not those that are trained on, nor a list of another column or set."""
    with pytest.raises(UsageError, match="eval: train shares 6 samples with what is trained on"):
        held_out(root, root / "shards", "eval.split=train", config=config)
    with pytest.raises(UsageError, match="eval: the whole set shares 6 samples"):
        held_out(root, root / "shards", config=config)
    with pytest.raises(UsageError, match="tset"):
        held_out(root, root / "shards", "eval.split=tset", config=config)
    with pytest.raises(UsageError, match="no finished shard set"):
        held_out(root, root / "none", config=config)

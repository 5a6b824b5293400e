"""Lists of samples by the values of columns."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sce_video.errors import UsageError
from sce_video.shardset.splits import split_counts, split_rows

COLUMNS = ("split", "split1")
TABLE = pa.table({"split": ["val", "train", "", "train"], "split1": ["", "", "test", ""]})


def test_counts_leave_out_what_is_in_no_list() -> None:
    counts = split_counts(TABLE, COLUMNS)
    assert counts == {"split": {"train": 2, "val": 1}, "split1": {"test": 1}}
    assert list(counts["split"]) == ["train", "val"]  # sorted, as the manifest has them


def test_rows_ascend() -> None:
    assert split_rows(TABLE, COLUMNS, None, "toy").tolist() == [0, 1, 2, 3]
    assert split_rows(TABLE, COLUMNS, "train", "toy").tolist() == [1, 3]
    assert split_rows(TABLE, COLUMNS, "split1:test", "toy").tolist() == [2]


@pytest.mark.parametrize("split", ["test", "split2:train", "split1:train"])
def test_an_unknown_list_is_named_with_those_that_are_there(split: str) -> None:
    has = "it has split:train, split:val, split1:test"
    with pytest.raises(UsageError, match=f"^toy: no split '{split}'; {has}$"):
        split_rows(TABLE, COLUMNS, split, "toy")
    with pytest.raises(UsageError, match=f"{has}; data.split=null takes all$"):
        split_rows(TABLE, COLUMNS, split, "toy", "data.split=null takes all")


def test_a_set_without_lists_says_so() -> None:
    with pytest.raises(UsageError, match="it has none"):
        split_rows(TABLE, (), "train", "toy")

"""Rows that no converter writes: which row, column and value, before anything is read by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sce_video.errors import VerificationError
from sce_video.video.limits import DEFAULT_LIMITS
from tests.unit.shardset.test_index import SHARD_BYTES, make


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"shard": "toy-000009.tar"}, "row 3, shard 'toy-000009.tar': its manifest names no such"),
        ({"shard": "../x.tar"}, "row 3, shard '../x.tar': its manifest names no such shard"),
        ({"shard": "toy-000000.tar"}, "3 rows of toy-000000.tar, which has 2 samples"),
        ({"key": "a.b"}, "row 3, key 'a.b': not of letters, digits, _ and -"),
        ({"key": "../a"}, "row 3, key"),
        ({"key": ""}, "row 3, key ''"),
        ({"key": "a\n"}, r"row 3, key 'a\\n'"),
        ({"key": "a" * 96}, "row 3, key 'aaa"),  # whose header tarfile could not make
        ({"key": "v_1"}, "row 3, key 'v_1': an earlier row has it, too"),
        ({"ext": "exe"}, "row 3, ext 'exe': none of webm, avi, mkv, mp4, mpg"),
        ({"ext": "jpg"}, "row 0, ext 'mp4': none of jpg, png"),  # the set is of one kind
        ({"ext": "../x"}, "row 3, ext '../x'"),
        ({"sha256": "3"}, "row 3, sha256 '3'"),
        ({"path": "x" * 70_000}, "row 3, path 'xxx"),
        ({"split": "x" * 5_000}, "row 3, split 'xxx"),
        ({"label": 2, "class": "c"}, "row 3, label '2': not from -1 to 1"),
        ({"label": -2, "class": ""}, "row 3, label '-2'"),
        ({"label": 2**31 - 1}, "row 3, label '2147483647'"),
        ({"class": "b"}, "row 3, class 'b': not that of its label"),
        ({"label": -1}, "row 3, class 'a': not that of its label"),
        ({"frames": 0}, "row 3, frames '0'"),
        ({"frames": -5}, "row 3, frames '-5'"),
        ({"frames": DEFAULT_LIMITS.frames + 1}, "row 3, frames '500001': over 500,000"),
        ({"fps": np.nan}, "row 3, fps 'nan'"),
        ({"fps": np.inf}, "row 3, fps 'inf'"),
        ({"fps": -1.0}, "row 3, fps '-1.0'"),
        ({"duration": np.nan}, "row 3, duration 'nan'"),
        ({"duration": -1.0}, "row 3, duration '-1.0'"),
        ({"width": 0}, "row 3, width '0': not from 1 on"),
        ({"height": -48}, "row 3, height '-48': not from 1 on"),
        ({"width": 2**31 - 1, "height": 2**31 - 1}, "row 3, width '2147483647': more than 67,108"),
        ({"width": 1 << 14, "height": (1 << 12) + 1}, "row 3, width '16384': more than"),
        ({"media_size": 0}, "row 3, media_size '0': not from 1 to 1,073,741,824"),
        ({"media_size": -5}, "row 3, media_size '-5'"),
        ({"media_size": 1 << 40}, "row 3, media_size '1099511627776'"),
        ({"media_size": SHARD_BYTES - 511}, "row 3, media_offset '512': outside of its shard"),
        ({"media_offset": 0}, "row 3, media_offset '0': outside of its shard"),
        ({"media_offset": 2**63 - 1}, "row 3, media_offset '9223372036854775807': outside"),
        ({"json_size": (1 << 20) + 1}, "row 3, json_size"),
        ({"json_offset": -1}, "row 3, json_offset '-1': outside"),
        ({"idx_offset": -1, "idx_size": 5}, "row 3, idx_offset '-1': outside"),
        ({"idx_offset": 512, "idx_size": 0}, "row 3, idx_size '0'"),
        ({"idx_offset": SHARD_BYTES, "idx_size": 1}, "row 3, idx_offset"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_row_that_nothing_may_be_read_by(
    change: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(VerificationError) as caught:
        make(tmp_path, change)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/index.parquet: {problem}")
    assert message.endswith("; shard again")
    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize(
    "change",
    [
        {"label": -1, "class": ""},
        {"label": 1, "class": "b"},
        {"frames": 1, "fps": 0.0, "duration": 0.0},  # a rate of less than 0.0000005
        {"frames": DEFAULT_LIMITS.frames, "fps": 1e6, "duration": 0.5},
        {"width": 1 << 13, "height": 1 << 13},
        {"media_size": SHARD_BYTES - 512},
        {"idx_offset": SHARD_BYTES - 1, "idx_size": 1},
        {"key": "-" * 95, "ext": "webm"},
        {"key": "-_Z9", "ext": "webm", "path": "x/\u200f\n.mp4"},
    ],
)
def test_a_row_at_the_limits(change: dict[str, Any], tmp_path: Path) -> None:
    assert len(make(tmp_path, change)) == 5

"""Results as words and figures."""

from __future__ import annotations

import math
from typing import Any

from sce_video.report.compare import compare
from sce_video.report.tables import headline, result_table
from tests.report_run import side


def test_headline_marks_the_best() -> None:
    found = headline(
        {
            "title": "t",
            "columns": ["kNN", "R@1", "videos"],
            "rows": [
                {"name": "raw", "kNN": 0.2, "R@1": 0.125, "videos": 1200},
                {"name": "trained", "kNN": 0.1, "R@1": 0.5},
            ],
        }
    )
    raw, trained = found["rows"]
    assert [cell["text"] for cell in raw["cells"]] == ["20.0 %", "12.5 %", "1,200"]
    assert [cell["text"] for cell in trained["cells"]] == ["10.0 %", "50.0 %", "-"]
    assert [cell["best"] for cell in raw["cells"]] == [True, False, False]


SUMMARY = {
    "R@1": 0.5,
    "mAP": 0.25,
    "top1": 0.75,
    "samples": 1500,
    "bank_samples": 9,
    "missing": 2,
    "missing_samples": ["a: x", "b: y"],
    "protocol": {
        "queries": "split1:test",
        "not_in_shards": {"missing": 13203},
        "k": 20,
        "temp": 0.07,
        "votes": "exp(cosine / temp)",
    },
}


def test_protocol_is_spelled_out() -> None:
    found = result_table(SUMMARY, "retrieval", {})
    words = dict(found["protocol"])
    assert found["figures"] == [["R@1", "50.0 %"], ["mAP", "25.0 %"]]
    assert words["Queries"] == "1,500 videos of split1:test"
    assert words["Not in the shards"].startswith("13,203 missing")
    assert found["missing"].startswith("2 videos could not be read")
    assert found["missing_samples"] == ["a: x", "b: y"]


def test_listed_videos_that_are_not_in_the_shards_are_counted() -> None:
    def said(unread: int, **rejected: int) -> Any:
        summary = {"missing": unread, "protocol": {"not_in_shards": rejected}}
        return result_table(summary, "test", {})["missing"]

    assert said(0) == said(0, unlisted=4, replaced=1) == "Every video in the shards was read."
    assert said(0, missing=13203, unlisted=2, corrupt=1).endswith(
        "read; 13,204 of the lists are not in the shards."
    )
    assert said(1, missing=1).endswith("figures; 1 of the lists is not in the shards.")


def test_ranks_beyond_the_bank_are_not_shown() -> None:
    ranks = {f"R@{k}": 0.5 for k in (1, 5, 10, 20)}
    found = result_table({**ranks, "bank_samples": 10}, "retrieval", {})["figures"]
    assert [name for name, _ in found] == ["R@1", "R@5", "R@10"]


def test_heading_names_set_split_and_numbers() -> None:
    protocol = {"dataset": "ucf101", "queries": "split1:test", "bank": "split1:train"}
    summary = {"R@1": 0.0, "samples": 50, "bank_samples": 1117, "protocol": protocol}
    title = "Retrieval: ucf101, split1:test (50) in split1:train (1,117)"
    assert result_table(summary, "retrieval", {})["title"] == title
    runs = [side(0.5, **protocol), side(0.25, **protocol)]
    assert compare(["a", "b"], runs)["notes"] == [
        "Retrieval: ucf101, split1:test (4) in split1:train"
    ]
    test = {"samples": 3, "protocol": {"dataset": "hmdb51", "split": "split2:test"}}
    assert result_table(test, "test", {})["title"] == "Test: hmdb51, split2:test (3)"


def test_knn_says_how_votes_are_weighted() -> None:
    words = dict(result_table(SUMMARY, "knn", {})["protocol"])
    assert "20 nearest" in words["kNN"]
    assert "exp(cosine / temp), temp 0.07" in words["kNN"]


def test_classes_keep_numbers_to_sort_by() -> None:
    classes = {"a": {"samples": 10, "top1": 0.5}, "b": {"samples": 1, "top1": math.nan, "x": 1}}
    found = result_table(
        {"top1": 0.5, "samples": 11, "protocol": {"split": "split1:test", "scores": "mean"}},
        "test",
        classes,
    )
    assert found["protocol"][1:] == [["Queries", "11 videos of split1:test"], ["scores", "mean"]]
    assert found["figures"] == [["Top-1", "50.0 %"]]
    assert found["classes"] == {
        "columns": ["samples", "top1", "x"],
        "shares": [False, True, False],
        "rows": [["a", 10, 0.5, None], ["b", 1, None, 1]],
    }

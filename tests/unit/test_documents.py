"""JSON and YAML of others: a value, or one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sce_video.documents import DocumentError, parse_json, parse_yaml, read_json, read_yaml

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "\n".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("value", [{}, [], {"a": [1, 2.5, None, True, "ä\U0001f600"]}, -(2**63)])
def test_json_is_read_as_it_was_written(value: object) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert parse_json(text) == value == parse_json(text.encode())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{", "no JSON"),
        (b"", "no JSON"),
        (b"\xff", "no UTF-8 text"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"9" * 5_000, "64 bits"),
        (b"9223372036854775808", "64 bits"),
        (b"-9223372036854775809", "64 bits"),
        (b"1e999", "not finite"),
        (b"NaN", "not finite"),
        (b"[-Infinity]", "not finite"),
        (b'"\\ud800"', "no UTF-8 text"),
        (b'{"a\\udfff": 1}', "no UTF-8 text"),
        ('"\ud800"', "no UTF-8 text"),
    ],
)
def test_other_json_is_one_line(text: bytes | str, problem: str) -> None:
    with pytest.raises(DocumentError, match=problem) as caught:
        parse_json(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 300


def test_numbers_that_are_not_finite_are_read_where_they_may_be() -> None:
    assert parse_json('{"a": Infinity, "b": 1e999}', finite=False) == {"a": 1e999, "b": 1e999}


def test_a_json_file_has_a_size_and_a_type(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_json(path, dict) == {"a": 1}
    with pytest.raises(DocumentError, match="holds no list"):
        read_json(path, list)
    with pytest.raises(OSError, match="larger than 7 bytes"):
        read_json(path, dict, limit=7)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with pytest.raises(OSError, match="is a link"):
        read_json(link, dict)
    assert read_json(link, dict, follow=True) == {"a": 1}
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(OSError, match="not a regular file"):
        read_json(tmp_path / "pipe.json", dict)


def test_yaml_is_read_as_it_was_written(tmp_path: Path) -> None:
    text = "a: &x {b: 1}\nc: {<<: *x, d: [1.5, null, yes]}\ne: 2024-02-29\n"
    value = parse_yaml(text)
    assert value["c"] == {"b": 1, "d": [1.5, None, True]}
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_yaml(tmp_path / "a.yaml") == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOMB, "more than 20,000 values"),
        (BOMB.replace("[*", "{<<: [*").replace("*]", "*]}"), "YAML"),
        ("&a [*a]", "more than 20,000 values"),
        ("a: &a\n  b: *a", "more than 20,000 values"),
        ("[" * 100, "more than 32 levels"),
        ("{a: " * 5_000, "more than 32 levels"),
        ("- " * 5_000 + "a", "more than 32 levels"),
        ("#" * 300_000, "larger than"),
        ("2024-99-99", "not valid YAML"),
        ("2024-01-01 99:99:99", "not valid YAML"),
        ("9" * 4_000, "more than 64 bits"),
        ("0x" + "f" * 5_000, "more than 64 bits"),
        ("0b" + "1" * 20_000, "more than 64 bits"),
        ("9" + ":59" * 3_000, "more than 64 bits"),
        ("!!int ''", "not valid YAML"),
        ("!!int x", "not valid YAML"),
        ("!!float []", "not valid YAML"),
        ("!!bool maybe", "not valid YAML"),
        ("!!timestamp x", "not valid YAML"),
        ("!!binary ä", "not valid YAML"),
        ("? [a]\n: b", "unhashable key"),
        ("{a: 1, a: 2}", "given twice"),
        ("{a: 1, <<: 3}", "not valid YAML"),
        ("a: \x1b", "not valid YAML"),
        (b"\xff\xfe", "no UTF-8 text"),
        ("a: \ud800", "not valid YAML"),
        ("*nobody", "not valid YAML"),
        ("!!python/object/apply:os.system [true]", "not valid YAML"),
    ],
)
def test_other_yaml_is_one_line(text: bytes | str, problem: str) -> None:
    with pytest.raises(DocumentError, match=problem) as caught:
        parse_yaml(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 300

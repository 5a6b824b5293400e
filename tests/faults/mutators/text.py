"""JSON, YAML, CSV and lists of lines that lie."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import yaml

from tests.faults.mutators.dice import NUMBERS, PATHS, WORDS, Dice, Mutator, one_of
from tests.faults.mutators.generic import damage
from tests.faults.mutators.trees import Raw, change, dump


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def json_tree(data: bytes, d: Dice) -> bytes:
    """JSON with odd values, sometimes with a mark before or more behind it."""
    text = dump(change(json.loads(data), d))
    ends = (
        (("", ""), ("\ufeff", ""), ("", "{}"), ("", "\0"), (" " * 9, ","))
        if d.random() < 0.1
        else ()
    )
    before, behind = d.choice(ends) if ends else ("", "")
    return _encode(before + text + behind)


def json_lines(data: bytes, d: Dice) -> bytes:
    """Lines of JSON, one of them changed, doubled, cut, moved or lost."""
    lines = data.splitlines()
    at = d.randrange(len(lines))
    kind = d.randrange(8)
    if kind < 5:
        lines[at] = json_tree(lines[at], d)
    elif kind == 5:
        lines[at : at + 1] = [lines[at]] * d.choice((2, 50))
    elif kind == 6:
        lines[at] = damage(lines[at], d)
    else:
        lines.insert(0, lines.pop(at))
    return b"\n".join(lines) + d.choice((b"\n", b"\n", b""))


def _laughs(levels: int = 9, width: int = 10) -> str:
    """Aliases of aliases: a billion values in a kilobyte."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


_YAML_VALUES = tuple(
    map(
        Raw,
        (
            *("2024-99-99", "2024-02-30T25:61:61", "0x", "0o9", "1_0", "0b", "190:20:30", "1:60"),
            *(
                ".inf",
                "-.Inf",
                ".nan",
                "~",
                "=",
                "<<",
                "*a",
                "&a [*a]",
                "&b {k: *b}",
                "!!python/tuple [1]",
            ),
            *("!!python/object/apply:os.system ['true']", "!!binary x=", "!!int x", "!!float {}"),
            *(
                "!!timestamp x",
                "!!set [a]",
                "!!omap {a: b}",
                "!!pairs [a]",
                "!!map [1]",
                "!!str {}",
            ),
            *("!!null x", "!!bool x", "!foo bar", "!<tag:x> y", "? [a, b]", "{? {a: b} : c}"),
            *("{[a]: b}", "{{a: b}: c}", "{1: 2, 1: 3}", "{<<: 1}", "{<<: [1]}", "{<<: {a: b}}"),
            *(
                '"\\x1b"',
                '"\\ud800"',
                '"\\U00110000"',
                "'",
                '"',
                "|",
                ">",
                "%",
                "@",
                "`",
                "- -",
                "\t",
            ),
        ),
    )
)


def yaml_tree(data: bytes, d: Dice) -> bytes:
    """YAML with odd values and keys, some of which only YAML has."""
    tree: Any = json.loads(json.dumps(yaml.safe_load(data), default=str))
    text = dump(change(tree, d, _YAML_VALUES))
    if d.random() < 0.08:
        text = d.choice((_laughs(), _laughs(30, 2), _laughs() + "task: *a8\n"))
    if d.random() < 0.05:
        text = d.choice(("--- ", "%YAML 9.9\n--- ", "a: b\n---\n", "\ufeff")) + text
    return _encode(text)


def yaml_lines(data: bytes, d: Dice) -> bytes:
    """YAML as people write it, with a line changed."""
    lines = data.decode().splitlines()
    at = d.randrange(len(lines))
    name, _, _ = lines[at].partition(":")
    value = dump(d.choice((*WORDS, *PATHS, *map(Raw, NUMBERS), *_YAML_VALUES)))
    kind = d.randrange(6)
    if kind == 0:
        lines.insert(at, lines[at])
    elif kind == 1:
        lines[at] = d.choice(("\t", "   ", "- ", "? ")) + lines[at]
    elif kind == 2:
        lines.append(_laughs().rstrip())
    else:
        lines[at] = f"{name}: {value}"
    return _encode("\n".join(lines) + "\n")


_CELLS = (*WORDS, *PATHS, *NUMBERS, "x" * 200_000, '"', '""', '"open', "a,b", ",", ";", "\t")


def csv_cells(data: bytes, d: Dice) -> bytes:
    """A table with odd cells, lines, columns, quotes."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(d.choice((1, 1, 2))):
        at = d.randrange(len(rows))
        row, kind = rows[at], d.randrange(8)
        if kind == 0:
            row.append(d.choice(_CELLS))
        elif kind == 1 and row:
            row.pop(d.randrange(len(row)))
        elif kind == 2:
            rows.insert(d.randrange(len(rows)), list(row))
        elif kind == 3 and len(rows) > 1:
            rows.pop(at)
        elif row:
            row[d.randrange(len(row))] = d.choice(_CELLS)
    text = io.StringIO()
    if d.random() < 0.3:  # as they stand, without quotes
        text.write("".join(",".join(row) + "\n" for row in rows))
    else:
        ends = d.choice(("\n", "\n", "\r\n", "\r"))
        csv.writer(text, lineterminator=ends).writerows(rows)
    return _text_ends(_encode(text.getvalue()), d)


def plain_lines(data: bytes, d: Dice) -> bytes:
    """A list of lines with odd words in it."""
    lines = data.decode().splitlines()
    at, kind = d.randrange(len(lines)), d.randrange(7)
    words = lines[at].split(" ")
    if kind == 0:
        lines.insert(at, lines[at])
    elif kind == 1:
        lines.pop(at)
    elif kind == 2:
        lines[at] = d.choice(_CELLS)
    elif kind == 3:
        words.append(d.choice(_CELLS))
        lines[at] = " ".join(words)
    else:
        words[d.randrange(len(words))] = d.choice(_CELLS)
        lines[at] = " ".join(words)
    return _text_ends(_encode("\n".join(lines) + "\n"), d)


def _text_ends(data: bytes, d: Dice) -> bytes:
    if d.random() > 0.1:
        return data
    return d.choice(
        (
            b"\xef\xbb\xbf" + data,
            data + b"\xff\xfe",
            data.decode("utf-8", "replace").encode("utf-16", "replace"),
            data + b"\0",
        )
    )


json_text: Mutator = one_of(json_tree, json_tree, json_tree, damage)
jsonl_text: Mutator = one_of(json_lines, json_lines, json_lines, damage)
yaml_text: Mutator = one_of(yaml_tree, yaml_tree, yaml_lines, damage)
csv_text: Mutator = one_of(csv_cells, csv_cells, csv_cells, damage)
lines_text: Mutator = one_of(plain_lines, plain_lines, plain_lines, damage)

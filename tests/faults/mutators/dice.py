"""The chance of the mutators, and the odd values that they put in the place of good ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

Dice = random.Random
"""Chance that a text decides: the same on every machine."""
Mutator = Callable[[bytes, Dice], bytes]
"""(good bytes, dice) -> bad bytes."""


def dice(*words: object) -> Dice:
    """The dice of a seed, a target, a number."""
    return Dice("/".join(map(str, words)))


def one_of(*mutators: Mutator) -> Mutator:
    """One of several, by the dice."""
    return lambda data, d: d.choice(mutators)(data, d)


def other(values: Sequence[T], taken: T, d: Dice) -> T:
    """One of ``values`` that is not ``taken``."""
    return d.choice([value for value in values if value != taken] or [*values])


OUTSIDE = "outside-of-all"
"""In each path that leads out of the folder of an input: nobody may open or make such a file."""

PATHS = (
    f"../{OUTSIDE}",
    f"../../{OUTSIDE}.tar",
    f"../../../../{OUTSIDE}.mp4",
    f"/tmp/{OUTSIDE}",  # noqa: S108  (a bait)
    f"/proc/self/cwd/../../{OUTSIDE}.tar",
    f"a/../../{OUTSIDE}.json",
    f"file:///tmp/{OUTSIDE}",
    f"http://127.0.0.1:9/{OUTSIDE}",
    f"s3://bucket/{OUTSIDE}.tar",
    f"pipe:touch ../{OUTSIDE}",
    f"concat:../{OUTSIDE}.mp4|../{OUTSIDE}.mp4",
    f"~/{OUTSIDE}",
    "/etc/passwd",
    "/dev/zero",
    "/dev/stdin",
    "/",
    ".",
    "..",
    "./",
    "a/b.tar",
    "a\0b.tar",
    ".hidden.tar",
    "x" * 300 + ".tar",
)
"""Names that are no plain ones."""

WORDS = (
    "",
    " ",
    "-1",
    "0",
    "1e999",
    "nan",
    "null",
    "None",
    "a\x00b",
    "\x1b[2J\x1b]0;owned\x07",
    "two\nlines",
    "a\r\nb",
    "back\x08\x7f",
    "\x9b31m",
    "\u202egpj.exe",
    "\u2028\u2029\u0085",
    "\u200f\u2067",
    "\ufeff",
    "\ud800",
    "\udcff\udcfe",
    "=1+cmd|' /C calc'!A0",
    "@SUM(1)",
    "+1",
    "<script>alert(1)</script>",
    "</script><!--",
    "{0}{1!r:>99999999}",
    "%s%n%99999999d",
    "9" * 30,
    "9" * 5_000,
    "x" * 100_000,
    "{1..1000000000}",
    "{1..99}{1..99}{1..99}{1..99}",
    "[" * 5_000,
    "train",
    "split1:train",
    "\N{PILE OF POO}" * 50,
)
"""Texts that a reader or a terminal may stumble over."""

NUMBERS = (
    *("0", "-1", "1", "2", "-0.0", "0.5", "1e-320", "1e308", "-1e308", "1e999", "-1e999"),
    *("NaN", "Infinity", "-Infinity", "127", "255", "65535", "65536", "2147483647", "2147483648"),
    *("-2147483649", "4294967295", "4294967296", "1000000", "1000000000", "1099511627776"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("18446744073709551616", "1" + "0" * 400, "1" + "0" * 5_000, "1e5000", "0.1e-5000"),
)
"""Numbers as JSON has them, and as it does not."""

SIZES = (
    *(0, 1, 2, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 30_000, 36_000, 1 << 20, 1 << 24),
    *((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 47),
    *((1 << 63) - 1, 1 << 63, (1 << 64) - 1),
)
"""Numbers in place of lengths."""

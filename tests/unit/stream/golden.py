"""The reference implementation's numbers for clips and crops."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import GOLDEN

CASES = json.loads((GOLDEN / "video_sampling.json").read_text())["cases"]


def named(prefix: str) -> list[Any]:
    """The cases whose names begin so, as parameters of a test."""
    found = [c for c in CASES if c["name"].startswith(prefix)]
    assert found
    return [pytest.param(c, id=c["name"]) for c in found]

"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real clips in the data sets' own layouts; the test is skipped where they are absent."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("SCE_VIDEO_TEST_DATA", str(default)))
    if not folder.is_dir():
        pytest.skip(f"no real test data in {folder}; set SCE_VIDEO_TEST_DATA")
    return folder.resolve()

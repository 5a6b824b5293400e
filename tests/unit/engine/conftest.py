"""One thread for each test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def small_networks(one_thread: None) -> None:
    """For networks this small threads cost more than they give, and they wait for each other."""

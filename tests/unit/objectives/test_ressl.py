"""ReSSL against its reference implementation; SCE without its positive is in test_sce.py."""

from __future__ import annotations

from tests.unit.objectives.golden import (
    check_paired,
)


def test_golden() -> None:
    check_paired("ressl_loss")

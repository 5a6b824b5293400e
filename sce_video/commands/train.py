"""``sce-video train``: what ``deepspeed sce_video/train.py`` does, by another name."""

from __future__ import annotations

from collections.abc import Sequence

from sce_video import train


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command line; returns the exit code."""
    return train.main(arguments, prog)

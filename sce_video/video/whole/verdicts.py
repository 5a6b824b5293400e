"""What is said of a file whose bytes are not those that were written."""

from __future__ import annotations

import re

from sce_video.video.facts import Rejected

NOT_ZERO = re.compile(rb"[^\0]")


def cut_off() -> Rejected:
    """The container promises more than came."""
    return Rejected("cut off")


def damaged(data: bytes, at: int) -> Rejected:
    """There are zeros where there can be none.

    Up to the file's end it is a download that broke off and whose room had been set aside; else a
    hole.

    Args:
        data: the whole file.
        at: from where on all would be zeros, had nothing more come.
    """
    return cut_off() if not NOT_ZERO.search(data, at) else Rejected("damaged packets")

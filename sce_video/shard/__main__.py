"""``python -m sce_video.shard``: the same as ``sce-video shard``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sce_video.commands import shard


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, that of the process for None; returns the exit code."""
    return shard.main(sys.argv[1:] if argv is None else argv, "python -m sce_video.shard")


if __name__ == "__main__":
    sys.exit(main())

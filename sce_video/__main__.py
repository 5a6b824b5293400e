"""``python -m sce_video``: the same as ``sce-video``."""

import sys

from sce_video.cli import main

sys.exit(main())

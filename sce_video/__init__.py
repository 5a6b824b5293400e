"""sce_video: learn video representations without labels."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sce_video.model.encoder import load_encoder
    from sce_video.shardset.index import open_shards

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder", "open_shards"]

_LAZY = {"load_encoder": "sce_video.model.encoder", "open_shards": "sce_video.shardset.index"}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and torch with it only where it is needed."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sce_video' has no attribute '{name}'")

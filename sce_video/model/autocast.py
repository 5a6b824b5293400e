"""The arithmetic of networks, chosen inside of ``forward``: an engine switches autocast off."""

from __future__ import annotations

import torch


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """``torch.autocast`` to ``dtype``; with None it leaves all as it is set around it."""
    kind = device.type
    return torch.autocast(kind, dtype, enabled=dtype is not None or torch.is_autocast_enabled(kind))

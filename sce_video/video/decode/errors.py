"""What every backend raises."""

from __future__ import annotations

from sce_video.errors import SceVideoError, UsageError


class DecodeError(SceVideoError):
    """A video that does not give the frames its index row promises."""


class BackendError(UsageError):
    """A backend that is not installed."""

"""What is raised where a media file does not give its frames."""

from __future__ import annotations

from sce_video.errors import SceVideoError, UsageError


class DecodeError(SceVideoError):
    """Bytes that are no video or image, or do not give the frames that they should."""


class BackendError(UsageError):
    """A backend that is not installed."""

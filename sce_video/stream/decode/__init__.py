"""Video bytes -> frames. Every backend: the same frames, the same errors."""

from sce_video.stream.decode.pyav import DecodeError, decode_frames

__all__ = ["DecodeError", "decode_frames"]

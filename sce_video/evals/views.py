"""Which views of a video an encoder is evaluated on."""

from __future__ import annotations

from sce_video.model.encoder import EncoderSpec
from sce_video.stream.clips import UniformClips


def eval_views(spec: EncoderSpec, clips: int | None, crops: int, size: int | None) -> UniformClips:
    """Views for an encoder; ``size`` None = 8/7 of its training size."""
    return UniformClips(clips, crops, spec.frames, spec.seconds, size or round(spec.size * 8 / 7))

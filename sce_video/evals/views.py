"""Evaluation views: uniform clips and spatial crops, without any randomness."""

from __future__ import annotations

from dataclasses import dataclass

from sce_video.model.encoder import EncoderSpec
from sce_video.stream.clips import (
    ClipSpec,
    Video,
    crop_boxes,
    frame_range,
    short_side,
    subsample,
    uniform_starts,
)


@dataclass(frozen=True)
class EvalViews:
    """``clips`` clips spread over the video times ``crops`` squares along its longer side.

    The short side is resized to ``size``, then cropped. The published protocol is 10 x 3 at 8/7
    of the training size (256 for 224).
    """

    clips: int
    crops: int
    frames: int
    seconds: float
    size: int

    def __call__(self, video: Video, epoch: int, row: int) -> list[ClipSpec]:
        """All views of a video, clip-major."""
        scale = short_side(video, self.size)
        specs = []
        for start in uniform_starts(video, self.seconds, self.clips):
            frames = subsample(*frame_range(video, start, self.seconds), self.frames)
            for box in crop_boxes(*scale, self.size, self.crops):
                specs.append(ClipSpec(frames, box, self.size, scale))
        return specs


def eval_views(spec: EncoderSpec, clips: int, crops: int, size: int | None) -> EvalViews:
    """Views for an encoder; ``size`` None = 8/7 of its training size."""
    return EvalViews(clips, crops, spec.frames, spec.seconds, size or round(spec.size * 8 / 7))

"""Which views of a video a network is evaluated on, and how what it makes of them becomes one."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sce_video.errors import UsageError
from sce_video.model.encoder import EncoderSpec
from sce_video.shardset.index import ShardIndex
from sce_video.stream.clips import UniformClips

LIMITS = {"clips": 1000, "crops": 3, "frames": 4096, "size": 8192, "seconds": 10_000}
"""What views of a video may be at most, whoever says so: clips, crops, frames of a clip, its side
in pixels, its span in seconds."""


def eval_views(spec: EncoderSpec, clips: int, crops: int, size: int | None) -> UniformClips:
    """Views for an encoder of clips; ``size`` None = 8/7 of its training size.

    For an encoder of images there is one: the centre of ``size`` (None = as in training) of an
    image whose short side is 8/7 of it.

    Raises:
        UsageError: beyond :data:`LIMITS`.
    """
    given = {"clips": clips, "frames": spec.frames, "size": size or spec.size}
    for name, value in {**given, "seconds": spec.seconds}.items():
        least, most = 0 if name == "seconds" else 1, LIMITS[name]
        if not least <= value <= most:
            raise UsageError(f"views of {name} {value:g}: {least} to {most:,} are taken")
    if spec.seconds == 0:
        return UniformClips(1, 1, 1, 0.0, size or spec.size, short=8 / 7)
    return UniformClips(clips, crops, spec.frames, spec.seconds, size or round(spec.size * 8 / 7))


def check_media(index: ShardIndex, spec: EncoderSpec, file: Path | str, hint: str = "") -> None:
    """Refuse videos for an encoder of images, and images for one of clips.

    Raises:
        UsageError: the set holds the other kind; of videos, ``hint`` says what to do.
    """
    if index.images != (spec.seconds == 0):
        has, wants = ("images", "clips") if index.images else ("videos", "images")
        hint = "" if index.images else hint
        raise UsageError(f"{index.name}: holds {has}; {file} was trained on {wants}{hint}")


def mean_of_views(values: Tensor) -> Tensor:
    """Plain mean over the views, for features: ``[B,V,F]`` -> ``[B,F]``."""
    return values.mean(1)


def mean_probability(logits: Tensor) -> Tensor:
    """Softmax of every view, then their mean, for scores: ``[B,V,C]`` -> ``[B,C]``, rows sum to 1.

    In this order (the published one), so that a view with large logits counts as one view.
    """
    return logits.softmax(2).mean(1)

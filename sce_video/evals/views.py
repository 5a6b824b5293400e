"""Which views of a video an encoder is evaluated on."""

from __future__ import annotations

from pathlib import Path

from sce_video.errors import UsageError
from sce_video.model.encoder import EncoderSpec
from sce_video.shardset.index import ShardIndex
from sce_video.stream.clips import UniformClips


def eval_views(spec: EncoderSpec, clips: int, crops: int, size: int | None) -> UniformClips:
    """Views for an encoder of clips; ``size`` None = 8/7 of its training size.

    For an encoder of images there is one: the centre of ``size`` (None = as in training) of an
    image whose short side is 8/7 of it.
    """
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

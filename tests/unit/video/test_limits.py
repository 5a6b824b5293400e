"""One owner of what a file may cost, and files that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sce_video.video.decode import decode_frames
from sce_video.video.decode import planned as planned_module
from sce_video.video.errors import DecodeError, decode_errors
from sce_video.video.examine import examine_video
from sce_video.video.facts import Rejected
from sce_video.video.limits import (
    DEFAULT_LIMITS,
    Limits,
    check_bytes,
    check_pixels,
    read_media,
)
from sce_video.video.peek import peek
from tests.odd_videos import KINDS


def test_the_limits_are_the_converters() -> None:
    assert Limits(1 << 30, 500_000, 1 << 26, 1_200, 2) == DEFAULT_LIMITS
    check_pixels(8192, 8192)
    with pytest.raises(DecodeError, match=r"^image too large$"):
        check_pixels(8192, 8193, what="image")
    check_bytes(b"12", Limits(bytes=2))
    for data, why in ((b"123", "file too large"), (b"", "empty file")):
        with pytest.raises(DecodeError, match=rf"^{why}$"):
            check_bytes(data, Limits(bytes=2))


@pytest.mark.parametrize("kind", ["b-frames", "vp9", "mpeg-4 b avi", "mpeg-4 b"])
def test_every_reader_holds_the_pixels(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the header says, and in the decoder by what the stream says later."""
    data = KINDS[kind](tmp_path).read_bytes()
    index = examine_video(data).packets
    assert index is not None
    small = Limits(pixels=64 * 48 - 1)
    with pytest.raises(Rejected, match=r"^frames too large"):
        examine_video(data, small)
    monkeypatch.setattr(planned_module, "DEFAULT_LIMITS", small)
    planned_module.take_decoder(index)  # drops one that was opened before
    planned_module._kept.clear()
    with pytest.raises(DecodeError, match="does not decode"):
        decode_frames(data, [0], index)


def test_more_frames_than_a_video_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = KINDS["vp9"](tmp_path).read_bytes()
    frames = examine_video(data).frames
    for most in (frames, frames - 1):
        monkeypatch.setattr("sce_video.video.peek.DEFAULT_LIMITS", Limits(frames=most))
        if most == frames:
            assert peek(data).frames == frames
        else:
            with pytest.raises(DecodeError, match=r"^too many frames$"):
                peek(data)


def test_only_regular_files_are_media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v.mp4").write_bytes(b"123")
    (tmp_path / "link.mp4").symlink_to("v.mp4")
    assert read_media(tmp_path / "link.mp4") == b"123"
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("pipe.mp4", "folder.mp4"):
        with pytest.raises(OSError, match="is not a regular file"):
            read_media(tmp_path / name)
    monkeypatch.setattr("sce_video.video.limits.DEFAULT_LIMITS", Limits(bytes=2))
    with pytest.raises(OSError, match="is larger than 2 bytes"):
        read_media(tmp_path / "v.mp4")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OverflowError("cannot fit 'int'"), "does not decode: cannot fit 'int'"),
        (MemoryError(), "does not decode: needs more memory than there is"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "does not decode: 'utf-8' codec"),
        (OSError(5, "lost", "/a/b"), "does not decode: lost"),
        (SyntaxError("one\ntwo"), "does not decode: one"),
    ],
    ids=["overflow", "memory", "text", "system", "lines"],
)
def test_whatever_a_library_raises(error: Exception, words: str) -> None:
    with pytest.raises(DecodeError) as caught, decode_errors():
        raise error
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    with pytest.raises(DecodeError, match=r"^damaged$"), decode_errors("damaged"):
        raise error
    with pytest.raises(Rejected, match=r"^cut off$"), decode_errors("damaged"):
        raise Rejected("cut off")

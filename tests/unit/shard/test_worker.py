"""What one worker does with one file."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sce_video.errors import SceVideoError
from sce_video.shard import worker
from sce_video.shard.sources import Record
from sce_video.shard.sources.archive import unpacked
from sce_video.shard.worker import Accepted, FileJob, Refused, process_file, refused_by_kernel
from sce_video.video.encode import Encoding
from sce_video.video.kinds import Media
from sce_video.video.limits import Limits
from tests.conftest import REPOSITORY
from tests.unit.shard.layouts import tar


def job(
    source: Path, media: Media = "video", size: int = -1, limits: Limits | None = None
) -> FileJob:
    known = source.stat().st_size if size < 0 else size
    path = {"video": "a/1.mp4", "image": "a/1.jpg"}[media]
    return FileJob(Record(path, source, known), limits or Limits())


def test_the_bytes_are_kept(clips: Path, picture: Path) -> None:
    for source, media in ((clips / "clip.avi", "video"), (picture, "image")):
        answer = process_file(job(source, media))  # type: ignore[arg-type]
        assert isinstance(answer, Accepted)
        assert answer.data == source.read_bytes()
        assert answer.fields["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_how_a_picture_would_be_turned_is_told(tmp_path: Path, picture: Path) -> None:
    answer = process_file(job(picture, "image"))
    assert isinstance(answer, Accepted)
    assert "exif_orientation" not in answer.fields
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(picture).save(tmp_path / "turned.jpg", exif=exif)
    answer = process_file(job(tmp_path / "turned.jpg", "image"))
    assert isinstance(answer, Accepted)
    assert answer.fields["exif_orientation"] == 6
    assert (answer.fields["width"], answer.fields["height"]) == (40, 30)


def test_refusals_are_values(tmp_path: Path, picture: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert process_file(job(tmp_path / "empty.mp4")) == Refused("empty file")
    assert process_file(job(picture)) == Refused(
        "no readable MP4, MOV, Matroska, WebM, AVI or MPEG file"
    )
    huge = job(tmp_path / "never opened", size=1 << 40)
    assert process_file(huge) == Refused("file too large")


def test_a_file_that_cannot_be_read(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is gone or closed to us is refused; a disk that fails ends the run."""
    assert process_file(job(tmp_path / "gone.mp4", size=10)) == Refused("missing")
    for error, outcome in ((errno.EACCES, "no permission to read it"), (errno.EIO, "")):
        failure = OSError(error, os.strerror(error))
        monkeypatch.setattr(worker, "_read", lambda job, failure=failure: _raise(failure))
        if outcome:
            assert process_file(job(picture, "image")) == Refused(outcome)
        else:
            with pytest.raises(OSError, match="Input/output"):
                process_file(job(picture, "image"))
    monkeypatch.undo()
    with pytest.raises(SceVideoError, match="changed while it was being sharded"):
        process_file(job(picture, "image", size=10))


def test_what_is_no_file_any_more_is_not_waited_for(tmp_path: Path, picture: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe.mp4")
    (folder := tmp_path / "folder.mp4").mkdir()
    for path in (pipe, folder):
        assert process_file(job(path, size=10)) == Refused("neither a file nor a folder")
    (link := tmp_path / "link.jpg").symlink_to(picture)
    assert isinstance(process_file(job(link, "image")), Accepted)


def test_a_file_that_grows_while_it_is_read(tmp_path: Path, picture: Path) -> None:
    known = job(path := tmp_path / "grows.jpg", "image", size=picture.stat().st_size)
    path.write_bytes(picture.read_bytes() + b"more")
    with pytest.raises(SceVideoError, match="changed while it was being sharded"):
        process_file(known)


def _raise(error: Exception) -> None:
    raise error


def test_only_the_cpu_limit_speaks_for_the_kernel(picture: Path) -> None:
    slow = refused_by_kernel(job(picture), -signal.SIGXCPU)
    assert slow == Refused("takes too long to decode")
    for code in (-signal.SIGKILL, -signal.SIGSEGV, 0, 1):
        assert refused_by_kernel(job(picture), code) is None


def test_an_encode_may_take_longer(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[int] = []
    monkeypatch.setattr(worker, "_arm_cpu_limit", armed.append)
    plain = job(clips / "clip0.mp4")
    for encoding in (None, Encoding(quality="fast")):
        assert isinstance(process_file(replace(plain, encoding=encoding)), worker.Accepted)
    assert armed[1] > 7 * armed[0]


def test_a_worker_loads_only_what_it_needs() -> None:
    """The plan and the index, with pyarrow and pydantic, stay in the parent: 34 MiB a worker."""
    code = (
        "import sys, sce_video.shard.worker\n"
        "assert not {'pyarrow', 'pydantic', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def members(archive: Path) -> list[Record]:
    return unpacked([Record(f"train/{archive.name}", archive, 0)])


def test_a_member_is_read_where_it_lies(tmp_path: Path, clips: Path) -> None:
    data = (clips / "clip.avi").read_bytes()
    archive = tar(tmp_path / "a.tar", {"x.avi": b"xyz", "y.avi": data, "z.avi": b"z" * 5000})
    found = members(archive)[1]
    job = FileJob(found)
    answer = process_file(job)
    assert isinstance(answer, Accepted)
    assert answer.data == data
    for content in ({"x.avi": b"xyz", "y.avi": data[:-1]}, {"y.avi": data}, {"x.avi": data * 2}):
        tar(archive, content)
        with pytest.raises(SceVideoError, match="changed while it was being sharded"):
            process_file(job)
    tar(archive, {"x.avi": b"xyz", "y.avi": data})
    archive.write_bytes(archive.read_bytes()[: (found.offset or 0) + 100])
    with pytest.raises(SceVideoError, match="changed while it was being sharded"):
        process_file(job)

"""The encoder's file: it says how to build itself, and is whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sce_video.errors import UsageError
from sce_video.model.encoder import EncoderSpec, load_encoder, save_encoder
from sce_video.model.trunks import build_trunk


def test_an_encoder_file_says_how_to_build_itself(tmp_path: Any) -> None:
    spec = EncoderSpec(
        trunk="r2plus1d_18", width=4, frames=4, seconds=1.0, size=32, mean=(0.1,) * 3, std=(1,) * 3
    )
    trunk = build_trunk("r2plus1d_18", 4).eval()
    save_encoder(tmp_path / "encoder.safetensors", trunk, spec)
    loaded, found = load_encoder(tmp_path)
    assert found == spec
    clip = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(loaded(clip), trunk(clip), rtol=0, atol=0)
    (tmp_path / "encoder.safetensors").write_bytes(b"\x80\x04 not safetensors")
    with pytest.raises(UsageError, match="not an encoder"):
        load_encoder(tmp_path)


def test_the_group_may_read_an_encoder(tmp_path: Any, for_the_group: int) -> None:
    spec = EncoderSpec(
        trunk="r3d_18", width=4, frames=4, seconds=1.0, size=32, mean=(0.1,) * 3, std=(1,) * 3
    )
    save_encoder(path := tmp_path / "encoder.safetensors", build_trunk("r3d_18", 4), spec)
    assert path.stat().st_mode & 0o777 == for_the_group

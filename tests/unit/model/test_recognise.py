"""Files of others: what does not fit wholly, and what could run code, is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

from sce_video.errors import UsageError
from sce_video.model.weights import open_encoder


def refused(weights: object, folder: Path) -> str:
    file = folder / "weights.pth"
    torch.save(weights, file)
    with pytest.raises(UsageError) as caught:
        open_encoder(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_wholly_is_refused(tmp_path: Path) -> None:
    weights = torchvision.models.resnet18().state_dict()
    less = {key: t for key, t in weights.items() if key != "layer3.1.bn2.bias"}
    assert "nearest to resnet18, but lacks layer3.1.bn2.bias; nothing" in refused(less, tmp_path)
    other = weights | {"layer4.1.conv2.weight": torch.ones(512, 512, 1, 1)}
    assert "but lacks layer4.1.conv2.weight; nothing" in refused(other, tmp_path)
    # ResNet-34 has all tensors of ResNet-18, and layers between them.
    deeper = torchvision.models.resnet34().state_dict()
    assert "has more layers: layer1.2.conv1.weight, layer1.2.bn1.weight" in refused(
        deeper, tmp_path
    )
    assert "holds no tensor of a trunk" in refused({"a": torch.ones(2)}, tmp_path)
    assert "holds no tensor of a trunk" in refused([1, 2], tmp_path)


class Runs:
    """Code that opening would run."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (Path("ran"),)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused({"state_dict": {}, "hyper_parameters": Runs()}, tmp_path)
    assert "may run code" in message
    assert "['state_dict'], 'weights.pth')" in message
    assert not Path("ran").exists()
    whole = refused(torchvision.models.resnet18(), tmp_path)  # a pickled network
    assert "may run code" in whole


NO_WEIGHTS = {
    "empty": b"",
    "text": b"hello" * 100,
    "zip": b"PK\x03\x04" + b"\0" * 50,
    "pickle": b"\x80\x02.",
}


@pytest.mark.parametrize("content", NO_WEIGHTS.values(), ids=NO_WEIGHTS)
def test_files_that_are_no_weights_are_said_in_one_line(content: bytes, tmp_path: Path) -> None:
    for suffix in (".pth", ".ckpt", ".safetensors"):
        file = tmp_path / f"x{suffix}"
        file.write_bytes(content)
        with pytest.raises(UsageError, match=r"not a file of tensors|not an encoder"):
            open_encoder(file)
    with pytest.raises(UsageError, match="there are r2plus1d_18, resnet18, resnet50"):
        open_encoder("torchvision:r3d_18")
    with pytest.raises(UsageError, match="no such file"):
        open_encoder(f"torchvision:resnet18={tmp_path / 'none'}")

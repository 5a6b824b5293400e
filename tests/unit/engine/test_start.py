"""What ``run.init_from`` brings: the encoder's values, where a configuration leaves them open."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from sce_video.config.load import dump_config, load_config
from sce_video.config.tasks import PretrainConfig
from sce_video.engine.clip_task import find_start, view_recipe
from sce_video.engine.start import load_run
from sce_video.errors import UsageError
from sce_video.model.encoder import EncoderSpec, build_encoder, encoder_spec, save_encoder
from tests.conftest import REPOSITORY

CLIPS = EncoderSpec(
    trunk="r2plus1d_18_small",
    width=2,
    frames=4,
    seconds=0.6,
    size=32,
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6),
)
IMAGES = CLIPS.model_copy(
    update={"trunk": "resnet18_small", "frames": 1, "seconds": 0.0, "colour": "lab"}
)
OWN = ("finetune/own.yaml", "linear/own.yaml")


def encoder(folder: Path, spec: EncoderSpec = CLIPS) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    save_encoder(folder / "encoder.safetensors", build_encoder(spec), spec)
    return str(folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    encoder(folder / "clips")
    encoder(folder / "images", IMAGES)
    return folder


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("kind", ["clips", "images"])
def test_what_an_own_config_leaves_out_is_the_encoder_s(name: str, kind: str, root: Path) -> None:
    spec = {"clips": CLIPS, "images": IMAGES}[kind]
    init = f"run.init_from={root / kind}"
    with patch("sce_video.model.weights.open_encoder", side_effect=AssertionError("opened")):
        config = load_run(name, [init, "data.split=split1:train"])
    assert encoder_spec(config) == spec
    assert (config.clip is None) == (kind == "images")
    assert view_recipe(config).stats == (spec.mean, spec.std)  # what is fed
    assert find_start(config) is not None
    assert config.data.split == "split1:train"
    again = Path(root / "again.yaml")
    again.write_text(dump_config(config))
    assert load_config(str(again)) == config  # all is written down


def test_what_the_config_says_is_its_own(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"task: finetune\nrun: {{init_from: {root / 'clips'}}}\ndata: {{shards: mine}}\n"
        "augment: {recipe: video_finetune, std: [0.2, 0.2, 0.2]}\nclip: {frames: 8}\n"
    )
    config = load_run(str(file), ["clip.size=64", "augment.mean=[0.5, 0.5, 0.5]"])
    spec = encoder_spec(config)
    assert (spec.trunk, spec.width) == (CLIPS.trunk, CLIPS.width)
    assert (spec.frames, spec.seconds, spec.size) == (8, 0.6, 64)
    assert (spec.mean, spec.std) == ((0.5,) * 3, (0.2,) * 3)
    assert find_start(config) is not None
    other = load_run(str(file), ["model.width=4"])
    with pytest.raises(UsageError, match=r"width 2, the run's 4; leave out model\.width, or take"):
        find_start(other)


def test_a_null_is_left_out_but_for_the_clip_that_asks_for_images(root: Path) -> None:
    init = f"run.init_from={root / 'clips'}"
    config = load_run(OWN[0], [init, "clip=null", "augment.mean=null"])
    assert (config.clip, config.shape.frames, config.shape.size) == (None, 1, CLIPS.size)
    assert encoder_spec(config).mean == CLIPS.mean
    sized = load_run("linear/imagenet_resnet50.yaml", [init, "model.width=2"])
    assert (sized.clip, sized.shape.size, sized.model.trunk) == (None, 224, "resnet50")
    config = load_run(OWN[0], [f"run.init_from={root / 'images'}", "clip={frames: 3, seconds: 1}"])
    assert (config.shape.frames, config.shape.seconds, config.shape.size) == (3, 1, IMAGES.size)


def test_pretraining_takes_it_too(root: Path) -> None:
    tree = [f"run.init_from={root / 'clips'}", "model={trunk: null}", "clip={size: 64}"]
    config = load_run("demo.yaml", tree)
    assert isinstance(config, PretrainConfig)
    assert encoder_spec(config) == CLIPS.model_copy(update={"size": 64})
    assert find_start(config) is not None
    lab = load_run("pretrain/sce_cifar10_resnet18_small.yaml", [f"run.init_from={root / 'images'}"])
    with pytest.raises(UsageError, match="colour lab, the run's rgb; give another objective, or"):
        find_start(lab.model_copy(update={"model": lab.model.model_copy(update={"width": 2})}))


def test_weights_of_others_bring_what_their_trunk_took(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "theirs.pth")
    config = load_run("linear/own.yaml", [f"run.init_from={tmp_path / 'theirs.pth'}"])
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert encoder_spec(config).model_dump() == {
        "trunk": "resnet18",
        "width": 64,
        "colour": "rgb",
        "frames": 1,
        "seconds": 0.0,
        "size": 224,
        "mean": mean,
        "std": std,
    }
    assert find_start(config) is not None


def test_a_run_that_goes_on_finds_the_values_it_began_with(root: Path, tmp_path: Path) -> None:
    gone, folder = tmp_path / "gone", tmp_path / "run"
    given = [f"run.init_from={encoder(gone)}", f"run.dir={folder}"]
    began = load_run(OWN[0], [*given, "clip.size=64"])
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(began))
    encoder(gone, IMAGES)
    # Without a checkpoint nothing has begun.
    assert load_run(OWN[0], [*given, "run.resume=true"]).model.trunk == IMAGES.trunk
    (folder / "checkpoints/step-00000007").mkdir()
    for path in (gone / "encoder.safetensors", None):
        on = load_run(OWN[0], [*given, "run.resume=true"])
        assert on.model_dump(exclude={"run"}) == began.model_dump(exclude={"run"})
        if path:
            path.unlink()
    other = load_run(OWN[0], [*given, "run.resume=true", "clip.size=48"])
    assert other.shape.size == 48
    with pytest.raises(UsageError, match="no encoder"):
        load_run(OWN[0], given)


@pytest.mark.parametrize(
    ("header", "overrides", "message"),
    [
        (
            {"trunk": "r9"},
            [],
            r"own.yaml: model.trunk: .*'r9'.*run.init_from=.* brings model.trunk",
        ),
        ({"size": 8}, [], r"clip.size: .*16, got 8 \(run.init_from=.* brings clip.size\)"),
        ({}, ["clip.grid=8"], r"clip: grid 8 needs .* brings clip.frames, clip.seconds, clip.size"),
        ({}, ["model.width=x"], r"^model.width=x: model.width: .*got 'x'$"),
        ({}, ["model=3"], r"^model=3: model: .*got 3$"),
        ({}, ["clip=3"], r"^clip=3: clip: .*got 3$"),
        ({}, ["run=3"], r"^run=3: run: .*got 3$"),
        ({}, ["run.init_from=3"], r"^run.init_from=3: run.init_from: .*got 3$"),
        ({}, ["run.init_from=nowhere"], "^run.init_from: nowhere: no encoder; give a finished"),
        ({"trunk": None}, [], "^run.init_from: .*not an encoder of sce-video: its header's trunk"),
        (None, [], "^run.init_from: .*no safetensors file, or a damaged one"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_said_in_a_line(
    header: dict[str, Any] | None, overrides: list[str], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "encoder.safetensors"
    about = {k: v for k, v in {**CLIPS.model_dump(), **(header or {})}.items() if v is not None}
    save_file({"x": torch.zeros(1)}, file, {"sce_video": json.dumps(about)})
    if header is None:
        file.write_bytes(b"no such thing")
    with pytest.raises(UsageError, match=message) as caught:
        load_run(OWN[0], [f"run.init_from={tmp_path}", *overrides])
    assert "\n" not in str(caught.value)


def test_an_encoder_of_ours_is_asked_without_torch(root: Path) -> None:
    code = (
        "import sys\nfrom sce_video.engine.start import load_run\n"
        f"config = load_run('linear/own.yaml', ['run.init_from={root / 'clips'}'])\n"
        "assert config.model.width == 2\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)

"""Configurations: complete, checked, with errors that say what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from sce_video.config.load import (
    configs_folder,
    dump_config,
    find_config,
    load_config,
    load_pretraining,
    read_config,
)
from sce_video.config.tasks import TASKS, PretrainConfig
from sce_video.errors import UsageError
from tests.conftest import REPOSITORY

SHIPPED = sorted(configs_folder().rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_configs_are_valid_short_and_say_what_they_are(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith("# ")
    config = load_config(str(path))
    assert TASKS[config.task].model_validate(yaml.safe_load(dump_config(config))) == config


def test_configs_are_found_by_path_and_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert configs_folder() == REPOSITORY / "configs"  # of a checkout, never a copy
    monkeypatch.chdir(tmp_path)
    assert find_config("demo.yaml") == find_config("configs/demo.yaml")
    (tmp_path / "demo.yaml").write_text("data: {shards: mine}")
    assert load_config("demo.yaml").data.shards == "mine"
    with pytest.raises(
        UsageError, match=r"demmo.yaml: no such config; did you mean 'configs/demo.yaml'"
    ):
        load_config("demmo.yaml")
    for typed in ("k400_r3d50.yaml", "linear/k400_r3d50.yaml", "linear/k400_r3d_50"):
        with pytest.raises(UsageError, match=r"did you mean 'configs/linear/k400_r3d_50.yaml'"):
            load_config(typed)
    has = r"configs/ has demo.yaml, .*pretrain/ \(sce-video configs lists them\)$"
    with pytest.raises(UsageError, match=rf"^pretrain/xyz.yaml: no such config; {has}"):
        load_config("pretrain/xyz.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "unknown key 'optim.lrr'; did you mean 'optim.lr'?"),
        ("optm.lr=1", "unknown key 'optm'; did you mean 'optim'?"),
        ("model.predictor.hiden=1", "did you mean 'model.predictor.hidden'?"),
        ("optim.lr=fast", "optim.lr: .* got 'fast'"),
        ("optim.lr=-1", "optim.lr: .* greater than 0, got -1"),
        ("model.trunk=r2plus1d18", "model.trunk: .*'r2plus1d_18'.* got 'r2plus1d18'"),
        ("model.trunk=r3d18", "got 'r3d18'; did you mean 'r3d_18'?"),
        ("track.wandb=ofline", "got 'ofline'; did you mean 'offline'?"),
        ("objective.temp_m=0.2", "temp_m 0.2 must be below temp 0.1"),
        ("objective.queue=8", "objective.queue 8 is below the 64 keys of a step"),
        ("augment.recipe=video_linear", "'video_linear' does not pretrain; take one of"),
        (
            "augment.recipe=sce",
            "augment.recipe: 'sce' is unknown; there are kinetics_strength_0.5,",
        ),
        ("augment.recipe=crop_flop", "recipe: 'crop_flop' is unknown; did you mean 'crop_flip'?"),
        ("optim.foo=1", "unknown key 'optim.foo'; there are optim.name, optim.lr, "),
        ("foo=1", "unknown key 'foo'; there are task, run, data, "),
        ("track.wandb=sometimes", "got 'sometimes'$"),
        ("objective.name=dino", "name 'dino' is unknown; there are sce, info_nce, "),
        ("objective.name=[sce]", "objective: name '\\['sce'\\]' is unknown; did you mean 'sce'"),
        ("objective.coef=1", "unknown key 'objective.coef'; did you mean 'objective.coeff'?"),
        ("objective.name=rings", "objective: name 'rings' is unknown; did you mean 'ring'?"),
        ("objective.name=ring", "unknown key 'objective.coeff'.*'objective={name: ring}'"),
        ("objective={name: ressl, temp_m: 0.1}", "objective: temp_m 0.1 must be below temp 0.1"),
        ("objective={name: ring, outer: 0.01, queue: 64}", "objective: no candidate lies between"),
        ("objective={name: ir, dynamic_inner: false, inner: 1.0}", "no candidate lies between"),
        ("objective={queue: null}", "objective: without a queue there are no negatives: set gath"),
        ("objective={name: snclr, topk: 9, queue: 8}", "objective: topk 9 is above the queue of 8"),
        ("augment.color_strength=1", "unknown key 'augment.color_strength'"),
        ("clip.clips=2", "unknown key 'clip.clips'"),
        ("optim.lr", "expected key=value"),
        ("optim.lr.x=1", "'lr' is a value, not a section"),
        ("optim.lr=[", "optim.lr: not valid YAML"),
    ],
)
def test_wrong_overrides_say_what_to_do(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config("demo.yaml", ["train.batch_size=32", override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {shards: a}\ndata: {shards: b}", "key 'data' is given twice"),
        ("data: {shards: a, shards: b}", "key 'shards' is given twice"),
        ("data: {shards: a, [1]: b}", "not valid YAML: .*unhashable key"),
        ("run: {dir: x}", "'data' is missing"),
        ("- a", "must be a mapping"),
        ("a: [", "not valid YAML"),
        ("data: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("{1: 2}", "1 is no name of a key"),
        ("data: {null: 1}", "data: None is no name of a key"),
        ('data: {"a\\0": 1}', r"data: 'a\\x00' is no name of a key"),
        ("data: {shards: [2024-01-01]}", r"data.shards\[0\]: no plain value but a date"),
        ("data: &a {shards: *a}", "more than 20,000 values"),
    ],
)
def test_wrong_files_say_what_to_do(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_config(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


DIGITS = "9" * 5000
REFUSED = {  # an override -> what its line says
    "run.dir=2024-99-99": "run.dir: not valid YAML: month must be in 1..12",
    "run.dir=2024-01-01": "run.dir: no plain value but a date; put text in quotes",
    "run.dir=!!binary AAAA": "run.dir: no plain value but a bytes; put text in quotes",
    "run.dir=!!set {a}": "run.dir: no plain value but a set; put text in quotes",
    "run.dir=null": "run.dir: Input should be a valid string, got None",
    'run.dir="a\\0b"': r"run.dir: text with a NUL or half a character: 'a\\x00b'",
    'data.shards="\\ud800"': r"data.shards: text with a NUL or half a character: '\\ud800'",
    'data.shards=["a", "\\udfff"]': r"data.shards\[1\]: text with a NUL or half a character: ",
    f"run.dir={'x' * 300}": "run.dir: a name of more than 255 bytes is no file's",
    f"run.init_from={'é' * 200}": "run.init_from: a name of more than 255 bytes is no file's",
    f"run.dir={'x/' * 3000}": "run.dir: text of more than 4096 characters",
    f"run.seed={DIGITS}": "run.seed: not valid YAML: Exceeds the limit",
    f"run.seed=0x{DIGITS}": "run.seed: the number has more than 64 bits",
    "run.seed=99999999999": "run.seed: the number 1e\\+11 is beyond 4,294,967,295",
    "run.seed='-99999999999'": "run.seed: the number -1e\\+11 is beyond 4,294,967,295",
    "train.epochs=99999999999": "train.epochs: the number 1e\\+11 is beyond",
    "train.batch_size=99999999999": "train.batch_size: the number 1e\\+11 is beyond",
    "objective.queue=99999999999": "objective.queue: the number 1e\\+11 is beyond",
    "model.width=1000000": "model.width: Input should be less than or equal to 4096, got 1000000",
    "optim.lr=.inf": "optim.lr: the number must be finite",
    "optim.lr='nan'": "optim.lr: Input should be a finite number, got 'nan'",
    "optim.lr=1e400": "optim.lr: Input should be a finite number, got '1e400'",
    "data.cache_gib=1e300": "data.cache_gib: the number 1e\\+300 is beyond",
    "optim.decay_epochs=[1e300]": "optim.decay_epochs: the number 1e\\+300 is beyond",
    "clip.seconds=1e300": "clip.seconds: Input should be less than or equal to 10000",
    "augment.aspect=[1e-9, 1]": "augment.aspect.0: Input should be greater than or equal to 0.01",
    "deepspeed.foo=[1, {a: -.inf}]": r"deepspeed.foo\[1\].a: the number must be finite",
    "deepspeed={1: 2}": "deepspeed: 1 is no name of a key",
    f"train.save_every={'1' * 400}": "the number has more than 64 bits",
    "train.save_every='\u0663'": "is no interval",
    "train.save_every=1e400": "is no interval",
    "task=[1]": r"task '\[1\]' is unknown; there are pretrain, linear, finetune",
    "task=null": "task 'None' is unknown",
    "objective=5": "objective: Input should be a valid dictionary",
    "objective={name: {a: b}}": "objective: name '.*' is unknown",
    "objective={? [1]: 2}": "objective: not valid YAML: unhashable key",
    f"objective.name={'x' * 4000}": "objective: name 'xxx",
    f"run.{'a.' * 2000}b=1": "is no key; give one such as optim.lr=0.1",
    "run..dir=1": "unknown key 'run.'; there are run.dir, ",
}


@pytest.mark.parametrize("override", REFUSED, ids=range(len(REFUSED)))
def test_a_value_that_none_can_use_is_one_line(override: str) -> None:
    with pytest.raises(UsageError, match=REFUSED[override]) as caught:
        load_config("demo.yaml", [override])
    assert len(str(caught.value)) < 900
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_no_config(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # which nobody writes into: to read it would never end
    (tmp_path / "link").symlink_to(tmp_path / "link")
    (tmp_path / "mine").symlink_to(configs_folder() / "demo.yaml")
    for name in (str(tmp_path / "pipe"), str(tmp_path / "link"), "/dev/zero"):
        with pytest.raises(UsageError, match=f"^{name}: is no regular file; give a file of YAML$"):
            load_config(name)
    for name in (str(tmp_path), "x" * 300, ""):
        with pytest.raises(UsageError, match=f"^{name}: no such config; "):
            load_config(name)
    for name in ("a\0b", "\ud800", "x" * 5000):
        with pytest.raises(UsageError, match=r"^--config: text "):
            load_config(name)
    assert load_config(str(tmp_path / "mine")) == load_config("demo.yaml")
    with pytest.raises(OSError, match="is a link"):  # as it is in a folder of somebody's
        read_config(tmp_path / "mine")


def test_overrides_are_yaml(tmp_path: Path) -> None:
    config = load_config("demo.yaml", ["optim.lr=1e-3", "model.predictor=null", "run.max_steps=5"])
    assert isinstance(config, PretrainConfig)
    assert (config.optim.lr, config.model.predictor, config.run.max_steps) == (1e-3, None, 5)


def test_clips_on_the_grid_need_a_fitting_step() -> None:
    name = "pretrain/sce_k400_r2plus1d_18.yaml"
    fitting = load_config(name, ["clip.frames=8", "clip.seconds=2.56", "clip.grid=8"])
    assert fitting.shape.grid == 8
    assert load_config(name, ["clip.frames=16", "clip.seconds=2.56", "clip.grid=4"]).shape.grid == 4
    with pytest.raises(UsageError, match=r"clip: grid 4 needs frames a multiple of 4/25 s apart"):
        load_config(name, ["clip.grid=4"])  # 16 frames of 1.28 s
    with pytest.raises(UsageError, match=r"16 frames over 2.56 s are 4/25 s apart"):
        load_config(name, ["clip.grid=8", "clip.seconds=2.56"])


@pytest.mark.parametrize("given", ["off", "offline", "online"])
def test_every_way_to_track_can_be_typed(given: str) -> None:
    assert load_config("demo.yaml", [f"track.wandb={given}"]).track.wandb == given


def test_bounds_ascend_and_one_frame_has_no_difference() -> None:
    with pytest.raises(UsageError, match=r"^augment\.area=\[0\.9, 0\.2\]: .*lower bound first"):
        load_config("demo.yaml", ["augment.area=[0.9, 0.2]"])
    with pytest.raises(UsageError, match="needs clips of more than one frame"):
        load_config("demo.yaml", ["clip.frames=1", "augment.temporal_difference=0.5"])
    with pytest.raises(UsageError, match=r"^clip\.grid=3: clip\.grid: "):
        load_config("demo.yaml", ["clip.grid=3"])


LINEAR = "linear/k400_r3d_18.yaml"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.temp=0.1", "'objective' is of task pretrain; a linear run has none"),
        ("model.projector.dim=4", "'model.projector' is of task pretrain; a linear run has none"),
        ("model.momentum=0.9", "'model.momentum' is of task pretrain"),
        ("head.dropuot=0.5", "unknown key 'head.dropuot'; did you mean 'head.dropout'?"),
        ("head.dropout=1", "head.dropout: .*less than 1, got 1"),
        ("task=tune", "task 'tune' is unknown; did you mean 'finetune'?"),
        ("augment.recipe=crop_flip", "'crop_flip' is not for labels; take one of video_linear"),
        ("augment.area=[0.2, 1.0]", "video_linear has no random resized crop"),
        ("augment={antialias: true}", "'augment.recipe' is missing"),
        ("clip.max_gap=1", "a run with labels takes one clip of a video"),
        ("train.checkpoint_activations=true", "a frozen trunk keeps no activations"),
    ],
)
def test_a_run_with_labels_has_keys_of_its_own(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_config(LINEAR, [override])
    assert "\n" not in str(caught.value)


def test_a_pretraining_has_none_of_them() -> None:
    with pytest.raises(UsageError, match="'head' is of task linear and finetune; a pretrain run"):
        load_config("demo.yaml", ["head.dropout=0.5"])
    with pytest.raises(UsageError, match="'video_linear' does not pretrain"):
        load_config("demo.yaml", ["augment.recipe=video_linear"])
    with pytest.raises(UsageError, match="task linear, where only pretrain will do"):
        load_pretraining(LINEAR)

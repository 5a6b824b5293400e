"""What a run says of itself before it starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sce_video.config.load import load_pretraining
from sce_video.engine.preview import describe, explain
from sce_video.engine.start import load_run
from sce_video.errors import UsageError
from sce_video.stream.data import planned_data
from tests.runs import TRAIN, run
from tests.unit.evals.small_set import CLASSES, make_other_set, make_set, random_encoder

SMALL = ("model.width=8", "clip.size=32", "clip.frames=4", "train.batch_size=8")
K400 = "pretrain/sce_k400_r2plus1d_18.yaml"


def test_the_plan_says_what_the_run_will_do() -> None:
    config = load_pretraining(K400)
    text = describe(config, planned_data(config, None, 8)[0], cuda=True)
    assert "ZeRO-1, 8 rank(s) on cuda, bf16 autocast" in text
    assert "2 clips of 16 frames over 1.28 s, 112 px" in text
    assert "512 = 8 rank(s) x 1 micro-batch(es) of 64" in text
    assert "93,800 = 200 epochs x 469\n" in text
    assert "lars lr 2.4, 4.8 after scaling (linear), warm-up 16,415 steps, cosine to 0" in text
    assert "queue or bank 0.0625" in text
    assert "compile    the trunk of each branch, block by block" in text
    short = load_pretraining(K400, ["run.max_steps=20", "optim.decay_epochs=[120, 160]", *SMALL])
    text = describe(short, planned_data(short, 9_000, 1)[0], cuda=False)
    assert "steps      20 (run.max_steps), on the schedules of 225,000 = 200 epochs" in text
    assert "x 0.1 at epochs [120.0, 160.0]" in text
    assert "compile " not in text
    assert "the queue of 65,536 holds more than a quarter of the set's 18,000 keys" in text


@pytest.mark.slow
def test_a_dry_run_needs_no_shards_and_leaves_nothing(tmp_path: Path) -> None:
    def dry(*arguments: str) -> tuple[int, str]:
        done = run(sys.executable, TRAIN, *arguments, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    code, text = dry("--dry-run", "--gpus", "8")
    assert code == 0, text
    assert "240,436 videos (the published set's; no shards here)" in text
    assert "8 rank(s) on cuda" in text
    code, text = dry("--dry-run", "--config", "demo.yaml")
    assert (code, text.count("\n")) == (2, 1)
    assert "shards/demo: no shards here, and no set of known size; give --samples N" in text
    code, text = dry("--dry-run", "--samples", "100")
    assert (code, text.count("\n")) == (2, 1)
    assert "100 samples has no full batch of 512" in text
    code, text = dry("--samples", "1000")
    assert code == 2
    assert "--gpus and --samples go with --dry-run" in text
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("choice", "stage", "cuda", "compiles"),
    [
        ("auto", 2, True, True),
        ("auto", 3, True, False),
        ("auto", 1, False, False),
        ("true", 1, False, True),
        ("false", 1, True, False),
    ],
)
def test_the_plan_says_whether_trunks_are_compiled(
    choice: str, stage: int, cuda: bool, compiles: bool
) -> None:
    keys = [f"train.compile={choice}", f"deepspeed.zero_optimization.stage={stage}"]
    config = load_pretraining(K400, [*SMALL, *keys])
    told = describe(config, planned_data(config, 64, 1)[0], cuda=cuda)
    assert ("\ncompile    the trunk" in told) == compiles


def test_a_warm_up_beyond_the_end_is_a_warning() -> None:
    config = load_pretraining("demo.yaml", [*SMALL, "optim.warmup_epochs=50", "train.epochs=2"])
    plan, _ = planned_data(config, 64, 1)
    told = describe(config, plan, cuda=False)
    assert "warning    the learning rate warms up for 50 epochs, and the run has 2" in told


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set, another without one of its classes, and an encoder."""
    folder = tmp_path_factory.mktemp("preview")
    make_set(folder, each=3)
    make_other_set(folder, CLASSES[1:], renamed="Yoga")
    random_encoder(folder / "encoder")
    return folder


def plan_of(root: Path, *keys: str, task: str = "linear", samples: int | None = None) -> str:
    """What ``--dry-run`` prints of a run from the encoder, on six samples."""
    given = [f"data.shards={root / 'shards'}", f"run.init_from={root / 'encoder'}"]
    few = [f"run.dir={root / 'new'}", "train.batch_size=3"]
    return explain(load_run(f"{task}/own.yaml", [*given, *few, *keys]), samples, None)


def test_the_plan_of_a_run_with_labels(root: Path) -> None:
    told = plan_of(root, "eval.every=2", "eval.split=test", "augment.mean=[0.1, 0.2, 0.3]")
    assert "r2plus1d_18_small width 4" in told
    assert "1 clips of 2 frames over 0.6 s, 16 px, mean 0.1 0.2 0.3, std 0.225 0.225 0.2" in told
    shards = root / "shards"
    assert f"\nheld out   {shards} test: one centre view each, every 2 epochs and at the e" in told
    assert "linear layer of 3 classes" in plan_of(root, samples=1000)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["run.init_from=nowhere"], "run.init_from: nowhere: no encoder"),
        (["run.init_from=ROOT/cut"], "run.init_from: .*its tensors are not its network's"),
        (["model.trunk=r3d_18"], "has trunk r2plus1d_18_small, the run's r3d_18; leave out model"),
        (["eval.every=1", "eval.split=tset"], "no split 'tset'"),
        (["eval.every=1", "eval.split=train"], "eval: train shares 6 samples with what is trained"),
        (["eval.every=1", "eval.shards=ROOT/none"], "none: no finished shard set"),
        (["eval.every=1", "eval.shards=ROOT/Bowling-DivingYoga"], "1 of its classes are not among"),
        (["deepspeed.fp16={enabled: true}"], r"deepspeed\.fp16: not to be set there"),
        (["data.split=tset"], "no split 'tset'"),
        (["train.batch_size=7"], "an epoch of 6 samples has no full batch of 7"),
        (["clip=null"], "holds videos; give clip.frames"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("task", ["linear", "finetune"])
def test_a_plan_refuses_what_the_start_does(
    keys: list[str], message: str, task: str, root: Path
) -> None:
    cut = root / "cut"
    if not cut.exists():
        random_encoder(cut)
        tensors = load_file(cut / "encoder.safetensors")
        with safe_open(cut / "encoder.safetensors", framework="pt") as stream:
            about = stream.metadata()
        tensors.popitem()
        save_file(tensors, cut / "encoder.safetensors", about)
    with pytest.raises(UsageError, match=message):
        plan_of(root, *(key.replace("ROOT", str(root)) for key in keys), task=task)
    assert not (root / "new").exists()

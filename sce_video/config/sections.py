"""A run's configuration: its sections and keys, with their defaults and units."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sce_video.arguments import did_you_mean
from sce_video.config.base import Count, NotNegative, Positive, Section, Share, key
from sce_video.config.recipes import RECIPES, RandomResizedCrop, Recipe, recipe_names
from sce_video.config.trunks import TRUNKS
from sce_video.files import LONGEST_NAME


class RunConfig(Section):
    """Where a run lives and how long it may take."""

    dir: str = key("runs/pretrain", "folder that the run writes")
    seed: int = key(0, "where first weights, order and every draw start from")
    max_steps: Count | None = key(None, "stop after these steps; schedules keep `train.epochs`")
    max_hours: Positive | None = key(None, "stop, saved, within these hours of the start")
    resume: Literal["auto", True, False] = key(
        False, "go on from the newest checkpoint in `run.dir`; auto = or start, where there is none"
    )
    init_from: str | None = key(
        None, "first weights of the trunk, and what it is and sees: a run, or as `--encoder`"
    )

    @field_validator("dir", "init_from")
    @classmethod
    def _can_be_a_path(cls, path: str | None) -> str | None:
        if any(len(os.fsencode(name)) > LONGEST_NAME for name in (path or "").split("/")):
            raise ValueError(f"a name of more than {LONGEST_NAME} bytes is no file's")
        return path


class DataConfig(Section):
    """Which samples, and how they are read."""

    shards: str | tuple[str, ...] = Field(
        description="folder or URL of a shard set; or tars of others: a glob, a range, a list"
    )
    split: str | None = key(None, "VALUE of column `split`, or COLUMN:VALUE; null = all samples")
    epoch_samples: Count | None = key(None, "samples that count as an epoch, of tars without index")
    cache: str | None = key(None, "fetched shards; null = $SCE_VIDEO_CACHE or ~/.cache/sce_video")
    cache_gib: Positive = key(100, "what the cache may hold, GiB")
    workers: int = key(2, "processes a rank that make clips; 0 = the trainer", ge=0, le=1024)
    decode: Literal["planned", "pyav", "decord", "torchcodec", "cuda"] = key(
        "planned", "what decodes videos: see Clips"
    )
    on_short: Literal["repeat", "drop"] = key(
        "repeat", "videos shorter than a clip repeat frames, or are left out"
    )
    max_bad_fraction: Share = key(0.001, "share of bad samples that stops a run, if above 10")


class ClipConfig(Section):
    """What a clip is."""

    frames: int = key(8, "frames of a clip", ge=1, le=4096)
    seconds: float = key(2.56, "span in the video, seconds", ge=0.001, le=10_000)
    size: int = key(112, "side of a view of full size, pixels", ge=16, le=8192)
    grid: Literal[1, 4, 8] = key(1, "frames between possible starts; 4, 8: layered shards")
    max_gap: NotNegative | None = key(None, "most seconds between starts of a video's clips")

    @model_validator(mode="after")
    def _steps_of_the_grid(self) -> ClipConfig:
        step = Fraction(str(self.seconds)) * 25 / self.frames
        if self.grid > 1 and (step.denominator > 1 or step % self.grid):
            raise ValueError(
                f"grid {self.grid} needs frames a multiple of {self.grid}/25 s apart; "
                f"{self.frames} frames over {self.seconds} s are {float(step):g}/25 s apart"
            )
        return self


RecipeName = Annotated[
    str, Field(description="how views differ: a row of the table in Augmentation")
]


Aspect = Annotated[float, Field(ge=0.01, le=100)]


class AugmentConfig(Section):
    """How views differ: a recipe, and what is to replace its own."""

    recipe: RecipeName
    size: int | None = key(
        None, "side of an image's view, pixels; null = `run.init_from`'s, else 224", ge=16, le=8192
    )
    mean: tuple[Share, Share, Share] | None = key(
        None, "of red, green, blue from 0 to 1; null = `run.init_from`'s, else the recipe's"
    )
    std: tuple[Positive, Positive, Positive] | None = key(
        None, "what they are divided by, less the mean; null as there"
    )
    flip: Share | None = key(None, "probability; null = the recipe's")
    area: tuple[Share, Share] | None = key(
        None, "least and most share of the frame in a random crop; null = the recipe's"
    )
    aspect: tuple[Aspect, Aspect] | None = key(
        None, "least and most width / height of that crop; null = the recipe's"
    )
    temporal_difference: Share | None = key(None, "probability; null = the recipe's")
    antialias: bool = key(True, "low-pass before shrinking; the published code has none")

    @field_validator("area", "aspect")
    @classmethod
    def _ascending(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds and bounds[0] > bounds[1]:
            raise ValueError(f"give the lower bound first, not {list(bounds)}")
        return bounds

    def find_recipe(self) -> Recipe:
        """The recipe; what this section gives replaces the recipe's own, in every view."""
        recipe = RECIPES[self.recipe]
        difference, (mean, std) = self.temporal_difference, recipe.stats
        views = []
        for view in recipe.views:
            crop = view.crop
            if isinstance(crop, RandomResizedCrop):
                crop = RandomResizedCrop(self.area or crop.area, self.aspect or crop.aspect)
            flip = view.flip if self.flip is None else self.flip
            views.append(replace(view, crop=crop, flip=flip))
        if difference is None:
            difference = recipe.temporal_difference
        stats = (self.mean or mean, self.std or std)
        return replace(recipe, views=tuple(views), stats=stats, temporal_difference=difference)


def _no_recipe(name: str, known: Sequence[str], why: str) -> str:
    """What is wrong with a recipe's name that is none of the ``known``, and those there are."""
    if name in RECIPES:
        return f"'{name}' {why}; take one of {', '.join(known)}"
    return f"'{name}' is unknown{did_you_mean(name, known)}"


class PretrainAugmentConfig(AugmentConfig):
    """How the views of a sample differ."""

    recipe: RecipeName = "kinetics_strength_0.5"

    @field_validator("recipe")
    @classmethod
    def _pretrains(cls, name: str) -> str:
        known = recipe_names(labelled=False)
        if name not in known:
            raise ValueError(_no_recipe(name, known, "does not pretrain"))
        return name


class LabelledAugmentConfig(AugmentConfig):
    """What is random in the one view of training with labels."""

    @model_validator(mode="after")
    def _trains_with_labels(self) -> LabelledAugmentConfig:
        known = recipe_names(labelled=True)
        if self.recipe not in known:
            raise ValueError(_no_recipe(self.recipe, known, "is not for labels"))
        (view,) = RECIPES[self.recipe].views
        if (self.area or self.aspect) and not isinstance(view.crop, RandomResizedCrop):
            raise ValueError(f"{self.recipe} has no random resized crop: leave out area and aspect")
        return self


Layers = Annotated[int, Field(description="linear layers, ReLU between them", ge=1, le=64)]
Hidden = Annotated[int, Field(description="width between layers", ge=1, le=65536)]
Norm = Annotated[bool, Field(description="BN before each ReLU; false = a bias instead")]
LastNorm = Annotated[bool, Field(description="BN without scale and bias at the end")]
LastBias = Annotated[bool, Field(description="the last linear layer has a bias")]


class HeadConfig(Section):
    """The projector, an MLP; the papers' own are in :func:`sce_video.model.heads.mlp_head`."""

    layers: Layers = 3
    hidden: Hidden = 1024
    dim: int = key(256, "width of the embedding", ge=1, le=65536)
    norm: Norm = True
    last_norm: LastNorm = True
    last_bias: LastBias = False


class PredictorConfig(Section):
    """The predictor, an MLP; its output is as wide as the projector's."""

    layers: Layers = 2
    hidden: Hidden = 1024
    norm: Norm = True
    last_norm: LastNorm = False
    last_bias: LastBias = False


if TYPE_CHECKING:
    TrunkName = str
else:
    TrunkName = Literal[tuple(TRUNKS)]


class TrunkConfig(Section):
    """The trunk."""

    trunk: TrunkName = key("r2plus1d_18", "the network: see Trunks")
    width: int = key(64, "channels after the stem; 64 = the published trunk", ge=1, le=4096)
    bn_group: Count | None = key(None, "ranks whose batches share BN statistics; null = all")


class ModelConfig(TrunkConfig):
    """The networks of pretraining."""

    projector: HeadConfig = HeadConfig()
    predictor: PredictorConfig | None = key(PredictorConfig(), "null = queries are projections")
    momentum: Share = key(0.99, "of the momentum encoder, at the first step")
    momentum_schedule: Literal["cosine", "constant"] = key("cosine", "goes to 1, or stays as it is")
    split_bn: Count | None = key(None, "shuffle-BN: parts of the keys' batch for BN; images only")


class LabelledModelConfig(TrunkConfig):
    """The network of training with labels."""

    colour: Literal["rgb", "lab"] = key("rgb", "lab = the two trunks that CMC leaves")


class ClassHeadConfig(Section):
    """The linear layer on the trunk."""

    dropout: float = key(0, "probability that an input of the layer is left out", ge=0, lt=1)


class OptimConfig(Section):
    """The optimizer and its learning rate."""

    name: Literal["lars", "sgd", "adamw"] = key("lars", "the optimizer")
    lr: Positive = key(2.4, "highest learning rate, before scaling")
    lr_scaling: Literal["linear", "sqrt", "none"] = key(
        "linear", "`lr` times batch / 256, times sqrt(batch), or as it is"
    )
    weight_decay: NotNegative = key(1e-6, "pull of weights to zero, a step")
    momentum: Share = key(0.9, "momentum of lars and sgd")
    warmup_epochs: NotNegative = key(35, "epochs in which the rate rises")
    warmup_start_lr: NotNegative = key(0, "rate of the first step; not scaled")
    final_lr: NotNegative = key(0, "rate that the cosine falls to; not scaled")
    clip_norm: NotNegative = key(0, "largest norm of the whole gradient; 0 = any")
    decay_epochs: tuple[Positive, ...] = key((), "rate falls to a tenth at each; none = a cosine")


SAVE_UNITS: dict[str, Literal["epochs", "steps", "min"]] = {
    "": "epochs",
    "epochs": "epochs",
    "steps": "steps",
    "min": "min",
}
"""What stands behind the number of `train.save_every` -> what it counts."""


class TrainConfig(Section):
    """How long, how much at once, and what is kept."""

    epochs: Count = key(200, "passes over the samples")
    batch_size: Count = key(512, "samples an optimizer step, of all ranks together")
    accumulate: Count = key(1, "micro-batches of a rank an optimizer step")
    precision: Literal["auto", "fp32", "bf16"] = key(
        "auto", "of the networks' arithmetic; auto = bf16 autocast on CUDA, else fp32"
    )
    checkpoint_activations: bool = key(False, "trunk in less memory for a third more arithmetic")
    compile: Literal["auto", True, False] = key(
        "auto", "trunks by torch.compile; auto = on CUDA, with ZeRO 0 to 2, where it works"
    )
    save_every: int | str = key(
        1, "between checkpoints: epochs, or `500 steps`, or `30 min`; the last is always saved"
    )
    keep: Count = key(3, "newest checkpoints that are kept")
    keep_every: Count | None = key(None, "epochs between checkpoints that are kept for good")

    @property
    def save_interval(self) -> tuple[float, Literal["epochs", "steps", "min"]]:
        """How many of what lie between two checkpoints."""
        number, _, unit = str(self.save_every).partition(" ")
        return float(number), SAVE_UNITS[unit]

    @field_validator("save_every", mode="before")
    @classmethod
    def _is_an_interval(cls, value: object) -> object:
        number, _, unit = str(value).partition(" ")
        digits = r"[0-9]{1,9}(\.[0-9]{1,9})?" if unit == "min" else r"[0-9]{1,9}"
        if unit not in SAVE_UNITS or not re.fullmatch(digits, number) or float(number) <= 0:
            raise ValueError(f"'{value}' is no interval; give epochs, or '500 steps', or '30 min'")
        return value


class HeldOutConfig(Section):
    """How the network is watched while it is trained; nothing of it reaches the training."""

    every: Count | None = key(None, "epochs between looks at held-out samples")
    split: str | None = key(None, "the held-out samples, as `data.split`")
    shards: str | None = key(None, "their set; null = `data.shards`")

    @model_validator(mode="after")
    def _knows_what_is_held_out(self) -> Self:
        given = self.split is not None or self.shards is not None
        if given != (self.every is not None):
            raise ValueError(
                "every and the held-out samples (split, or shards) go together: give both, such "
                "as eval.every=5 eval.split=test"
            )
        return self


class EvalConfig(HeldOutConfig):
    """What else watches pretraining."""

    linear: bool = key(True, "a linear layer learns the classes, where there are any")
    knn: Count = key(20, "neighbours that vote for a held-out sample")


class ZeroConfig(BaseModel):
    """DeepSpeed's ``zero_optimization``; keys beside ``stage`` are passed on."""

    model_config = ConfigDict(frozen=True, extra="allow")

    stage: Literal[0, 1, 2, 3] = key(1, "1 shards optimizer, 2 gradients too, 3 weights too")


class DeepSpeedConfig(BaseModel):
    """DeepSpeed's own section; keys beside ``zero_optimization`` are passed on."""

    model_config = ConfigDict(frozen=True, extra="allow")

    zero_optimization: ZeroConfig = ZeroConfig()


class TrackConfig(Section):
    """Where metrics go besides ``metrics.jsonl``."""

    wandb: Literal["offline", "online", "off"] = key(
        "offline", "Weights & Biases: on this disk, on its server, or not at all"
    )
    project: str = key("sce-video", "its name at Weights & Biases")
    every: Count = key(10, "optimizer steps between rows")

    @field_validator("wandb", mode="before")
    @classmethod
    def _yaml_off(cls, value: object) -> object:
        return "off" if value is False else value  # what YAML makes of a bare off

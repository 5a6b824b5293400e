"""A run's configuration: its sections and keys, with their defaults and units."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sce_video.config.base import Count, Positive, Section, Share
from sce_video.config.recipes import RECIPES, RandomResizedCrop, Recipe, recipe_names


class RunConfig(Section):
    """Where a run lives and how long it may take."""

    dir: str = "runs/pretrain"
    seed: int = 0
    max_steps: Count | None = None  # stop early; the schedules keep train.epochs
    resume: bool = False  # continue the run in ``dir`` from its newest checkpoint
    init_from: str | None = None  # the trunk's first weights: a run, or what --encoder takes


class DataConfig(Section):
    """Which samples."""

    shards: str | tuple[str, ...]  # a set's folder or URL; else tars: a glob, a range, a list
    split: str | None = None  # VALUE of column ``split``, or COLUMN:VALUE; none = all samples
    epoch_samples: Count | None = None  # of tars without an index: samples that count as an epoch
    cache: str | None = None  # of fetched shards; none = $SCE_VIDEO_CACHE, ~/.cache/sce_video
    cache_gib: Positive = 100  # what the cache may hold
    workers: int = Field(default=2, ge=0)  # processes a rank that make clips; 0 = the trainer's own
    decode: Literal["planned", "pyav", "decord", "torchcodec", "cuda"] = "planned"  # README
    on_short: Literal["repeat", "drop"] = "repeat"  # videos shorter than a clip: repeat frames
    max_bad_fraction: Share = 0.001  # of samples seen, but never below 10 samples


class ClipConfig(Section):
    """What a clip is."""

    frames: Count = 8
    seconds: Positive = 2.56  # span in the video
    size: int = Field(default=112, ge=16)  # side after cropping, pixels; a view may have a share
    grid: Literal[1, 4, 8] = 1  # frames between starts; 4, 8: layered shards, few packets a clip
    max_gap: float | None = Field(default=None, ge=0)  # seconds between a video's clips; null = any

    @model_validator(mode="after")
    def _steps_of_the_grid(self) -> ClipConfig:
        step = Fraction(str(self.seconds)) * 25 / self.frames
        if self.grid > 1 and (step.denominator > 1 or step % self.grid):
            raise ValueError(
                f"grid {self.grid} needs frames a multiple of {self.grid}/25 s apart; "
                f"{self.frames} frames over {self.seconds} s are {float(step):g}/25 s apart"
            )
        return self


class AugmentConfig(Section):
    """How views differ: a recipe's table (README, "Augmentation"); null = as the recipe has it."""

    recipe: str
    size: int | None = Field(default=None, ge=16)  # images: side of a view; clips have clip.size
    flip: Share | None = None
    area: tuple[Share, Share] | None = None  # of the frame, of the random crop
    aspect: tuple[Positive, Positive] | None = None  # width / height of the random crop
    temporal_difference: Share | None = None
    antialias: bool = True  # low-pass before shrinking; false = the published code

    @field_validator("area", "aspect")
    @classmethod
    def _ascending(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds and bounds[0] > bounds[1]:
            raise ValueError(f"give the lower bound first, not {list(bounds)}")
        return bounds

    def find_recipe(self) -> Recipe:
        """The recipe; what this section gives replaces the recipe's own, in every view."""
        recipe = RECIPES[self.recipe]
        difference = self.temporal_difference
        views = []
        for view in recipe.views:
            crop = view.crop
            if isinstance(crop, RandomResizedCrop):
                crop = RandomResizedCrop(self.area or crop.area, self.aspect or crop.aspect)
            flip = view.flip if self.flip is None else self.flip
            views.append(replace(view, crop=crop, flip=flip))
        if difference is None:
            difference = recipe.temporal_difference
        return replace(recipe, views=tuple(views), temporal_difference=difference)


class PretrainAugmentConfig(AugmentConfig):
    """Of pretraining."""

    recipe: str = "kinetics_strength_0.5"

    @field_validator("recipe")
    @classmethod
    def _pretrains(cls, name: str) -> str:
        known = recipe_names(labelled=False)
        if name not in known:
            raise ValueError(f"'{name}' does not pretrain; take one of {', '.join(known)}")
        return name


class LabelledAugmentConfig(AugmentConfig):
    """Of training with labels."""

    @model_validator(mode="after")
    def _trains_with_labels(self) -> LabelledAugmentConfig:
        known = recipe_names(labelled=True)
        if self.recipe not in known:
            raise ValueError(f"'{self.recipe}' is not for labels; take one of {', '.join(known)}")
        (view,) = RECIPES[self.recipe].views
        if (self.area or self.aspect) and not isinstance(view.crop, RandomResizedCrop):
            raise ValueError(f"{self.recipe} has no random resized crop: leave out area and aspect")
        return self


class HeadConfig(Section):
    """The projector, an MLP; the papers' own are in :func:`sce_video.model.heads.mlp_head`."""

    layers: Count = 3  # linear ones, ReLU between them; 1 = no hidden layer
    hidden: Count = 1024
    dim: Count = 256
    norm: bool = True  # BN before each ReLU; false: a bias instead, as MoCo v2
    last_norm: bool = True  # BN without scale and bias at the end
    last_bias: bool = False  # of the last linear layer


class PredictorConfig(Section):
    """The predictor, an MLP; its output is as wide as the projector's."""

    layers: Count = 2
    hidden: Count = 1024
    norm: bool = True
    last_norm: bool = False  # true: MoCo v3, SNCLR
    last_bias: bool = False


TrunkName = Literal[
    "r3d_18",
    "r3d_50",
    "r2plus1d_18",
    "r2plus1d_18_small",
    "r2plus1d_50",
    "resnet18",
    "resnet18_small",
    "resnet50",
]


class TrunkConfig(Section):
    """The trunk."""

    trunk: TrunkName = "r2plus1d_18"  # README, "Objectives and trunks"
    width: Count = 64  # channels after the stem; 64 = the published trunk


class ModelConfig(TrunkConfig):
    """The networks of pretraining."""

    projector: HeadConfig = HeadConfig()
    predictor: PredictorConfig | None = PredictorConfig()  # null: queries are projections
    momentum: Share = 0.99  # of the momentum encoder at step 0
    momentum_schedule: Literal["cosine", "constant"] = "cosine"  # to 1, or as it is
    split_bn: Count | None = None  # shuffle-BN on one device: splits of momentum-branch batches


class LabelledModelConfig(TrunkConfig):
    """The network of training with labels."""

    colour: Literal["rgb", "lab"] = "rgb"  # lab: the two trunks that CMC leaves


class ClassHeadConfig(Section):
    """What stands on the trunk: a linear layer."""

    dropout: float = Field(default=0, ge=0, lt=1)  # of its input


class OptimConfig(Section):
    """The optimizer and its learning rate."""

    name: Literal["lars", "sgd", "adamw"] = "lars"
    lr: Positive = 2.4  # before scaling
    lr_scaling: Literal["linear", "sqrt", "none"] = "linear"  # x batch/256, x sqrt(batch), x 1
    weight_decay: float = Field(default=1e-6, ge=0)
    momentum: Share = 0.9  # of lars and sgd
    warmup_epochs: float = Field(default=35, ge=0)
    warmup_start_lr: float = Field(default=0, ge=0)  # of the first step; not scaled
    final_lr: float = Field(default=0, ge=0)  # that the cosine falls to; not scaled
    clip_norm: float = Field(default=0, ge=0)  # largest norm of the whole gradient; 0 = any
    decay_epochs: tuple[Positive, ...] = ()  # lr falls to a tenth at each; none: cosine to 0


class TrainConfig(Section):
    """How long, how much at once, and what is kept."""

    epochs: Count = 200
    batch_size: Count = 512  # global: videos an optimizer step
    accumulate: Count = 1  # micro-batches an optimizer step
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 autocast on CUDA, else fp32
    checkpoint_activations: bool = False  # of the trunk: less memory, a third more arithmetic
    compile: bool = False  # the trunks, by torch.compile; ZeRO stages 0 to 2
    save_every: Count = 1  # epochs between checkpoints; the last is always saved
    keep: Count = 3  # newest checkpoints kept
    keep_every: Count | None = None  # epochs between checkpoints that are kept besides

    @model_validator(mode="after")
    def _saves_what_it_keeps(self) -> TrainConfig:
        if self.keep_every and self.keep_every % self.save_every:
            raise ValueError(
                f"keep_every {self.keep_every} must be a multiple of save_every {self.save_every}"
            )
        return self


class EvalConfig(Section):
    """How the trunk is watched while it is pretrained; nothing of it reaches the training."""

    linear: bool = True  # a linear layer learns the classes from features, where there are labels
    every: Count | None = None  # epochs between looks at held-out samples; null = none
    split: str | None = None  # the held-out samples, as data.split
    shards: str | None = None  # their set; null = data.shards
    knn: Count = 20  # neighbours of each among the others

    @model_validator(mode="after")
    def _knows_what_is_held_out(self) -> EvalConfig:
        given = self.split is not None or self.shards is not None
        if given != (self.every is not None):
            raise ValueError("every and the held-out samples (split, or shards) go together")
        return self


class ZeroConfig(BaseModel):
    """DeepSpeed's ``zero_optimization``; keys beside ``stage`` are passed on."""

    model_config = ConfigDict(frozen=True, extra="allow")

    stage: Literal[0, 1, 2, 3] = 1


class DeepSpeedConfig(BaseModel):
    """DeepSpeed's own section; keys beside ``zero_optimization`` are passed on."""

    model_config = ConfigDict(frozen=True, extra="allow")

    zero_optimization: ZeroConfig = ZeroConfig()


class TrackConfig(Section):
    """Where metrics go besides ``metrics.jsonl``."""

    wandb: Literal["offline", "online", "off"] = "offline"
    project: str = "sce-video"
    every: Count = 10  # steps between rows

    @field_validator("wandb", mode="before")
    @classmethod
    def _yaml_off(cls, value: object) -> object:
        return "off" if value is False else value  # what YAML makes of a bare off

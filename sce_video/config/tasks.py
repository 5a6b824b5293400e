"""A run's configuration by its task: the sections that all have, and those of its own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from sce_video.arguments import did_you_mean
from sce_video.config import sections
from sce_video.config.base import Section, key
from sce_video.config.objectives import OBJECTIVES, CMCConfig, ObjectiveConfig, SCEConfig
from sce_video.config.recipes import RECIPES
from sce_video.config.trunks import TRUNKS

_TASK = "pretraining without labels, a linear layer on a frozen trunk, or the whole network"


class Config(Section):
    """What every run has; which task it is says :data:`TASKS`."""

    task: str
    run: sections.RunConfig = sections.RunConfig()
    data: sections.DataConfig
    clip: sections.ClipConfig | None = key(None, "null for images")
    augment: sections.AugmentConfig
    model: sections.TrunkConfig = sections.TrunkConfig()
    optim: sections.OptimConfig = sections.OptimConfig()
    train: sections.TrainConfig = sections.TrainConfig()
    deepspeed: sections.DeepSpeedConfig = sections.DeepSpeedConfig()
    track: sections.TrackConfig = sections.TrackConfig()
    eval: sections.HeldOutConfig = sections.HeldOutConfig()

    @property
    def shape(self) -> sections.ClipConfig:
        """What a view is: the clip's, or one frame of an image."""
        size = self.augment.size or 224
        return self.clip or sections.ClipConfig.model_construct(frames=1, seconds=0.0, size=size)

    @property
    def views(self) -> int:
        """Views of a sample."""
        return 1

    @property
    def colour(self) -> Literal["rgb", "lab"]:
        """What the trunk sees; lab: a trunk for lightness, one for colour."""
        return "rgb"

    def compiles(self, *, cuda: bool) -> bool:
        """Whether the trunks are to be compiled."""
        choice = self.train.compile
        return choice is True or (choice == "auto" and cuda)

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.clip and self.augment.size:
            raise ValueError("augment.size is for images; the size of clips is clip.size")
        if self.shape.frames == 1 and self.augment.temporal_difference:
            raise ValueError("augment.temporal_difference needs clips of more than one frame")
        if self.train.compile is True and self.deepspeed.zero_optimization.stage == 3:
            raise ValueError("train.compile needs ZeRO stage 0, 1 or 2: 3 takes weights away")
        return self


class PretrainConfig(Config):
    """Pretraining without labels."""

    task: Literal["pretrain"] = key("pretrain", _TASK)
    augment: sections.PretrainAugmentConfig = sections.PretrainAugmentConfig()
    model: sections.ModelConfig = sections.ModelConfig()
    objective: ObjectiveConfig = key(SCEConfig(), "the loss: see Objectives")
    eval: sections.EvalConfig = sections.EvalConfig()

    @property
    def views(self) -> int:
        """Views of a sample: the recipe's first ones, as many as the objective takes."""
        return self.objective.views or len(RECIPES[self.augment.recipe].views)

    @property
    def colour(self) -> Literal["rgb", "lab"]:
        """CMC's trunks are two."""
        return "lab" if isinstance(self.objective, CMCConfig) else "rgb"

    @field_validator("objective", mode="before")
    @classmethod
    def _sce_by_default(cls, section: object) -> object:
        if not isinstance(section, dict):
            return section
        name = section.get("name", "sce")
        if str(name) not in OBJECTIVES:
            raise ValueError(f"name '{name}' is unknown{did_you_mean(str(name), OBJECTIVES)}")
        return {"name": name, **section}

    @model_validator(mode="after")
    def _fits_the_objective(self) -> PretrainConfig:
        if self.objective.name == "cmc" and self.model.predictor:
            raise ValueError("model.predictor: CMC has none, set it to null")
        if self.model.split_bn and not TRUNKS[self.model.trunk].images:
            raise ValueError("model.split_bn is for 2-D trunks (resnet18, resnet50, ...)")
        queue = getattr(self.objective, "queue", None)
        keys = self.objective.queued * self.train.batch_size
        if queue is not None and keys > queue:
            raise ValueError(
                f"objective.queue {queue} is below the {keys} keys of a step "
                f"({self.objective.queued} a sample x train.batch_size)"
            )
        return self


class SupervisedConfig(Config):
    """Training with labels: a linear layer on a frozen trunk, or the whole network."""

    task: Literal["linear", "finetune"] = Field(description=_TASK)
    augment: sections.LabelledAugmentConfig
    model: sections.LabelledModelConfig = sections.LabelledModelConfig()
    head: sections.ClassHeadConfig = sections.ClassHeadConfig()

    @property
    def frozen(self) -> bool:
        """Whether the trunk stays as it is."""
        return self.task == "linear"

    @property
    def colour(self) -> Literal["rgb", "lab"]:
        """As the config has it."""
        return self.model.colour

    @model_validator(mode="after")
    def _has_no_dead_keys(self) -> SupervisedConfig:
        if self.clip and self.clip.max_gap is not None:
            raise ValueError("clip.max_gap: a run with labels takes one clip of a video")
        if self.frozen and self.train.checkpoint_activations:
            raise ValueError("train.checkpoint_activations: a frozen trunk keeps no activations")
        if self.frozen and self.model.bn_group:
            raise ValueError("model.bn_group: a frozen trunk takes no statistics of a batch")
        return self


AnyConfig = PretrainConfig | SupervisedConfig

TASKS: dict[str, type[PretrainConfig] | type[SupervisedConfig]] = {
    "pretrain": PretrainConfig,
    "linear": SupervisedConfig,
    "finetune": SupervisedConfig,
}
"""Value of ``task`` -> its configuration."""

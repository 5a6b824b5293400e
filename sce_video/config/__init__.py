"""A run's configuration: one YAML file, frozen and checked.

Sections are in ``sections.py``, what a task has of them in ``tasks.py``.
"""

from sce_video.config.load import (
    changed_keys,
    configs_folder,
    dump_config,
    find_config,
    flat,
    load_config,
    load_pretraining,
)
from sce_video.config.sections import (
    PRETRAINING_RECIPES,
    AugmentConfig,
    HeadConfig,
    ModelConfig,
    OptimConfig,
    TrackConfig,
)
from sce_video.config.tasks import TASKS, AnyConfig, Config, PretrainConfig, SupervisedConfig

__all__ = [
    "PRETRAINING_RECIPES",
    "TASKS",
    "AnyConfig",
    "AugmentConfig",
    "Config",
    "HeadConfig",
    "ModelConfig",
    "OptimConfig",
    "PretrainConfig",
    "SupervisedConfig",
    "TrackConfig",
    "changed_keys",
    "configs_folder",
    "dump_config",
    "find_config",
    "flat",
    "load_config",
    "load_pretraining",
]

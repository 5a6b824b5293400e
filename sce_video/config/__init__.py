"""A run's configuration: one YAML file, frozen and checked.

Sections are in ``sections.py``, what a task has of them in ``tasks.py``.
"""

from sce_video.config.load import (
    changed_keys,
    check_run_folder,
    configs_folder,
    dump_config,
    find_config,
    flat,
    load_config,
    load_pretraining,
)
from sce_video.config.sections import (
    AugmentConfig,
    HeadConfig,
    ModelConfig,
    OptimConfig,
    TrackConfig,
)
from sce_video.config.tasks import TASKS, AnyConfig, Config, PretrainConfig, SupervisedConfig

__all__ = [
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
    "check_run_folder",
    "configs_folder",
    "dump_config",
    "find_config",
    "flat",
    "load_config",
    "load_pretraining",
]

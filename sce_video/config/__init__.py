"""A run's configuration: one YAML file, frozen and checked; sections in ``sections.py``."""

from sce_video.config.load import (
    check_run_folder,
    configs_folder,
    dump_config,
    find_config,
    load_config,
)
from sce_video.config.sections import (
    PRETRAINING_RECIPES,
    AugmentConfig,
    Config,
    HeadConfig,
    ModelConfig,
    OptimConfig,
    TrackConfig,
)

__all__ = [
    "PRETRAINING_RECIPES",
    "AugmentConfig",
    "Config",
    "HeadConfig",
    "ModelConfig",
    "OptimConfig",
    "TrackConfig",
    "check_run_folder",
    "configs_folder",
    "dump_config",
    "find_config",
    "load_config",
]

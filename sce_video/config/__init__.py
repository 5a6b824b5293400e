"""A run's configuration: one YAML file, frozen and checked.

Sections are in ``sections.py``, what a task has of them in ``tasks.py``.
"""

from sce_video.config.load import changed_keys as changed_keys
from sce_video.config.load import configs_folder as configs_folder
from sce_video.config.load import dump_config as dump_config
from sce_video.config.load import find_config as find_config
from sce_video.config.load import flat as flat
from sce_video.config.load import load_config as load_config
from sce_video.config.load import load_pretraining as load_pretraining
from sce_video.config.sections import AugmentConfig as AugmentConfig
from sce_video.config.sections import HeadConfig as HeadConfig
from sce_video.config.sections import ModelConfig as ModelConfig
from sce_video.config.sections import OptimConfig as OptimConfig
from sce_video.config.sections import TrackConfig as TrackConfig
from sce_video.config.tasks import TASKS as TASKS
from sce_video.config.tasks import AnyConfig as AnyConfig
from sce_video.config.tasks import Config as Config
from sce_video.config.tasks import PretrainConfig as PretrainConfig
from sce_video.config.tasks import SupervisedConfig as SupervisedConfig

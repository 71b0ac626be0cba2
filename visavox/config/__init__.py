"""Every setting, typed; how configurations are read. `config.json` and `configs/*.json` are its values."""

from visavox.config.anomaly import AnomalyConfig
from visavox.config.base import Settings, Tunable
from visavox.config.fiveway import FiveWayConfig
from visavox.config.gend import GenDConfig
from visavox.config.loading import from_dict, help_text, load, reference, shipped
from visavox.config.schema import SYNC_FPS, Config, ConfigError, DetectorConfig, Prep
from visavox.config.td3mf import TD3MFConfig
from visavox.config.timesformer import TimeSformerSyncNetConfig
from visavox.config.xception import (
    LogitCalibration,
    Pooling,
    XceptionAudioConfig,
    XceptionFusedConfig,
    XceptionVideoConfig,
)
from visavox.config.zeroshot import ZeroShotConfig

__all__ = [
    "AnomalyConfig",
    "Config",
    "ConfigError",
    "DetectorConfig",
    "FiveWayConfig",
    "GenDConfig",
    "LogitCalibration",
    "Pooling",
    "Prep",
    "SYNC_FPS",
    "Settings",
    "TD3MFConfig",
    "TimeSformerSyncNetConfig",
    "Tunable",
    "XceptionAudioConfig",
    "XceptionFusedConfig",
    "XceptionVideoConfig",
    "ZeroShotConfig",
    "from_dict",
    "help_text",
    "load",
    "reference",
    "shipped",
]

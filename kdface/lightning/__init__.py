"""Plug-ins for the Lightning Trainer: data, callbacks, loggers. They work with any LightningModule."""

from kdface.lightning.data import FaceData
from kdface.lightning.ema import WeightAverage
from kdface.lightning.health import Health
from kdface.lightning.local_ddp import LocalDDP
from kdface.lightning.margin_warmup import MarginWarmup
from kdface.lightning.progress import Progress
from kdface.lightning.records import MetricRecords
from kdface.lightning.resume import Resume

__all__ = ["FaceData", "Health", "LocalDDP", "MarginWarmup", "MetricRecords", "Progress", "Resume", "WeightAverage"]

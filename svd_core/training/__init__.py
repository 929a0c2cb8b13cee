"""Train LoRA adapters, the temporal layers or a whole UNet on clips; a run can stop and resume at any moment."""

from .adapters import Adapters, AdapterWeights, adapted
from .data.samples import SampleSource, TrainingBatch, TrainingSample
from .log import LogRow, draw_loss, read_log
from .memory_estimate import TrainingMemory, training_memory
from .settings import TrainSettings
from .trainer import Trainer, TrainingProgress, TrainResult

__all__ = [
    "AdapterWeights",
    "Adapters",
    "LogRow",
    "TrainingProgress",
    "SampleSource",
    "TrainResult",
    "TrainSettings",
    "Trainer",
    "TrainingBatch",
    "TrainingMemory",
    "TrainingSample",
    "adapted",
    "draw_loss",
    "read_log",
    "training_memory",
]

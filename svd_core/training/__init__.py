"""Training: LoRA adapters, temporal layers or whole UNets on clips, resumable at any moment."""

from .sample import SampleSource, TrainingBatch, TrainingSample
from .settings import TrainSettings
from .trainer import Progress, Trainer, TrainResult

__all__ = [
    "Progress",
    "SampleSource",
    "TrainResult",
    "TrainSettings",
    "Trainer",
    "TrainingBatch",
    "TrainingSample",
]

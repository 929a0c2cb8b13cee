"""The public names of `svd_core`, imported from the rooms that own them."""

from .checkpoints import load_model
from .condition import Condition
from .lora import apply_loras, load_lora
from .model.model import SVDModel
from .pipelines.clip import AnimateSettings, animate
from .sampling.guidance import linear_guidance, triangle_guidance
from .sampling.sampler import sample
from .sampling.schedules import karras_sigmas

__all__ = [
    "AnimateSettings",
    "Condition",
    "SVDModel",
    "animate",
    "apply_loras",
    "karras_sigmas",
    "linear_guidance",
    "load_lora",
    "load_model",
    "sample",
    "triangle_guidance",
]

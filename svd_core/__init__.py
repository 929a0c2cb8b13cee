"""Stable Video Diffusion in plain PyTorch: a still image in, a short clip out.

In three lines:

    import svd_core as svd

    model = svd.load_model("svd_xt.safetensors", device="cuda", dtype=torch.float16)
    clip = svd.animate(model, PIL.Image.open("photo.jpg"), svd.AnimateSettings(motion_bucket=80))  # [T, H, W, 3]
"""

from .checkpoints import load_model
from .condition import Condition
from .lora import apply_loras, load_lora
from .model.model import SVDModel
from .pipelines.clip import AnimateSettings, animate
from .sampling.guidance import linear_guidance, triangle_guidance
from .sampling.sampler import sample
from .sampling.schedules import karras_sigmas
from .version import __version__

__all__ = [
    "AnimateSettings",
    "Condition",
    "SVDModel",
    "__version__",
    "animate",
    "apply_loras",
    "karras_sigmas",
    "linear_guidance",
    "load_lora",
    "load_model",
    "sample",
    "triangle_guidance",
]

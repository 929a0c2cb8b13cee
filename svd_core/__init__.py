"""Stable Video Diffusion in plain PyTorch: a still image in, a short clip out.

In three lines:

    import svd_core as svd

    model = svd.load_model("svd_xt.safetensors", device="cuda", dtype=torch.float16)
    clip = svd.animate(model, PIL.Image.open("photo.jpg"), svd.AnimateSettings(motion_bucket=80))  # [T, H, W, 3]
"""

from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .api import (
        AnimateSettings,
        Condition,
        SVDModel,
        animate,
        apply_loras,
        karras_sigmas,
        linear_guidance,
        load_lora,
        load_model,
        sample,
        triangle_guidance,
    )

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


def __getattr__(name: str) -> object:
    """Import the public names on first use, so that `svd-reel --help` does not wait seconds for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the public names before they are imported, too."""
    return sorted({*globals(), *__all__})

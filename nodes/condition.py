"""Nodes for the start image and its motion settings."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from ..svd_core.pictures import as_batch, fit
from ..svd_core.pipelines.batch import condition_pictures
from ..svd_core.pipelines.settings import AnimateSettings, off_distribution
from .host import comfy as host
from .shared import inputs
from .shared.clips import CLIP_KEY, ClipNote, make_conditioning
from .shared.model import LoadedModel

log = logging.getLogger("svd_reel")


@dataclass(frozen=True)
class Motion:
    """The value of the SVD_MOTION socket; `fps` is in frames per second, and the network receives one less."""

    motion_bucket_id: float = 127
    fps: float = 7
    augmentation_level: float = 0.02


# Values of published recipes; None uses the widgets.
PRESETS = {
    "from the widgets": None,
    "official (SVD, SVD-XT and 1.1)": Motion(),
    "calm": Motion(motion_bucket_id=40),
    "portrait or product": Motion(motion_bucket_id=90),
    "lively": Motion(motion_bucket_id=180, augmentation_level=0.1),
    "AnimateLCM": Motion(motion_bucket_id=80),
    "ComfyUI's own SVD node": Motion(fps=6, augmentation_level=0.0),
}


class SVDReelMotion:
    """Set the motion of a clip."""

    DISPLAY_NAME = "Set Motion (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = "Sets how much and how fast the image moves: motion bucket, frame rate, and noise on the start image."
    SEARCH_ALIASES = ["svd motion", "motion_bucket_id", "motion bucket", "fps_id", "cond_aug", "noise_aug_strength"]
    RETURN_TYPES = ("SVD_MOTION",)
    RETURN_NAMES = ("motion",)
    OUTPUT_TOOLTIPS = ("The motion settings, for Prepare Image for SVD.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "preset": inputs.choice(
                    PRESETS,
                    "A combination that is known to work; it replaces the three numbers below. SVD-XT 1.1 was tuned "
                    "for the official one only.",
                ),
                "motion_bucket_id": inputs.MOTION_BUCKET,
                "fps": inputs.FPS,
                "augmentation_level": inputs.AUGMENTATION,
            }
        }

    def execute(self, preset: str, motion_bucket_id: int, fps: int, augmentation_level: float) -> tuple:
        return (PRESETS[preset] or Motion(motion_bucket_id, fps, augmentation_level),)


class SVDReelCondition:
    """Encode an image into the conditioning and the empty latent of a clip."""

    DISPLAY_NAME = "Prepare Image for SVD"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Fits an image to the clip and encodes it for Stable Video Diffusion: the conditioning and an empty latent "
        "for Sample SVD Clip, or for KSampler with Export SVD to ComfyUI Model."
    )
    SEARCH_ALIASES = ["SVD_img2vid_Conditioning", "image to video", "img2vid", "svd conditioning", "init_image"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING", "LATENT")
    RETURN_NAMES = ("positive", "negative", "latent")
    OUTPUT_TOOLTIPS = (
        "The image and its motion, for the sampler.",
        "The unconditional input of guidance: the same without the image.",
        "An empty latent with the chosen size and length.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "image": inputs.IMAGE,
                "width": inputs.WIDTH,
                "height": inputs.HEIGHT,
                "frames": inputs.FRAMES,
                "fit": inputs.FIT,
                "seed": inputs.SEED,
            },
            "optional": {
                "motion": inputs.socket(
                    "SVD_MOTION", "Motion settings from Set Motion. Without them: bucket 127, 7 fps, noise 0.02."
                ),
                "clip_vision": inputs.socket(
                    "CLIP_VISION",
                    "An image encoder instead of the model's own, such as a CLIP ViT-H loaded separately.",
                    advanced=True,
                ),
                "vae": inputs.socket("VAE", "A VAE for encoding the image, instead of the model's own.", advanced=True),
                "background": inputs.BEHIND,
            },
        }

    def execute(
        self,
        model: LoadedModel,
        image: Tensor,
        width: int,
        height: int,
        frames: int,
        fit: str,
        seed: int,
        motion: Motion | None = None,
        clip_vision=None,
        vae=None,
        background: str = "white",
    ) -> tuple:
        model = model.with_parts(vae=vae, image_encoder=clip_vision)
        settings = clip_settings(model, width, height, frames, fit, seed, motion or Motion(), background)
        return condition_image(model, image, settings)


def clip_settings(
    model: LoadedModel,
    width: int,
    height: int,
    frames: int,
    fit_mode: str,
    seed: int,
    motion: Motion,
    background: str = "white",
    solver: str | None = None,
    steps: int = 0,
) -> AnimateSettings:
    """Return the resolved settings of the widgets; 0 takes the model's own. Values far from training are logged."""
    settings = AnimateSettings(
        width=width or None,
        height=height or None,
        frames=frames or None,
        steps=steps or None,
        motion_bucket=motion.motion_bucket_id,
        fps=motion.fps,
        augmentation=motion.augmentation_level,
        solver=solver,
        seed=seed,
        fit=fit_mode,
        background=background,
    ).resolve(model.config)
    for sentence in off_distribution(settings, model.config).values():
        log.warning("%s", sentence)
    return settings


def condition_image(model: LoadedModel, image: Tensor, settings: AnimateSettings) -> tuple[list, list, dict]:
    """Return positive and negative CONDITIONING and an empty LATENT for IMAGE [B, H, W, C] and resolved settings."""
    batch = as_batch(image, settings.background)
    pictures, placement = fit(batch, settings.width, settings.height, settings.fit)  # [B, 3, H, W]
    conditions = condition_pictures(model, pictures, settings)
    token = torch.cat([condition.token for condition in conditions])  # [B, 1, D]
    latent = torch.cat([condition.latent for condition in conditions])  # [B, 4, h, w]
    numbers = {
        "motion_bucket_id": settings.motion_bucket,
        "fps": settings.fps,
        "augmentation_level": settings.augmentation,
    }
    count = settings.frames
    positive = make_conditioning(token, latent, numbers, count)
    negative = make_conditioning(torch.zeros_like(token), torch.zeros_like(latent), numbers, count)
    empty = torch.zeros(len(pictures) * count, *latent.shape[1:], device=host.output_device())
    note = ClipNote(count, placement if placement.padded else None)
    return positive, negative, {"samples": empty, CLIP_KEY: note}


NODES = [SVDReelMotion, SVDReelCondition]

"""The node that animates an image in one step."""

from torch import Tensor

from ..svd_core.pipelines.settings import sigmas_of
from .condition import Motion, clip_settings, condition_image
from .decode import decode_latent
from .host import comfy as host
from .host.preview import Taken, played, shown
from .sample import describe, sample_latent, sampling_for
from .shared import inputs
from .shared.controls import ControlChain
from .shared.model import LoadedModel


class SVDReelAnimate:
    """Condition, sample and decode in one node."""

    DISPLAY_NAME = "Animate Image (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Animates an image in one node, with the settings that matter most. With the same seed, the result equals "
        "that of the single nodes."
    )
    SEARCH_ALIASES = [
        "image to video",
        "image to video animation",
        "img2vid",
        "i2v",
        "svd",
        "stable video",
        "stable video diffusion",
        "animate picture",
        "SVDSimpleImg2Vid",
    ]
    RETURN_TYPES = ("IMAGE", "LATENT", "FLOAT")
    RETURN_NAMES = ("frames", "latent", "fps")
    OUTPUT_TOOLTIPS = (
        "The frames of the clip, for Create Video, Save Animated WEBP, upscalers and frame interpolators.",
        "The clip as latents, to decode or sample again.",
        "The frame rate for which the motion was made, for Create Video.",
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
                "motion_bucket_id": inputs.MOTION_BUCKET,
                "fps": inputs.FPS,
                "augmentation_level": inputs.AUGMENTATION,
                "steps": inputs.whole(
                    0,
                    0,
                    1000,
                    "Sampling steps. 0 uses the model's own number (25 for SVD, 30 for SVD-XT). Fewer steps are "
                    "faster and rougher; below 15 details suffer.",
                ),
                "fit": inputs.FIT,
                "seed": inputs.SEED,
            },
            "optional": {
                "control": inputs.socket(
                    "SVD_CONTROL", "Steers or speeds up sampling. Connect Reuse Features or any control node."
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        image: Tensor,
        width: int,
        height: int,
        frames: int,
        motion_bucket_id: int,
        fps: int,
        augmentation_level: float,
        steps: int,
        fit: str,
        seed: int,
        control: ControlChain | None = None,
    ) -> tuple:
        taken, motion = Taken(), Motion(motion_bucket_id, fps, augmentation_level)
        settings = clip_settings(model, width, height, frames, fit, seed, motion, steps=steps)
        positive, negative, empty = condition_image(model, image, settings)
        sampling = sampling_for(model, settings.frames, seed, settings.solver, sigmas=sigmas_of(settings))
        latent = sample_latent(model, positive, negative, empty, sampling, control)
        frames = decode_latent(model.vae, latent, on_decode=host.Progress().decoded)
        entries = taken(*describe(latent["samples"], sampling)), played(frames, float(fps))
        return shown((frames, latent, float(fps)), *entries)


NODES = [SVDReelAnimate]

"""The node that does everything at once."""

from torch import Tensor

from ..svd_core.pipelines.clip import AnimateSettings
from .condition import Motion, condition_clips
from .decode import decode_clips
from .sample import sample_clips
from .shared import inputs
from .shared.controls import ControlChain
from .shared.model import LoadedModel


class SVDReelAnimate:
    """The whole chain in one node."""

    DISPLAY_NAME = "Animate Image (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Turns a picture into a clip in one node, with the settings that matter; the result is that of the single "
        "nodes with the same seed."
    )
    SEARCH_ALIASES = [
        "image to video",
        "img2vid",
        "i2v",
        "svd",
        "stable video diffusion",
        "animate picture",
        "SVDSimpleImg2Vid",
    ]
    RETURN_TYPES = ("IMAGE", "LATENT", "FLOAT")
    RETURN_NAMES = ("frames", "latent", "fps")
    OUTPUT_TOOLTIPS = (
        "The frames of the clip, for Create Video, Save Animated WEBP, upscalers and frame interpolators.",
        "The clip as latents, to decode or sample again.",
        "Frames per second at which the motion was made, for Create Video.",
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
                    "Sampling steps. 0 takes the model's own number (25 for SVD, 30 for SVD-XT). Fewer is faster and "
                    "rougher; below 15 details suffer.",
                ),
                "fit": inputs.FIT,
                "seed": inputs.SEED,
            },
            "optional": {
                "control": inputs.socket(
                    "SVD_CONTROL", "From Reuse Features or another control node, to steer or speed up the clip."
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
        motion = Motion(motion_bucket_id, fps, augmentation_level)
        positive, negative, empty = condition_clips(model, image, width, height, frames, fit, seed, motion)
        settings = AnimateSettings(steps=steps or None).resolve(model.config)
        latent = sample_clips(
            model, positive, negative, empty, seed, settings.solver, sigmas=settings.sigmas(), control=control
        )
        return (decode_clips(model.vae, latent), latent, float(fps))


NODES = [SVDReelAnimate]

"""The node that imposes a clip on the start image: a rough animation, or the motion of a driving clip."""

from torch import Tensor

from ..svd_core.controls.camera.control import camera_control, mode_settings
from ..svd_core.controls.driving_clip import USES
from ..svd_core.controls.signal import SIGNAL_MODES
from ..svd_core.pipelines.settings import STEERED_BUCKET
from ..svd_core.pipelines.steering import driving_signals
from .camera import warped_images
from .host import comfy as host
from .shared import inputs
from .shared.clips import start_pictures
from .shared.controls import ControlChain
from .shared.model import LoadedModel


class SVDReelControlByClip:
    """Impose the motion of a clip."""

    DISPLAY_NAME = "Control by Clip (SVD)"
    CATEGORY = f"{inputs.CATEGORY}/Control"
    DESCRIPTION = (
        "Makes a clip follow another one, with the usual weights and no extra passes: your own rough animation (a "
        "previz, a puppet, a screen capture), the camera of a driving clip, or the motion of all its pixels."
    )
    SEARCH_ALIASES = [
        "driving video",
        "motion transfer",
        "previz",
        "Time-to-Move",
        "TTM",
        "optical flow",
        "puppet",
        "vid2vid",
    ]
    RETURN_TYPES = ("SVD_CONTROL", "IMAGE", "MASK")
    RETURN_NAMES = ("control", "rough", "holes")
    OUTPUT_TOOLTIPS = (
        "The control, for Sample SVD Clip or the next control node.",
        "The rough frames that are imposed, with filled holes.",
        "The parts of the rough frames that are not imposed; there the model is free.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "image": inputs.socket("IMAGE", "The start image, the same that Prepare Image for SVD receives."),
                "clip": inputs.socket(
                    "IMAGE",
                    "The frames to follow, at least 2; they are spread evenly over the new clip. Begin an animation "
                    "with the start image itself.",
                ),
                "latent": inputs.socket(
                    "LATENT", "The latent from Prepare Image for SVD, which sets size and length of the clip."
                ),
                "use": inputs.choice(
                    USES,
                    "What is taken from the clip. animation imposes its frames as they are. camera moves the image "
                    "as most of the clip moves: pan, tilt, zoom and roll, for any image. flow moves every pixel as in "
                    "the clip, for an image with the same layout.",
                ),
                "strength": inputs.decimal(
                    1.0,
                    0.0,
                    3.0,
                    "How closely the clip is followed. 0 is off, 1 follows it, 2 is almost the rough frames. Lower it "
                    "to 0.7 if the result looks as rough as they are.",
                    step=0.05,
                ),
            },
            "optional": {
                "mask": inputs.socket(
                    "MASK",
                    "For animation: white where its frames count, one mask or one for each frame. Elsewhere the model "
                    "is free. Without it, everything counts.",
                ),
                "amount": inputs.decimal(
                    1.0,
                    0.0,
                    4.0,
                    "For camera and flow: factor of the motion. 0.5 halves it, 2 doubles it.",
                    step=0.05,
                ),
                "control": inputs.socket("SVD_CONTROL", "Another control, which is applied before this one."),
                "mode": inputs.choice(
                    SIGNAL_MODES,
                    "How the frames are imposed, as in Control Camera. dual clock leaves holes free and is best for "
                    "animations with a mask.",
                    default="dual clock",
                    advanced=True,
                ),
                "fit": inputs.choice(
                    inputs.FIT_MODES,
                    "How the image and an animation fill the clip. Use the same value as in Prepare Image for SVD.",
                    advanced=True,
                ),
                "vae": inputs.VAE,
                "background": inputs.BEHIND,
                "motion_bucket_id": inputs.STEERED_MOTION_BUCKET,
            },
        }

    def execute(
        self,
        model: LoadedModel,
        image: Tensor,
        clip: Tensor,
        latent: dict,
        use: str,
        strength: float,
        mask: Tensor | None = None,
        amount: float = 1.0,
        control: ControlChain | None = None,
        mode: str = "dual clock",
        fit: str = "crop",
        vae=None,
        background: str = "white",
        motion_bucket_id: int = STEERED_BUCKET,
    ) -> tuple:
        pictures, _, frames, _ = start_pictures(image, latent, fit, background)
        made = driving_signals(
            model.with_parts(vae=vae),
            pictures,
            clip,
            frames,
            use,
            mask=mask,
            amount=amount,
            fit_mode=fit,
            on_frame=host.Progress().decoded,
        )
        settings = mode_settings(mode)
        controls = [camera_control(one.signal, mode, strength=strength, **settings) for one in made]
        chain = (control or ControlChain()).imposing(controls, motion_bucket_id)
        return (chain, *warped_images(made))


NODES = [SVDReelControlByClip]

"""The node that changes a clip, and carries an edit of its first frame through it."""

from torch import Tensor

from ..svd_core.controls.inversion import inverted_control
from ..svd_core.controls.source_clip import DENOISE, SOURCE_MODES, source_control
from ..svd_core.pipelines.settings import STEERED_BUCKET
from ..svd_core.pipelines.steering import source_signals
from .camera import warped_images
from .host import comfy as host
from .shared import inputs
from .shared.clips import start_pictures
from .shared.controls import ControlChain
from .shared.model import LoadedModel


class SVDReelEditClip:
    """Change a clip."""

    DISPLAY_NAME = "Edit Clip (SVD)"
    CATEGORY = f"{inputs.CATEGORY}/Control"
    DESCRIPTION = (
        "Changes a clip instead of making one from noise: sampling starts from its frames. If you edit its first "
        "frame, the edit is carried along the motion of the clip. It needs no special weights and no extra passes."
    )
    SEARCH_ALIASES = ["vid2vid", "video to video", "Videoshop", "SDEdit", "edit video", "restyle", "propagate edit"]
    RETURN_TYPES = ("SVD_CONTROL", "IMAGE", "MASK")
    RETURN_NAMES = ("control", "edited", "unsure")
    OUTPUT_TOOLTIPS = (
        "The control, for Sample SVD Clip or the next control node.",
        "The frames that sampling starts from, with the edit carried into all of them.",
        "Where the motion of the clip is not sure, so that the source shows as it is.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "image": inputs.socket(
                    "IMAGE",
                    "The first frame of the clip, as it is or edited; the same image that Prepare Image for SVD "
                    "receives.",
                ),
                "clip": inputs.socket(
                    "IMAGE", "The frames to change, at least 2; they are spread evenly over the new clip."
                ),
                "latent": inputs.socket(
                    "LATENT", "The latent from Prepare Image for SVD, which sets size and length of the clip."
                ),
                "denoise": inputs.decimal(
                    DENOISE,
                    0.0,
                    1.0,
                    "Share of the sampling that changes the clip. 0.2 keeps nearly everything, 0.4 redraws surfaces, "
                    "0.6 keeps the layout only, 1 keeps nothing. Raise it if an edit looks pasted.",
                    step=0.05,
                ),
            },
            "optional": {
                "control": inputs.socket("SVD_CONTROL", "Another control, which is applied before this one."),
                "fit": inputs.choice(
                    inputs.FIT_MODES,
                    "How image and clip fill the new clip. Use the same value as in Prepare Image for SVD.",
                    advanced=True,
                ),
                "vae": inputs.VAE,
                "background": inputs.BEHIND,
                "motion_bucket_id": inputs.STEERED_MOTION_BUCKET,
                "mode": inputs.choice(
                    SOURCE_MODES,
                    "What sampling starts with. noise: the frames with random noise. inversion: the noise that the "
                    "model would turn into the clip, which keeps what was not edited at denoise 0.5 to 0.7 and takes "
                    "up to three times as long.",
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        image: Tensor,
        clip: Tensor,
        latent: dict,
        denoise: float,
        control: ControlChain | None = None,
        fit: str = "crop",
        vae=None,
        background: str = "white",
        motion_bucket_id: int = STEERED_BUCKET,
        mode: str = SOURCE_MODES[0],
    ) -> tuple:
        pictures, _, frames, _ = start_pictures(image, latent, fit, background)
        report = host.Progress().decoded
        model = model.with_parts(vae=vae)
        made = source_signals(model, pictures, clip, frames, fit_mode=fit, on_frame=report)
        if mode == SOURCE_MODES[0]:
            controls = [source_control(one.signal, denoise) for one in made]
        else:
            encoders = (model.encode_latent, model.encode_image)
            controls = [inverted_control(*encoders, one.signal, clip, denoise, fit_mode=fit) for one in made]
        chain = (control or ControlChain()).imposing(controls, motion_bucket_id)
        return (chain, *warped_images(made))


NODES = [SVDReelEditClip]

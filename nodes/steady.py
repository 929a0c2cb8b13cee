"""Nodes that keep clips steady: sampling controls, and a colour match for finished frames."""

import torch
from torch import Tensor

from ..svd_core.controls.skip_guidance import SkipGuidance
from ..svd_core.controls.steady import MAX_REGIONS, ColourAnchor, FirstFrame, SteadyGuidance
from ..svd_core.networks.vae import LATENT_SCALE
from ..svd_core.pictures.colours import METHODS, match_colours
from ..svd_core.sampling.schedules import SIGMA_MAX
from .shared import inputs
from .shared.clips import check_samples
from .shared.controls import ControlChain

CATEGORY = f"{inputs.CATEGORY}/Control"


class SVDReelSteady:
    """Keep a clip steady while it is sampled."""

    DISPLAY_NAME = "Keep Clip Steady (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Prevents burnt colours, a first frame that differs from the image, and drifting colours while the clip is "
        "sampled, and sharpens it by skip guidance. Each part is off until you set it, and only skip guidance takes "
        "extra time. The interval in Shape Guidance over Frames also helps: it leaves guidance out of the first or "
        "last steps."
    )
    SEARCH_ALIASES = [
        "RescaleCFG",
        "guidance rescale",
        "APG",
        "adaptive projected guidance",
        "STG",
        "skip guidance",
        "perturbed attention",
        "saturation",
        "first frame",
        "colour drift",
        "stabilise",
    ]
    RETURN_TYPES = ("SVD_CONTROL",)
    RETURN_NAMES = ("control",)
    OUTPUT_TOOLTIPS = ("The control, for Sample SVD Clip or the next control node.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "rescale": inputs.decimal(
                    0.0,
                    0.0,
                    1.0,
                    "Returns the contrast added by guidance to its unguided value, by this share, frame by frame. 0 "
                    "is off, 0.3 to 0.7 is usual, 1 can look flat. It does nothing where guidance is 1.",
                    step=0.05,
                ),
                "keep_parallel": inputs.decimal(
                    1.0,
                    0.0,
                    1.0,
                    "How much is kept of the part of guidance that only strengthens the image (APG). 1 is off. Use 0 "
                    "to 0.3 if colours burn at guidance 3 and above. It does nothing where guidance is 1.",
                    step=0.05,
                ),
                "first_frame": inputs.decimal(
                    0.0,
                    0.0,
                    1.0,
                    "Holds the first frame at the start image by this share: fully while the layout forms, half at "
                    "the end. 0 is off, 1 gives the closest first frame. Lower it if the second frame jumps.",
                    step=0.05,
                ),
                "colour_anchor": inputs.decimal(
                    0.0,
                    0.0,
                    1.0,
                    "Pulls the mean colours of later frames towards the first frame in every late step, the last "
                    "frame by this share. 0 is off; 0.1 to 0.3 removes about half of a drift. More also holds back "
                    "light that should change.",
                    step=0.05,
                ),
            },
            "optional": {
                "guidance_limit": inputs.decimal(
                    0.0,
                    0.0,
                    10.0,
                    "Limits what guidance adds at scale 2, as a root mean square per latent value (APG). 0 is off, "
                    "0.06 is usual; lower values are milder.",
                    step=0.01,
                    advanced=True,
                ),
                "momentum": inputs.decimal(
                    0.0,
                    -0.95,
                    0.95,
                    "Share of earlier guidance that is added in every step (APG). 0 is off. -0.5 damps what repeats "
                    "and therefore burns.",
                    step=0.05,
                    advanced=True,
                ),
                "first_frame_sigma": inputs.decimal(
                    FirstFrame.sigma,
                    0.01,
                    SIGMA_MAX,
                    "Noise level at 1024x576 above which the first frame is held by its full share. Lower values "
                    "hold finer detail.",
                    advanced=True,
                ),
                "anchor_sigma": inputs.decimal(
                    ColourAnchor.sigma,
                    0.01,
                    SIGMA_MAX,
                    "Noise level at 1024x576 below which colours are anchored. Higher values start earlier and hold "
                    "more strongly.",
                    advanced=True,
                ),
                "anchor_regions": inputs.whole(
                    ColourAnchor.regions,
                    1,
                    MAX_REGIONS,
                    "Number of regions per side whose colours are anchored. 1 anchors the whole image. 2 to 8 also "
                    "corrects local tints, but holds back large things that move.",
                    advanced=True,
                ),
                "picture": inputs.socket(
                    "LATENT",
                    "The start image at the size of the clip, from VAE Encode, for first_frame. Without it, the "
                    "image of the conditioning is used, which contains the noise of augmentation_level.",
                    advanced=True,
                ),
                "control": inputs.socket("SVD_CONTROL", "Another control, which is applied before this one."),
                "skip_guidance": inputs.decimal(
                    0.0,
                    0.0,
                    4.0,
                    "Pushes frames away from what the network makes without attention: sharper and firmer at low "
                    "guidance. 0 is off, 1 is usual, above 2 edges ring. It takes one more pass in about a third of "
                    "the steps.",
                    step=0.05,
                ),
            },
        }

    def execute(
        self,
        rescale: float,
        keep_parallel: float,
        first_frame: float,
        colour_anchor: float,
        guidance_limit: float = 0.0,
        momentum: float = 0.0,
        first_frame_sigma: float = 1.0,
        anchor_sigma: float = 2.0,
        anchor_regions: int = 1,
        picture: dict | None = None,
        control: ControlChain | None = None,
        skip_guidance: float = 0.0,
    ) -> tuple[ControlChain]:
        pictures = [None] if picture is None else (check_samples(picture).float() * LATENT_SCALE).split(1)
        links = (
            [SkipGuidance(skip_guidance)],
            [SteadyGuidance(rescale, keep_parallel, guidance_limit, momentum)],
            [FirstFrame(first_frame, first_frame_sigma, one) for one in pictures],
            [ColourAnchor(colour_anchor, anchor_sigma, anchor_regions)],
        )
        chain = control or ControlChain()
        for link in links:
            chain = chain.then(link) if link[0].active else chain
        return (chain,)


class SVDReelColorMatch:
    """Match the colours of finished frames."""

    DISPLAY_NAME = "Match Clip Colours (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Gives all frames of a clip the colours of its first frame, or of another image: brightness, contrast and "
        "tint, not content. Works on clips from any source."
    )
    SEARCH_ALIASES = [
        "color match",
        "colour match",
        "color correction",
        "white balance",
        "exposure",
        "deflicker",
        "MKL",
    ]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("frames",)
    OUTPUT_TOOLTIPS = ("The corrected frames.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "frames": inputs.socket("IMAGE", "The frames of one clip in order, such as those of Decode SVD Clip."),
                "strength": inputs.decimal(
                    0.5,
                    0.0,
                    1.0,
                    "How far colours are moved to those of the first frame. 0 changes nothing, 0.5 halves the drift, "
                    "1 removes it. Stay below 0.5 if light should change during the clip.",
                    step=0.05,
                ),
                "method": inputs.choice(
                    METHODS,
                    "mean and contrast corrects red, green and blue separately. linear corrects them together, which "
                    "also removes a cast that mixes them (Monge-Kantorovich).",
                ),
            },
            "optional": {
                "reference": inputs.socket(
                    "IMAGE", "An image of any size from which the colours are taken, instead of the first frame."
                ),
                "ramp": inputs.whole(
                    0,
                    0,
                    inputs.MAX_FRAMES,
                    "Frames over which the strength grows from 0 at the first frame. 0 applies it at once. Use 3 or "
                    "4 if the reference differs from the first frame, to hide the jump.",
                ),
                "smoothing": inputs.decimal(
                    0.0,
                    0.0,
                    0.99,
                    "How much the correction is averaged over neighbouring frames. 0 corrects each frame separately, "
                    "against flickering light. 0.8 corrects slow drift and keeps short changes.",
                    step=0.05,
                ),
            },
        }

    def execute(
        self,
        frames: Tensor,
        strength: float,
        method: str,
        reference: Tensor | None = None,
        ramp: int = 0,
        smoothing: float = 0.0,
    ) -> tuple[Tensor]:
        if strength == 0:
            return (frames,)
        colours = frames[..., :3]  # an alpha channel is unchanged
        wanted = None if reference is None else reference[..., :3]
        matched = match_colours(colours, wanted, strength=strength, method=method, ramp=ramp, smoothing=smoothing)
        return (torch.cat([matched, frames[..., 3:]], dim=-1),)


NODES = [SVDReelSteady, SVDReelColorMatch]

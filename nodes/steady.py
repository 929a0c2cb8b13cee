"""Nodes that keep clips steady: controls of the sampling, and a colour match of finished frames."""

import torch
from torch import Tensor

from ..svd_core.controls.steady import ColourAnchor, FirstFrame, SteadyGuidance
from ..svd_core.networks.vae import LATENT_SCALE
from ..svd_core.pictures.colours import METHODS, match_colours
from .shared import inputs
from .shared.clips import check_samples
from .shared.controls import ControlChain

CATEGORY = f"{inputs.CATEGORY}/Control"


class SVDReelSteady:
    """Controls that keep a clip steady."""

    DISPLAY_NAME = "Keep Clip Steady (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Against burnt colours, a first frame that differs from the picture, and colours that drift, while the clip is "
        "sampled. Each part is off until it is set, and none takes more time. See also the interval in Shape Guidance "
        "over Frames, which leaves guidance out of the first or last steps."
    )
    SEARCH_ALIASES = [
        "RescaleCFG",
        "guidance rescale",
        "APG",
        "adaptive projected guidance",
        "saturation",
        "first frame",
        "colour drift",
        "stabilise",
    ]
    RETURN_TYPES = ("SVD_CONTROL",)
    RETURN_NAMES = ("control",)
    OUTPUT_TOOLTIPS = ("For Sample SVD Clip, or for another control to go on.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "rescale": inputs.decimal(
                    0.0,
                    0.0,
                    1.0,
                    "Brings the contrast that guidance adds back to that without it, by this share, frame by frame. 0 "
                    "is off, 0.3 to 0.7 is usual; 1 can look flat. Does nothing where guidance is 1.",
                    step=0.05,
                ),
                "keep_parallel": inputs.decimal(
                    1.0,
                    0.0,
                    1.0,
                    "How much is kept of the part of guidance that only makes the picture stronger (APG). 1 is off; 0 "
                    "to 0.3 stops colours from burning at guidance 3 and above. Does nothing where guidance is 1.",
                    step=0.05,
                ),
                "first_frame": inputs.decimal(
                    0.0,
                    0.0,
                    1.0,
                    "Holds the first frame at the start picture by this share: wholly while its layout forms, by half "
                    "at the end. 0 is off, 1 gives the closest first frame; lower it if the second frame jumps.",
                    step=0.05,
                ),
                "colour_anchor": inputs.decimal(
                    0.0,
                    0.0,
                    1.0,
                    "Draws the mean colours of later frames towards those of the first at every late step, the last "
                    "frame by this share. 0 is off, 0.1 to 0.3 takes out about half of a drift; more holds back light "
                    "that is meant to change.",
                    step=0.05,
                ),
            },
            "optional": {
                "guidance_limit": inputs.decimal(
                    0.0,
                    0.0,
                    10.0,
                    "Limit of what guidance adds at scale 2, as a root mean square per latent value (APG). 0 is none, "
                    "0.06 is usual; lower is milder.",
                    step=0.01,
                    advanced=True,
                ),
                "momentum": inputs.decimal(
                    0.0,
                    -0.95,
                    0.95,
                    "Share of earlier guidance that is added at every step (APG). 0 is off; -0.5 damps what repeats, "
                    "and so what burns.",
                    step=0.05,
                    advanced=True,
                ),
                "first_frame_sigma": inputs.decimal(
                    1.0,
                    0.01,
                    700.0,
                    "Noise level, for 1024x576, above which the first frame is held by its full share. Lower holds "
                    "finer detail.",
                    advanced=True,
                ),
                "anchor_sigma": inputs.decimal(
                    2.0,
                    0.01,
                    700.0,
                    "Noise level, for 1024x576, below which colours are anchored. Higher starts earlier and holds "
                    "more strongly.",
                    advanced=True,
                ),
                "anchor_regions": inputs.whole(
                    1,
                    1,
                    64,
                    "1 anchors the colours of the whole picture. 2 to 8 anchors so many by so many regions, against "
                    "local tints, and holds back large things that move.",
                    advanced=True,
                ),
                "picture": inputs.socket(
                    "LATENT",
                    "The start picture at the size of the clip from VAE Encode, for the first frame. Without it that "
                    "of the conditioning is used, which has the noise of augmentation_level in it.",
                    advanced=True,
                ),
                "control": inputs.socket("SVD_CONTROL", "Another control, which comes before this one."),
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
    ) -> tuple[ControlChain]:
        pictures = [None] if picture is None else (check_samples(picture).float() * LATENT_SCALE).split(1)
        links = (
            [SteadyGuidance(rescale, keep_parallel, guidance_limit, momentum)],
            [FirstFrame(first_frame, first_frame_sigma, one) for one in pictures],
            [ColourAnchor(colour_anchor, anchor_sigma, anchor_regions)],
        )
        chain = control or ControlChain()
        for link in links:
            chain = chain.then(link) if link[0].active else chain
        return (chain,)


class SVDReelColorMatch:
    """A colour match of finished frames."""

    DISPLAY_NAME = "Match Clip Colours (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Gives all frames of a clip the colours of its first frame, or of another picture: brightness, contrast and "
        "tint, not content. For clips from any source."
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
    OUTPUT_TOOLTIPS = ("The matched frames.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "frames": inputs.socket("IMAGE", "The frames of one clip, in order, such as those of Decode SVD Clip."),
                "strength": inputs.decimal(
                    0.5,
                    0.0,
                    1.0,
                    "How far the colours are brought to those of the first frame. 0 changes nothing, 0.5 halves the "
                    "drift, 1 removes it; where light is meant to change, stay below 0.5.",
                    step=0.05,
                ),
                "method": inputs.choice(
                    METHODS,
                    "mean and contrast: each of red, green and blue by itself. linear: the three together, which also "
                    "undoes a cast that mixes them (Monge-Kantorovich).",
                ),
            },
            "optional": {
                "reference": inputs.socket(
                    "IMAGE", "Take the colours from this picture, of any size, instead of the first frame."
                ),
                "ramp": inputs.whole(
                    0,
                    0,
                    1024,
                    "Frames over which the strength grows from nothing at the first frame. 0 is at once; 3 or 4 hides "
                    "a jump where the reference differs from the first frame.",
                ),
                "smoothing": inputs.decimal(
                    0.0,
                    0.0,
                    0.99,
                    "How much the correction is averaged over neighbouring frames. 0 is each frame by itself, against "
                    "flicker of the light; 0.8 corrects slow drift and leaves short changes alone.",
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
        colours = frames[..., :3]  # an alpha channel stays as it is
        wanted = None if reference is None else reference[..., :3]
        matched = match_colours(colours, wanted, strength=strength, method=method, ramp=ramp, smoothing=smoothing)
        return (torch.cat([matched, frames[..., 3:]], dim=-1),)


NODES = [SVDReelSteady, SVDReelColorMatch]

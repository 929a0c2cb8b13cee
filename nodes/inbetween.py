"""Nodes for clips between given images: first and last frame, chains of images, seamless loops."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..svd_core.controls.between import INBETWEEN_MODES
from ..svd_core.networks.vae import LATENT_SCALE
from ..svd_core.pictures import Placement
from ..svd_core.pipelines.between import (
    LOOP_MODES,
    Keyframe,
    count_over,
    finishing,
    fit_alike,
    join,
    make_keyframes,
    pair_up,
    sample_between,
    sample_loop,
)
from ..svd_core.pipelines.clip import AnimateSettings
from ..svd_core.sampling.controls import Control
from ..svd_core.sampling.solvers import SOLVERS, Step
from .condition import Motion, clip_settings
from .guidance import GuidanceCurve
from .host import comfy as host
from .shared import inputs
from .shared.clips import CLIP_KEY, ClipNote
from .shared.controls import ControlChain
from .shared.model import LoadedModel

CATEGORY = f"{inputs.CATEGORY}/Control"
OPEN, CLOSED = "stop at the last picture", "return to the first picture"
STRENGTH = inputs.decimal(
    1.0,
    0.0,
    1.0,
    "How closely the clip meets the images at its ends. 1 holds them exactly, 0 is off. Lower values release them "
    "earlier; 0.5 meets them roughly.",
    step=0.05,
    advanced=True,
)
OPTIONAL = {
    "motion": inputs.socket(
        "SVD_MOTION",
        "Motion settings from Set Motion. Without them: bucket 127, 7 fps, noise 0.02. Use 15 to 24 fps if little "
        "changes between the images, 7 if much changes.",
    ),
    "guidance": inputs.socket(
        "SVD_GUIDANCE",
        "The guidance curve from Shape Guidance over Frames, counted from the image at each end. Without it, the "
        "values the model was released with.",
    ),
    "sigmas": inputs.socket(
        "SIGMAS", "Noise levels from Make Noise Schedule. Without them, the model's own schedule and steps."
    ),
    "control": inputs.socket("SVD_CONTROL", "A control from another node, applied to every part between two images."),
    "solver": inputs.choice(
        SOLVERS, "The method of each step, as in Sample SVD Clip. euler is SVD's own.", advanced=True
    ),
    "strength": STRENGTH,
    "clip_vision": inputs.socket("CLIP_VISION", "An image encoder instead of the model's own.", advanced=True),
    "vae": inputs.socket("VAE", "A VAE for encoding the images, instead of the model's own.", advanced=True),
    "background": inputs.text(
        "white", "Colour behind transparent pixels: a name such as white or black, or #rrggbb.", advanced=True
    ),
}
FIT = inputs.choice(
    inputs.FIT_MODES,
    "How the first image fills the clip; the others are cut to its aspect ratio and placed alike. crop cuts off the "
    "sides. pad keeps the whole image on a blurred border, which Decode SVD Clip cuts off again. stretch distorts "
    "it.",
)


class SVDReelInbetween:
    """Sample a clip from one image to the next."""

    DISPLAY_NAME = "Sample between Images (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Samples a clip that starts at one image and ends at another, or passes through several, with the usual "
        "weights. The model processes the clip from both ends: two passes per step, so twice the time."
    )
    SEARCH_ALIASES = [
        "first and last frame",
        "start end image",
        "inbetween",
        "keyframe interpolation",
        "FLF2V",
        "ViBiDSampler",
        "Time Reversal Fusion",
        "morph",
    ]
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("The whole clip without repeated frames, for Decode SVD Clip.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "image": inputs.socket("IMAGE", "The first image. A batch of several is passed through in order."),
                "width": inputs.WIDTH,
                "height": inputs.HEIGHT,
                "frames": inputs.whole(
                    0,
                    0,
                    1024,
                    "Frames from one image to the next, including both. 0 uses the length the model was trained on: "
                    "14 for SVD, 25 for SVD-XT. Three images at 25 give 49 frames, because they share the frame in "
                    "the middle.",
                ),
                "mode": inputs.choice(
                    INBETWEEN_MODES,
                    "How both ends are combined. take turns runs each step forward from the start, then again from "
                    "the end: sharp. blend mixes both over the frames: even, but the middle may show both images. "
                    "Both take two model passes per step.",
                ),
                "ending": inputs.choice(
                    (OPEN, CLOSED),
                    "Where the clip ends. return to the first picture makes a seamless loop through all images and "
                    "adds one more part.",
                ),
                "fit": FIT,
                "seed": inputs.SEED,
            },
            "optional": {
                "end_image": inputs.socket(
                    "IMAGE",
                    "The last image, or a batch of images to pass through, of any size and aspect ratio. Leave it "
                    "open if image is a batch or the clip returns to the start.",
                ),
                **OPTIONAL,
                "exact_ends": inputs.switch(
                    True,
                    "Decode SVD Clip shows your own images where the clip meets them, as far as that causes "
                    "no jump. Switch it off to see what the VAE makes of them, which is slightly softer.",
                    advanced=True,
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
        mode: str,
        ending: str,
        fit: str,
        seed: int,
        end_image: Tensor | None = None,
        motion: Motion | None = None,
        guidance: GuidanceCurve | None = None,
        sigmas: Tensor | None = None,
        control: ControlChain | None = None,
        solver: str = "euler",
        strength: float = 1.0,
        clip_vision=None,
        vae=None,
        background: str = "white",
        exact_ends: bool = True,
    ) -> tuple:
        model = model.with_parts(vae=vae, image_encoder=clip_vision)
        settings = clip_settings(model, width, height, frames, fit, seed, motion or Motion(), background, solver)
        images = [image] if end_image is None else [image, end_image]
        keyframes, pictures, placement, device = prepare(model, images, settings)
        closed = ending == CLOSED
        pairs = pair_up(keyframes, closed)

        def sample_pair(number: int, **options) -> Tensor:
            pair = (key.to(device) for key in pairs[number])
            return sample_between(model.denoise, *pair, tied=len(keyframes) == 1, **options)

        options = sampling(model, settings, guidance, sigmas, mode, strength)
        clips = sample_all(sample_pair, len(pairs), options, seed, control, device)
        own = finishing(pictures, settings.frames, closed=closed, strength=strength, exact=exact_ends)
        finish = finish_after(own, (control or ControlChain()).finishing(len(pairs))[:1], 1)
        return (as_latent([join(clips, closed)], placement, closed, finish),)


class SVDReelLoop:
    """Sample a clip that loops without a visible join."""

    DISPLAY_NAME = "Sample Seamless Loop (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Samples a clip of one image that repeats without a visible join. Decode SVD Clip decodes across the join, "
        "too. Save the frames as an endless animation."
    )
    SEARCH_ALIASES = ["seamless loop", "cinemagraph", "perfect loop", "endless gif", "Mobius", "loop video"]
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("The loop as latents, for Decode SVD Clip.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "image": inputs.IMAGE,
                "width": inputs.WIDTH,
                "height": inputs.HEIGHT,
                "frames": inputs.whole(
                    0,
                    0,
                    1024,
                    "Frames to sample. 0 uses the length the model was trained on: 14 for SVD, 25 for SVD-XT. Except "
                    "with roll, the loop is one frame shorter, because its end is its start.",
                ),
                "mode": inputs.choice(
                    LOOP_MODES,
                    "How the loop closes. blend processes the clip from both ends at once: most even. take turns "
                    "does so alternately: sharper. Both move away and return, with two model passes per step. roll "
                    "shifts the frames between steps, one pass each, for flicker, water and smoke without travel; it "
                    "needs 25 steps or more to close.",
                ),
                "fit": inputs.FIT,
                "seed": inputs.SEED,
            },
            "optional": OPTIONAL,
        }

    def execute(
        self,
        model: LoadedModel,
        image: Tensor,
        width: int,
        height: int,
        frames: int,
        mode: str,
        fit: str,
        seed: int,
        motion: Motion | None = None,
        guidance: GuidanceCurve | None = None,
        sigmas: Tensor | None = None,
        control: ControlChain | None = None,
        solver: str = "euler",
        strength: float = 1.0,
        clip_vision=None,
        vae=None,
        background: str = "white",
    ) -> tuple:
        model = model.with_parts(vae=vae, image_encoder=clip_vision)
        settings = clip_settings(model, width, height, frames, fit, seed, motion or Motion(), background, solver)
        keyframes, _, placement, device = prepare(model, [image], settings)

        def sample_one(number: int, **options) -> Tensor:
            return sample_loop(model.denoise, keyframes[number].to(device), **options)

        options = sampling(model, settings, guidance, sigmas, mode, strength)
        clips = sample_all(sample_one, len(keyframes), options, seed, control, device)
        own = finishing(keyframes[0].latent, settings.frames, closed=True, strength=strength)
        finish = finish_after(own, (control or ControlChain()).finishing(len(clips)), len(clips))
        return (as_latent(clips, placement, True, finish),)


def prepare(
    model: LoadedModel, images: list[Tensor], settings: AnimateSettings
) -> tuple[list[Keyframe], Tensor, Placement, torch.device]:
    """Fit and encode all pictures, then make room for the UNet; returns the fitted ones and where that is, too."""
    pictures, placement = fit_alike(images, settings)
    keyframes = make_keyframes(model, pictures, settings)
    device = model.prepare_unet(settings.frames, settings.height // 8, settings.width // 8)
    return keyframes, pictures, placement, device


def sampling(
    model: LoadedModel,
    settings: AnimateSettings,
    guidance: GuidanceCurve | None,
    sigmas: Tensor | None,
    mode: str,
    strength: float,
) -> dict:
    """What every clip of one run shares, under the names of `sample_between` and `sample_loop`."""
    return {
        "frames": settings.frames,
        "sigmas": settings.sigmas() if sigmas is None else sigmas,
        "guidance": (guidance or GuidanceCurve()).over(settings.frames, model.config),
        "solver": settings.solver,
        "mode": mode,
        "strength": strength,
    }


def sample_all(
    sample_one: Callable[..., Tensor],
    count: int,
    options: dict,
    seed: int,
    control: ControlChain | None,
    device: torch.device,
) -> list[Tensor]:
    """The scaled latents of `count` clips, clip b made by `sample_one(b, ...)` with seed + b."""
    progress = host.Progress(max(1, (len(options["sigmas"]) - 1) * count), preview_device=device)

    def on_step(step: Step) -> None:
        # A control may have left out steps.
        progress.update(step.index + 1, step.denoised, total=step.steps)

    clips = []
    for number in range(count):
        host.check_interrupt()
        clip = sample_one(
            number,
            seed=(seed + number) % 2**64,
            controls=(control or ControlChain()).of_clip(number, count),
            on_step=count_over(on_step, number, count),
            **options,
        )
        clips.append(clip.to(host.output_device()))
    return clips


def finish_after(
    own: tuple[Control, ...], others: tuple[tuple[Control, ...], ...], clips: int
) -> tuple[tuple[Control, ...], ...]:
    """What goes on in the decoded frames of each of so many clips: `own` for all of them, then what others do there."""
    return tuple((*own, *(others[clip] if others else ())) for clip in range(clips)) if own else others


def as_latent(
    clips: list[Tensor], placement: Placement, closed: bool, finish: tuple[tuple[Control, ...], ...] = ()
) -> dict:
    """LATENT of clips of one length in scaled latents; those on sockets are not scaled, as the host's."""
    note = ClipNote(len(clips[0]), placement if placement.padded else None, closed, finish)
    return {"samples": torch.cat(clips) / LATENT_SCALE, CLIP_KEY: note}


NODES = [SVDReelInbetween, SVDReelLoop]

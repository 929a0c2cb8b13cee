"""Nodes for clips between given pictures: first and last frame, chains of pictures, seamless loops."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..svd_core.controls.between import MODES
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
    "How closely the pictures at the ends are met. 1 holds them exactly; lower lets go of them earlier, so that 0.5 "
    "meets them roughly, and 0 is off.",
    step=0.05,
    advanced=True,
)
OPTIONAL = {
    "motion": inputs.socket(
        "SVD_MOTION",
        "From Set Motion. Without it: bucket 127, 7 fps, noise 0.02. If little changes between the pictures use 15 to "
        "24 fps, if much changes 7.",
    ),
    "guidance": inputs.socket(
        "SVD_GUIDANCE",
        "From Shape Guidance over Frames; it counts from the picture that is looked from. Without it: what the model "
        "was released with.",
    ),
    "sigmas": inputs.socket("SIGMAS", "From Make Noise Schedule. Without it: the model's own schedule and steps."),
    "control": inputs.socket(
        "SVD_CONTROL", "From another control node; it takes part in every clip between two pictures."
    ),
    "solver": inputs.choice(SOLVERS, "As in Sample SVD Clip: how a step is made. euler is SVD's own.", advanced=True),
    "strength": STRENGTH,
    "clip_vision": inputs.socket("CLIP_VISION", "Another image encoder than the model's own.", advanced=True),
    "vae": inputs.socket("VAE", "Another VAE than the model's own for encoding the pictures.", advanced=True),
    "background": inputs.text(
        "white", "Colour under transparent pixels: a name such as white or black, or #rrggbb.", advanced=True
    ),
}
FIT = inputs.choice(
    inputs.FIT_MODES,
    "How the first picture fills the clip; the others lie in it as that one does, cut to its aspect. crop: sides are "
    "cut off. pad: all of it on a blurred continuation, which Decode SVD Clip cuts off again. stretch: distorted.",
)


class SVDReelInbetween:
    """From picture to picture."""

    DISPLAY_NAME = "Sample between Images (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Samples a clip that starts at one picture and ends at another, or passes through several, with the usual "
        "weights: the model sees the clip from both of its ends. Two model passes a step, so twice the time."
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
                "image": inputs.socket(
                    "IMAGE", "The first picture; a batch of several is passed through one after the other."
                ),
                "width": inputs.WIDTH,
                "height": inputs.HEIGHT,
                "frames": inputs.whole(
                    0,
                    0,
                    1024,
                    "Frames from one picture to the next, both counted. 0 takes what the model was trained on: 14 for "
                    "SVD, 25 for SVD-XT. Three pictures at 25 give 49 frames, because the one at the joint is there "
                    "once.",
                ),
                "mode": inputs.choice(
                    MODES,
                    "How the ends are brought together. take turns: each step forward from the start, then again from "
                    "the end; sharp. blend: both at once, mixed over the frames; even, but the middle may show both. "
                    "Two model passes a step either way.",
                ),
                "ending": inputs.choice(
                    (OPEN, CLOSED),
                    "return to the first picture makes a seamless loop through all of them, with one more clip in "
                    "between.",
                ),
                "fit": FIT,
                "seed": inputs.SEED,
            },
            "optional": {
                "end_image": inputs.socket(
                    "IMAGE",
                    "The last picture, or a batch: each one a place that the clip passes through. Any size and aspect. "
                    "May be left out if image is a batch or the clip returns.",
                ),
                **OPTIONAL,
                "exact_ends": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "tooltip": "Decode SVD Clip shows your pictures themselves where the clip meets them, as far "
                        "as that makes no jump. Off shows what the VAE makes of them, a little softer.",
                        "advanced": True,
                    },
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
    """A picture that moves and returns."""

    DISPLAY_NAME = "Sample Seamless Loop (SVD)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Samples a clip of one picture that repeats without a visible join. Decode SVD Clip decodes it across the join "
        "too; save it as an endless animation."
    )
    SEARCH_ALIASES = ["seamless loop", "cinemagraph", "perfect loop", "endless gif", "Mobius", "loop video"]
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("The loop, for Decode SVD Clip.",)
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
                    "Frames that are sampled. 0 takes what the model was trained on: 14 for SVD, 25 for SVD-XT. Except "
                    "with roll the loop is one frame shorter, because its end is its start.",
                ),
                "mode": inputs.choice(
                    LOOP_MODES,
                    "blend: the clip is led back to the picture, looked at from both ends at once; the most even. take "
                    "turns: from each end in turn; sharper. Both let things go and return, with two model passes a "
                    "step. roll: the clip has no end for the model; one pass a step, for flicker, water and smoke, no "
                    "travel; needs 25 steps or more to close.",
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

"""Nodes for clips between given images: first and last frame, chains of images, seamless loops."""

import torch
from torch import Tensor

from ..svd_core.controls.between_weights import MOST_REPEATS, LoadedBackwardMotion
from ..svd_core.networks.vae import LATENT_SCALE
from ..svd_core.pictures import Placement
from ..svd_core.pipelines.batch import sample_clips
from ..svd_core.pipelines.between import (
    BETWEEN_MODES,
    FINE_TUNED,
    LOOP_MODES,
    between_inputs,
    close_loop,
    end_controls,
    fit_alike,
    join,
    loop_input,
    make_keyframes,
)
from ..svd_core.sampling.controls import Control
from ..svd_core.sampling.solvers import SOLVERS
from .condition import Motion, clip_settings
from .guidance import GuidanceCurve
from .host import comfy as host
from .host.preview import ClipPreview
from .sample import sampling_for
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
    "background": inputs.BEHIND,
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
        "weights. Images of one scene are moved into each other; for others the model processes the clip from both "
        "ends, with two passes per step."
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
                    inputs.MAX_FRAMES,
                    "Frames from one image to the next, including both. 0 uses the length the model was trained on: "
                    "14 for SVD, 25 for SVD-XT. Three images at 25 give 49 frames, because they share the frame in "
                    "the middle.",
                ),
                "mode": inputs.choice(
                    (*BETWEEN_MODES, FINE_TUNED),
                    "How the clip gets from one image to the next. match measures how one image moves into the next "
                    "and imposes that: sharpest and fastest, for two images of one scene; others are blended. take "
                    "turns runs each step forward from the start, then again from the end. blend mixes both over "
                    "the frames: even, but the middle may show both images. These two take two passes per step, as "
                    "does fine-tuned, which needs between_weights.",
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
                "between_weights": inputs.socket(
                    "SVD_BETWEEN_WEIGHTS", "Weights from Load In-between Weights, for the mode fine-tuned."
                ),
                "repeats": inputs.whole(
                    0,
                    0,
                    MOST_REPEATS,
                    "Repeats of each step of the first half in the mode fine-tuned. 5 as published, for 3.5 times the "
                    "time; 0 is fast.",
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
        between_weights: LoadedBackwardMotion | None = None,
        repeats: int = 0,
    ) -> tuple:
        if between_weights is not None and mode != FINE_TUNED:
            raise ValueError(f"between_weights work in the mode {FINE_TUNED} only (got {mode!r}); choose it")
        if repeats and between_weights is None:
            raise ValueError(f"repeats ({repeats}) only apply to the mode {FINE_TUNED}; set them to 0")
        model = model.with_parts(vae=vae, image_encoder=clip_vision)
        settings = clip_settings(model, width, height, frames, fit, seed, motion or Motion(), background, solver)
        images = [image] if end_image is None else [image, end_image]
        pictures, placement = fit_alike(images, settings)
        closed, chain = ending == CLOSED, control or ControlChain()
        keyframes = make_keyframes(model, pictures, settings)
        given = {"mode": mode, "strength": strength, "closed": closed, "controls_of": chain.of_clip}
        given |= {"weights": between_weights, "repeats": repeats}
        clips = between_inputs(model, pictures, keyframes, settings.frames, **given)
        sampling = sampling_for(model, settings.frames, seed, solver, guidance, sigmas)
        made = sample_clips(
            model, clips, sampling, on_step=host.Progress(preview=ClipPreview(model.colours, settings.fps)).step
        )
        own = end_controls(pictures, settings.frames, closed=closed, strength=strength, exact=exact_ends)
        finish = finish_after(own, chain.finishing(len(clips))[:1], 1)
        return (as_latent([join(made, closed)], placement, closed, finish),)


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
                    inputs.MAX_FRAMES,
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
        pictures, placement = fit_alike([image], settings)
        chain = control or ControlChain()
        clips = [
            loop_input(key, mode=mode, strength=strength, controls=chain.of_clip(number, len(pictures)))
            for number, key in enumerate(make_keyframes(model, pictures, settings))
        ]
        sampling = sampling_for(model, settings.frames, seed, solver, guidance, sigmas)
        made = sample_clips(
            model, clips, sampling, on_step=host.Progress(preview=ClipPreview(model.colours, settings.fps)).step
        )
        own = end_controls(pictures[:1], settings.frames, closed=True, strength=strength)
        finish = finish_after(own, chain.finishing(len(clips)), len(clips))
        return (as_latent([close_loop(clip, mode) for clip in made], placement, True, finish),)


def finish_after(
    own: tuple[Control, ...], others: tuple[tuple[Control, ...], ...], clips: int
) -> tuple[tuple[Control, ...], ...]:
    """Return the controls that edit the frames of each clip: `own` for all clips, then those of other nodes."""
    return tuple((*own, *(others[clip] if others else ())) for clip in range(clips)) if own else others


def as_latent(
    clips: list[Tensor], placement: Placement, closed: bool, finish: tuple[tuple[Control, ...], ...] = ()
) -> dict:
    """Return the LATENT, unscaled as the host's, of clips of one length in scaled latents."""
    note = ClipNote(len(clips[0]), placement if placement.padded else None, closed, finish)
    return {"samples": (torch.cat(clips) / LATENT_SCALE).to(host.output_device()), CLIP_KEY: note}


NODES = [SVDReelInbetween, SVDReelLoop]

"""The node that samples a clip from noise."""

import logging
from dataclasses import replace

import torch
from torch import Tensor

from ..svd_core.controls.noise_mask import NoiseMask, fit_noise_mask
from ..svd_core.networks.vae import LATENT_SCALE
from ..svd_core.pipelines.batch import ClipInput, Sampling, sample_clips
from ..svd_core.pipelines.settings import AnimateSettings, sigmas_of
from ..svd_core.plan.memory_plan import MemoryPlan
from ..svd_core.sampling.solvers import SOLVERS
from .guidance import GuidanceCurve
from .host import comfy as host
from .host.preview import FPS, ClipPreview, Taken, shown
from .shared import inputs
from .shared.clips import CLIP_KEY, ClipNote, check_samples, clip_inputs, clip_length
from .shared.controls import ControlChain
from .shared.model import LoadedModel

log = logging.getLogger("svd_reel")

MOST_SPREAD = 3.0  # standard deviation of scaled latents without noise: those of pictures have about 1
SAME_SIGMA = 0.01  # relative difference by which two levels count as one


class SVDReelSampler:
    """Sample a clip."""

    DISPLAY_NAME = "Sample SVD Clip"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Samples the clip as latents. Without guidance and sigmas it uses the settings the loaded model was released "
        "with. It shows all frames moving while it works."
    )
    SEARCH_ALIASES = ["KSampler", "svd sampler", "sample video", "euler", "heun", "image to video"]
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("latent",)
    OUTPUT_TOOLTIPS = ("The clip as latents, for Decode SVD Clip or VAE Decode.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "positive": inputs.socket(
                    "CONDITIONING", "The conditioning from Prepare Image for SVD, or from ComfyUI's own SVD node."
                ),
                "negative": inputs.socket("CONDITIONING", "The unconditional input of guidance, from the same node."),
                "latent": inputs.socket(
                    "LATENT",
                    "An empty latent sets size and length. A latent with a clip is the start of sampling; use a "
                    "denoise below 1 in Make Noise Schedule.",
                ),
                "seed": inputs.SEED,
                "solver": inputs.choice(
                    SOLVERS,
                    "The method of each step. euler is SVD's own. heun is more exact and twice as slow. dpmpp_2m "
                    "costs the same per step as euler; 12 to 15 steps match 25 of euler, slightly sharper, but it "
                    "flickers below 8 steps. lcm is only for AnimateLCM models.",
                ),
            },
            "optional": {
                "guidance": inputs.socket(
                    "SVD_GUIDANCE",
                    "The guidance curve from Shape Guidance over Frames. Without it, the values the model was "
                    "released with.",
                ),
                "sigmas": inputs.socket(
                    "SIGMAS",
                    "Noise levels from Make Noise Schedule or any scheduler. Without it, the model's own schedule "
                    "and steps.",
                ),
                "churn": inputs.decimal(
                    0.0,
                    0.0,
                    100.0,
                    "Fresh noise in every step of euler and heun. 0 is the official value; values up to 10 vary the "
                    "details.",
                    advanced=True,
                ),
                "control": inputs.socket(
                    "SVD_CONTROL",
                    "Control Camera or another control node. Chained controls are applied in their order.",
                ),
                "plan": inputs.PLAN,
                "add_noise": inputs.switch(
                    True,
                    "Adds noise to the latent, at the first level of sigmas. Switch it off in the second of two "
                    "samplers that share one schedule: its latent still has the noise of the first.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        positive: list,
        negative: list,
        latent: dict,
        seed: int,
        solver: str,
        guidance: GuidanceCurve | None = None,
        sigmas: Tensor | None = None,
        churn: float = 0.0,
        control: ControlChain | None = None,
        plan: MemoryPlan | None = None,
        add_noise: bool = True,
    ) -> tuple:
        taken, model = Taken(), model.following(plan)
        sampling = sampling_for(model, clip_length(latent), seed, solver, guidance, sigmas, churn)
        sampling = replace(sampling, add_noise=add_noise)
        made = sample_latent(model, positive, negative, latent, sampling, control)
        return shown((made,), taken(*describe(made["samples"], sampling)))


def describe(samples: Tensor, sampling: Sampling) -> tuple[str, ...]:
    """Return size, length and steps of sampled latents in words."""
    height, width = (8 * side for side in samples.shape[-2:])
    return (f"{width}x{height}", f"{sampling.frames} frames", f"{len(sampling.sigmas) - 1} steps")


def sampling_for(
    model: LoadedModel,
    frames: int,
    seed: int,
    solver: str,
    guidance: GuidanceCurve | None = None,
    sigmas: Tensor | None = None,
    churn: float = 0.0,
) -> Sampling:
    """Return what all clips of a run share; without guidance or sigmas those of the model."""
    if model.variant == "animatelcm" and solver != "lcm":
        log.warning("AnimateLCM needs the solver lcm; %s blurs its clips", solver)
    if sigmas is None:
        sigmas = sigmas_of(AnimateSettings(frames=frames).resolve(model.config))
    scales = (guidance or GuidanceCurve()).over(frames, model.config)
    return Sampling(frames, sigmas, scales, solver=solver, seed=seed, churn=churn)


def sample_latent(
    model: LoadedModel,
    positive: list,
    negative: list,
    latent: dict,
    sampling: Sampling,
    control: ControlChain | None = None,
) -> dict:
    """Return the LATENT of all clips in `latent`, unscaled as the host's latents are."""
    chain = control or ControlChain()
    starts = check_samples(latent).split(sampling.frames)
    clips = clip_inputs(starts, positive, negative, chain, channels=model.config.unet.context_channels)
    clips = masked_clips(clips, latent.get("noise_mask"))
    check_noise(clips, latent.get(CLIP_KEY), sampling)
    fps = float(positive[0][1].get("fps", FPS))
    made = sample_clips(model, clips, sampling, on_step=host.Progress(preview=ClipPreview(model.colours, fps)).step)
    note = latent.get(CLIP_KEY) or ClipNote(sampling.frames)
    note = replace(note, fps=fps, closed=note.closed or chain.closed, finish=chain.finishing(len(clips)) or note.finish)
    note = replace(note, sigma=float(sampling.sigmas[-1]))
    return {**latent, "samples": (torch.cat(made) / LATENT_SCALE).to(host.output_device()), CLIP_KEY: note}


def masked_clips(clips: list[ClipInput], mask: Tensor | None) -> list[ClipInput]:
    """Return the clips with the noise mask of their LATENT as a control of each; None for no mask."""
    if mask is None:
        return clips
    if any(clip.latent is None for clip in clips):
        raise ValueError(
            "the latent has a noise mask, but no clip to keep outside it; connect the latents of a clip, or remove Set "
            "Latent Noise Mask"
        )
    frames, _, height, width = clips[0].latent.shape
    masks = fit_noise_mask(mask, len(clips) * frames, height, width).split(frames)
    return [
        clip._replace(controls=(*clip.controls, NoiseMask(clip.latent, rows)))
        for clip, rows in zip(clips, masks, strict=True)
    ]


def check_noise(clips: list[ClipInput], note: ClipNote | None, sampling: Sampling) -> None:
    """Log a warning where noise would be added to latents that still have noise, or is missing."""
    started = [clip.latent for clip in clips if clip.latent is not None]
    if not started:
        return
    left = note.sigma if note is not None else 0.0
    spread = max(float(latent.float().std(correction=0)) for latent in started)
    if sampling.add_noise and (left > 0 or spread > MOST_SPREAD):
        log.warning(
            "the latent still has noise (sigma %.3g), and noise is added once more; switch add_noise off, or end the "
            "first sampler at sigma 0",
            left or spread,
        )
    first = float(sampling.sigmas[0])
    if not sampling.add_noise and note is not None and abs(left - first) > SAME_SIGMA * first:
        log.warning(
            "add_noise is off, and sampling starts at sigma %.3g, but the latent has noise of sigma %.3g; continue "
            "with the sigmas after those of the first sampler",
            first,
            left,
        )


NODES = [SVDReelSampler]

"""The node that samples a clip from noise."""

import logging
from dataclasses import replace

import torch
from torch import Tensor

from ..svd_core.networks.config import SVDConfig
from ..svd_core.networks.vae import LATENT_SCALE
from ..svd_core.pipelines.clip import AnimateSettings
from ..svd_core.plan.memory_plan import MemoryPlan
from ..svd_core.sampling.noise import start_noise
from ..svd_core.sampling.sampler import sample
from ..svd_core.sampling.solvers import SOLVERS, Step
from .guidance import GuidanceCurve
from .host import comfy as host
from .shared import inputs
from .shared.clips import CLIP_KEY, ClipNote, check_samples, clip_length, read_conditioning
from .shared.controls import ControlChain
from .shared.model import LoadedModel

log = logging.getLogger("svd_reel")


class SVDReelSampler:
    """Sample a clip."""

    DISPLAY_NAME = "Sample SVD Clip"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Samples the clip as latents. Without guidance and sigmas it uses the settings the loaded model was released "
        "with. It shows all frames while it works if previews are enabled in the settings."
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
    ) -> tuple:
        model = model.following(plan)
        return (sample_clips(model, positive, negative, latent, seed, solver, guidance, sigmas, churn, control),)


def warn_of_solver(config: SVDConfig, solver: str) -> None:
    """Log where a model of few steps gets a solver that blurs it."""
    if config.variant == "animatelcm" and solver != "lcm":
        log.warning("AnimateLCM models are made for the solver lcm; with %s their clips are blurred", solver)


def sample_clips(
    model: LoadedModel,
    positive: list,
    negative: list,
    latent: dict,
    seed: int,
    solver: str = "euler",
    guidance: GuidanceCurve | None = None,
    sigmas: Tensor | None = None,
    churn: float = 0.0,
    control: ControlChain | None = None,
) -> dict:
    """LATENT of all clips in `latent`, clip b drawn with seed + b. Latents on sockets are not scaled, as the host's."""
    frames, samples = clip_length(latent), check_samples(latent)
    if latent.get("noise_mask") is not None:
        log.warning("the latent carries a mask, which Sample SVD Clip does not apply; KSampler does")
    size = tuple(samples.shape[-2:])
    settings = AnimateSettings(frames=frames).resolve(model.config)
    sigmas = settings.sigmas() if sigmas is None else sigmas
    scales = (guidance or GuidanceCurve()).over(frames, model.config)
    chain = control or ControlChain()
    kept = model.kept_bytes(chain, frames, *size)
    device = model.prepare_unet(chain.frames_at_once(frames), *size, kept)
    warn_of_solver(model.config, solver)
    starts = samples.split(frames)
    progress = host.Progress(max(1, (len(sigmas) - 1) * len(starts)), preview_device=device)
    clips = []
    for b, start in enumerate(starts):
        clip_seed = (seed + b) % 2**64

        def on_step(step: Step, b: int = b) -> None:
            # A control may have left out steps.
            progress.update(b * step.steps + step.index + 1, step.denoised, total=len(starts) * step.steps)

        host.check_interrupt()
        clip = sample(
            model.denoise,
            start_noise(frames, *size, clip_seed).to(device),
            sigmas,
            scales,
            read_conditioning(positive, b, frames, size).to(device),
            solver=solver,
            on_step=on_step,
            # Zeros are the host's way of saying that there is no clip to start from.
            latent=(start * LATENT_SCALE).to(device) if bool(start.any()) else None,
            churn=churn,
            seed=clip_seed,
            unconditional=read_conditioning(negative, b, frames, size).to(device),
            controls=chain.of_clip(b, len(starts)),
        )
        clips.append((clip / LATENT_SCALE).to(host.output_device()))
    note = latent.get(CLIP_KEY) or ClipNote(frames)
    note = replace(note, closed=note.closed or chain.closed, finish=chain.finishing(len(starts)) or note.finish)
    return {**latent, "samples": torch.cat(clips), CLIP_KEY: note}


NODES = [SVDReelSampler]

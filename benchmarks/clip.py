"""How long does a whole clip take, from picture to frames, compared with the diffusers pipeline?"""

from dataclasses import replace

import torch
from PIL import Image

import svd_core as svd
from svd_core.doctor.timing import difference, interleave

from . import peers
from .machine import matmul_case
from .options import Setting
from .results import Report
from .subjects import DIFFUSERS, OURS, model_of

CPU, GPU = ("half", "8x128x128"), ("real", "25x576x1024")
PARTS = ("unet", "vae", "image_encoder")
GATE, GATE_STEPS, GATE_CLIP = 1e-3, 4, "8x128x128"
"""The gate compares a small clip in float32. Differences grow over the steps, which start at sigma 700 on random
weights, so in half precision or over 25 steps both implementations would be far from the truth.
"""
LOW, HIGH, SEED = 1.0, 2.5, 11


@torch.no_grad()
def run(chosen: Setting) -> Report:
    """Time 25 steps on a GPU or 4 on the CPU, with the same noise for both, drawn as the pipeline draws it."""
    on_gpu = chosen.device.type == "cuda"
    steps, size = 25 if on_gpu else 4, "x".join(map(str, chosen.clip))
    columns = ["implementation", "median s", "IQR s", "times as fast", "share of matmul rate", "difference"]
    report = chosen.report("clip", f"Clip: {size}, {steps} steps, {chosen.scale} width, {chosen.dtype}", columns)
    distance = _gate(chosen)
    cases = _cases(chosen, steps)
    product, flop = matmul_case(chosen.device, chosen.dtype)
    rounds = min(chosen.rounds, 3)
    times = interleave({**cases, "product": product}, rounds, chosen.device, warmups=0)
    medians = {name: value.median(chosen.clock) for name, value in times.items()}
    rate = flop / medians["product"]
    for name in cases:
        row = {"implementation": name, "median s": medians[name], "IQR s": times[name].spread(chosen.clock)}
        row |= {"times as fast": f"{medians[DIFFUSERS] / medians[name]:.2f}", "difference": f"{distance:.1e}"}
        if on_gpu and chosen.clip == (25, 576, 1024) and chosen.scale == "real":
            row["share of matmul rate"] = f"{100 * 4.17e15 / medians[name] / rate:.0f} %"
        report.rows.append(row)
        report.bars.append((name, medians[name]))
    if on_gpu:
        report.notes.append(f"difference: after {GATE_STEPS} steps of {GATE_CLIP} in float32")
    report.notes.append(f"{rounds} rounds; guidance {LOW:g} to {HIGH:g}; share of 4.17 PFLOP at 25x576x1024 only")
    return report


def _gate(chosen: Setting) -> float:
    """Return the distance of our clip from diffusers' in float32; raises SystemExit if it is above GATE."""
    if chosen.device.type == "cuda":
        small = tuple(int(part) for part in GATE_CLIP.split("x"))
        chosen = replace(chosen, dtype=torch.float32, clip=small)
    cases = _cases(chosen, GATE_STEPS)
    distance = difference(cases[OURS](), cases[DIFFUSERS]())
    if not distance <= GATE:
        raise SystemExit(f"gate failed: the clip is {distance:.1e} from diffusers', above {GATE:g}")
    return distance


def _cases(chosen: Setting, steps: int) -> dict:
    model = model_of(chosen, PARTS)
    frames, height, width = chosen.clip
    picture = (torch.rand(height, width, 3, generator=torch.Generator().manual_seed(3)) * 255).byte()
    return {
        OURS: lambda: _ours(model, picture, frames, steps, chosen),
        DIFFUSERS: _pipeline(model, picture, frames, steps, chosen),
    }


def _noises(chosen: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise on the picture [1, 3, H, W] and start noise [T, 4, h, w], in the pipeline's order of drawing.

    Half precision draws other numbers, so the pipeline gets the start noise as an argument.
    """
    generator = torch.Generator().manual_seed(SEED)
    frames, height, width = chosen.clip
    augmentation = torch.randn(1, 3, height, width, generator=generator)
    return augmentation, torch.randn(1, frames, 4, *chosen.latent_size, generator=generator)[0]


def _ours(model: svd.SVDModel, picture: torch.Tensor, frames: int, steps: int, chosen: Setting) -> torch.Tensor:
    image = picture.movedim(-1, 0)[None].float() / 127.5 - 1
    augmentation, noise = _noises(chosen)
    latent = model.encode_latent((image + 0.02 * augmentation).to(chosen.device))
    condition = svd.Condition(model.encode_image(image.to(chosen.device)), latent, model.embed_motion())
    guidance = svd.linear_guidance(LOW, HIGH, frames)
    latents = svd.sample(model.denoise, noise.to(chosen.device), svd.karras_sigmas(steps), guidance, condition)
    return ((model.decode(latents) + 1) / 2).clamp(0, 1)


def _pipeline(model: svd.SVDModel, picture: torch.Tensor, frames: int, steps: int, chosen: Setting):
    import diffusers
    import transformers

    scheduler = diffusers.EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", timestep_spacing="leading", use_karras_sigmas=True,
        sigma_min=0.002, sigma_max=700.0, steps_offset=1, beta_schedule="scaled_linear",
    )  # fmt: skip
    pipeline = diffusers.StableVideoDiffusionPipeline(
        vae=peers.diffusers_vae(model),
        image_encoder=peers.transformers_image_encoder(model),
        unet=peers.diffusers_unet(model),
        scheduler=scheduler,
        feature_extractor=transformers.CLIPImageProcessor(),
    )
    pipeline.set_progress_bar_config(disable=True)
    image = Image.fromarray(picture.numpy())
    _, height, width = chosen.clip
    noise = _noises(chosen)[1][None]

    def run() -> torch.Tensor:
        return pipeline(
            image, height=height, width=width, num_frames=frames, num_inference_steps=steps, min_guidance_scale=LOW,
            max_guidance_scale=HIGH, generator=torch.Generator().manual_seed(SEED), output_type="pt",
            decode_chunk_size=frames, latents=noise.to(chosen.device, chosen.dtype),
        ).frames[0]  # fmt: skip

    return run

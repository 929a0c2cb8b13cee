"""What do the approximate techniques cost? On nano, which is trained, but not on the real weights."""

import time
from dataclasses import replace
from pathlib import Path

import torch

import svd_core as svd
from svd_core.conditioning import condition_on_image
from svd_core.pictures import as_batch, fit, open_picture
from svd_core.sampling import guidance as guidances
from svd_core.sampling.noise import start_noise

from .options import Setting
from .results import Report
from .timing import difference

CPU, GPU = ("real", "8x128x128"), ("real", "8x128x128")
PHOTOGRAPH = Path(svd.__file__).parent / "assets" / "demo.png"
SEEDS = (1, 2, 3)
EXACT = {"schedule": "karras", "steps": 25, "solver": "euler"}
VARIANTS = {
    "exact: 25 Euler steps": {},
    "guidance only in its interval": {"interval": True},
    "12 steps of DPM++ 2M": {"steps": 12, "solver": "dpmpp_2m"},
    "align your steps, 10": {"schedule": "align_your_steps", "steps": 10},
    "align your steps, 10, DPM++ 2M": {"schedule": "align_your_steps", "steps": 10, "solver": "dpmpp_2m"},
    "8 Euler steps": {"steps": 8},
    "4 Euler steps": {"steps": 4},
}
INTERVAL = (0.3, 50.0)
LABEL = "not calibrated on real weights"


@torch.no_grad()
def run(chosen: Setting) -> Report:
    """Distance of latents and frames from the exact path at the same noise, and flicker of the result."""
    columns = ["technique", "network passes", "seconds", "latent error", "PSNR dB", "flicker"]
    report = chosen.report("approximate", f"Approximate techniques, on nano, guidance 1 to 2.5 ({LABEL})", columns)
    report.unit = "PSNR in dB against the exact path"
    model = svd.load_model("nano", device=chosen.device)
    found = {name: [_clip(model, EXACT | changes, seed) for seed in SEEDS] for name, changes in VARIANTS.items()}
    exact = found["exact: 25 Euler steps"]
    for name, clips in found.items():
        errors = [difference(clip["latent"], true["latent"]) for clip, true in zip(clips, exact, strict=True)]
        psnr = [_psnr(clip["frames"], true["frames"]) for clip, true in zip(clips, exact, strict=True)]
        same = clips is exact
        row = {
            "technique": name,
            "network passes": clips[0]["passes"],
            "seconds": sum(clip["seconds"] for clip in clips) / len(clips),
            "latent error": 0.0 if same else sum(errors) / len(errors),
            "PSNR dB": "-" if same else f"{sum(psnr) / len(psnr):.1f}",
            "flicker": sum(_flicker(clip["frames"]) for clip in clips) / len(clips),
        }
        report.rows.append(row)
        if not same:
            report.bars.append((name, sum(psnr) / len(psnr)))
    report.notes += [
        f"{LABEL}: nano is a tiny model; ranks may differ on SVD",
        f"guidance interval: sigma {INTERVAL[0]:g} to {INTERVAL[1]:g}",
        f"means over {len(SEEDS)} seeds; flicker: mean absolute second difference over time, in 0..1; seconds by the "
        "processor clock, sampling alone",
    ]
    return report


def _clip(model: svd.SVDModel, changes: dict, seed: int) -> dict:
    interval = changes.pop("interval", False)
    settings = replace(svd.AnimateSettings(), seed=seed, min_guidance=1.0, max_guidance=2.5, **changes)
    settings = settings.resolve(model.config)
    picture = fit(as_batch(open_picture(PHOTOGRAPH), "white"), settings.width, settings.height, "crop")[0]
    condition = condition_on_image(
        model, picture, fps_id=settings.fps - 1, motion_bucket_id=settings.motion_bucket,
        augmentation_level=settings.augmentation, seed=seed,
    ).to(model.device)  # fmt: skip
    noise = start_noise(settings.frames, settings.height // 8, settings.width // 8, seed).to(model.device)
    passes = [0]

    def denoise(*given, **more):
        passes[0] += 1
        return model.denoise(*given, **more)

    scale = guidances.Guidance(settings.guidance(), *INTERVAL) if interval else settings.guidance()
    start = time.process_time()
    latent = svd.sample(denoise, noise, settings.sigmas(), scale, condition, solver=settings.solver, seed=seed)
    seconds = time.process_time() - start
    frames = ((model.decode(latent).cpu() + 1) / 2).clamp(0, 1)
    return {"latent": latent, "frames": frames, "passes": passes[0], "seconds": seconds}


def _psnr(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float(-10 * torch.log10((actual - expected).square().mean().clamp_min(1e-12)))


def _flicker(frames: torch.Tensor) -> float:
    return float((frames[2:] - 2 * frames[1:-1] + frames[:-2]).abs().mean())

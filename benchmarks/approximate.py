"""What do the approximate techniques cost and save? On nano, which is trained, not on the real weights."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import svd_core as svd
from svd_core.doctor.timing import difference, stopwatch
from svd_core.model.conditioning import condition_on_image
from svd_core.networks.config import SVDConfig, UNetConfig
from svd_core.pictures import as_batch, fit, open_picture
from svd_core.pipelines.settings import guidance_of, sigmas_of
from svd_core.plan.costs import unet_flops
from svd_core.plan.reuse_costs import shallow_flops
from svd_core.sampling import guidance as guidances
from svd_core.sampling.noise import start_noise
from svd_core.sampling.reuse import ReuseFeatures

from .options import Setting
from .results import Report
from .rounded import with_rounded_products, with_rounded_weights

CPU, GPU = ("real", "8x128x128"), ("real", "8x128x128")
PHOTOGRAPH = Path(svd.__file__).parent / "assets" / "demo.png"
SEEDS = (1, 2)
EXACT = {"schedule": "karras", "steps": 25, "solver": "euler"}
INTERVAL = (0.3, 50.0)
REAL = (25, 72, 128)
LABEL = "not calibrated on real weights"


@dataclass(frozen=True)
class Technique:
    """A faster technique: other settings, a guidance interval, feature reuse, or a changed model."""

    name: str
    settings: dict = field(default_factory=dict)
    interval: bool = False
    reuse: ReuseFeatures = field(default_factory=ReuseFeatures)
    change: Callable[[svd.SVDModel], None] | None = None


TECHNIQUES = (
    Technique("exact: 25 Euler steps"),
    Technique("guidance only in its interval", interval=True),
    Technique("12 steps of DPM++ 2M", {"steps": 12, "solver": "dpmpp_2m"}),
    Technique("align your steps, 12", {"schedule": "align_your_steps", "steps": 12}),
    Technique("align your steps, 10", {"schedule": "align_your_steps", "steps": 10}),
    Technique("align your steps, 10, DPM++ 2M", {"schedule": "align_your_steps", "steps": 10, "solver": "dpmpp_2m"}),
    Technique("align your steps, 8", {"schedule": "align_your_steps", "steps": 8}),
    Technique("8 Euler steps", {"steps": 8}),
    Technique("4 Euler steps", {"steps": 4}),
    Technique("LCM, 4 steps (nano is not distilled)", {"schedule": "lcm", "steps": 4, "solver": "lcm"}),
    Technique("features reused, interval 2, depth 1", reuse=ReuseFeatures(2, 1)),
    Technique("features reused, interval 2, depth 2", reuse=ReuseFeatures(2, 2)),
    Technique("features reused, interval 3, depth 1", reuse=ReuseFeatures(3, 1)),
    Technique("features reused, interval 3, depth 2", reuse=ReuseFeatures(3, 2)),
    Technique("features reused, interval 3, depth 3", reuse=ReuseFeatures(3, 3)),
    Technique("features reused, interval 5, depth 2", reuse=ReuseFeatures(5, 2)),
    Technique("features reused, 3, depth 2, sigma 0.3 to 50", reuse=ReuseFeatures(3, 2, *INTERVAL)),
    Technique("fp8 products (rounding alone)", change=with_rounded_products),
    Technique("fp8 weights (rounding alone)", change=with_rounded_weights),
    Technique(
        "all of a draft: 10 steps, interval, reuse 2",
        {"schedule": "align_your_steps", "steps": 10, "solver": "dpmpp_2m"},
        interval=True,
        reuse=ReuseFeatures(2, 2),
    ),
)


@torch.no_grad()
def run(chosen: Setting) -> Report:
    """Report the distance of latents and frames from the exact path at the same noise, and the flicker."""
    columns = ["technique", "passes", "seconds", "UNet work, SVD-XT", "latent error", "PSNR dB", "flicker"]
    report = chosen.report("approximate", f"Approximate techniques, on nano, guidance 1 to 2.5 ({LABEL})", columns)
    report.unit = "PSNR in dB against the exact path"
    model = svd.load_model("nano", device=chosen.device)
    exact: list[dict] = []
    for technique in TECHNIQUES:
        clips = [_clip(model, technique, seed, chosen) for seed in SEEDS]
        exact = exact or clips
        row = _row(technique.name, clips, exact)
        report.rows.append(row)
        if clips is not exact:
            report.bars.append((technique.name, float(row["PSNR dB"])))
    report.notes += [
        f"{LABEL}: nano is a tiny model; the order may differ on SVD",
        f"guidance interval: sigma {INTERVAL[0]:g} to {INTERVAL[1]:g}. Features reused: all blocks in one step of "
        "each interval, only the outer block pairs (depth) in the others",
        "UNet work: operations of all passes against those of the exact path, counted at 25x576x1024 in the real UNet; "
        "nano itself has fewer blocks, so its seconds save less. Rounding alone saves no work here: its speed needs a "
        "GPU, as do sums in float16 and compiled blocks",
        f"means over {len(SEEDS)} seeds; flicker: mean absolute second difference over time, in 0..1; seconds by the "
        f"{chosen.clock} clock, sampling alone",
    ]
    return report


def _row(name: str, clips: list[dict], exact: list[dict]) -> dict:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    pairs = list(zip(clips, exact, strict=True))
    same = clips is exact
    return {
        "technique": name,
        "passes": clips[0]["passes"],
        "seconds": mean([clip["seconds"] for clip in clips]),
        "UNet work, SVD-XT": f"{100 * mean([a['work'] / b['work'] for a, b in pairs]):.0f} %",
        "latent error": 0.0 if same else mean([difference(a["latent"], b["latent"]) for a, b in pairs]),
        "PSNR dB": "-" if same else f"{mean([_psnr(a['frames'], b['frames']) for a, b in pairs]):.1f}",
        "flicker": mean([_flicker(clip["frames"]) for clip in clips]),
    }


def _clip(model: svd.SVDModel, technique: Technique, seed: int, chosen: Setting) -> dict:
    settings = replace(svd.AnimateSettings(), seed=seed, min_guidance=1.0, max_guidance=2.5)
    settings = replace(settings, **EXACT | technique.settings).resolve(model.config)
    condition = _condition(model, settings)
    noise = start_noise(settings.frames, settings.height // 8, settings.width // 8, seed).to(model.device)
    if technique.change is not None:
        model = replace(model, unet=deepcopy(model.unet))
        technique.change(model)
    passes: list[bool] = []

    def denoise(*given, features=None):
        passes.append(features is None or features.cached is None)
        return model.denoise(*given, features=features)

    scale = guidances.Guidance(guidance_of(settings), *INTERVAL) if technique.interval else guidance_of(settings)
    more = {"solver": settings.solver, "seed": seed, "controls": (technique.reuse,)}
    with stopwatch(chosen.device, chosen.clock) as elapsed:
        latent = svd.sample(denoise, noise, sigmas_of(settings), scale, condition, **more)
    frames = ((model.decode(latent).cpu() + 1) / 2).clamp(0, 1)
    work = _work(passes, technique.reuse.depth)
    return {"latent": latent, "frames": frames, "passes": len(passes), "seconds": elapsed[0], "work": work}


def _condition(model: svd.SVDModel, settings: svd.AnimateSettings) -> svd.Condition:
    picture = fit(as_batch(open_picture(PHOTOGRAPH), "white"), settings.width, settings.height, "crop")[0]
    return condition_on_image(
        model, picture.to(model.device), fps_id=settings.fps - 1, motion_bucket_id=settings.motion_bucket,
        augmentation_level=settings.augmentation, seed=settings.seed,
    ).to(model.device)  # fmt: skip


def _work(passes: list[bool], depth: int) -> float:
    """Return the operations of full and shallow passes in the real UNet at full size."""
    config: UNetConfig = SVDConfig().unet
    full, shallow = unet_flops(config, *REAL), shallow_flops(config, depth, *REAL)
    return sum(full if is_full else shallow for is_full in passes)


def _psnr(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float(-10 * torch.log10((actual - expected).square().mean().clamp_min(1e-12)))


def _flicker(frames: torch.Tensor) -> float:
    return float((frames[2:] - 2 * frames[1:-1] + frames[:-2]).abs().mean())

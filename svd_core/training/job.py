"""Defaults of a training job for a model, and the metadata of its result; shared by the command and the node."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..networks.config import SVDConfig
from ..pipelines.settings import AnimateSettings
from .data.cutting import ClipPlan
from .memory_estimate import TrainingMemory, training_memory
from .settings import TrainSettings

DEMO = Path(__file__).parent.parent / "assets" / "demo.png"
"""The photograph that is animated during training if none is given."""

TINY = 256  # models up to this width are toys: trained at their own size, with a higher rate
TRAINING_SIZE = (576, 320)  # for the published models; LoRAs trained at it work at 1024x576
VALIDATION_STEPS = 12


def clip_plan(config: SVDConfig, **given: Any) -> ClipPlan:
    """Return the plan of clips for a model. None among the given values means the default for the model."""
    known = {field.name for field in fields(ClipPlan)}
    chosen = {key: value for key, value in given.items() if key in known and value is not None}
    width, height = (config.width, config.height) if config.width <= TINY else TRAINING_SIZE
    return ClipPlan(**{"width": width, "height": height, "frames": min(config.frames, 14), **chosen})


def default_settings(config: SVDConfig, plan: ClipPlan, *, camera: bool, method: str, **given: Any) -> TrainSettings:
    """Return complete settings for a model. None among the given values means the default for it.

    camera: whether the clips are photographs that a camera moves over. method: "lora", "full", or "temporal" for full
    training of the temporal layers only. Raises ValueError for method "temporal" with other targets.
    """
    targets = given.get("targets")
    if method == "temporal" and targets not in (None, "temporal"):
        raise ValueError(
            f"method temporal only trains temporal layers (got targets {targets}); leave targets out, or use full"
        )
    tiny = config.width <= TINY
    full = method != "lora"
    rate = (5e-4 if tiny else 1e-5) if full else (2e-3 if tiny else 1e-4)
    defaults: dict[str, Any] = {
        "method": "full" if full else "lora",
        "targets": "temporal" if method == "temporal" or (camera and not full) else "both",
        "rank": 8 if camera or tiny else 16,
        "rate": rate,
        "steps": 300 if tiny else 800,
        "warmup": 20 if tiny else 100,
        "batch": 2 if tiny else 1,
        "accumulation": 1 if tiny else 4,
        "gradient_checkpointing": not tiny,
        "p_mean": noise_mean(plan, camera=camera),
        "ema": 0.98 if tiny else 0.999,
    }
    settings = TrainSettings(**{**defaults, **{key: value for key, value in given.items() if value is not None}})
    if settings.validate_every == 0 and given.get("validate_every") is None:
        settings = replace(settings, validate_every=max(1, settings.steps // 4))
    return settings


def noise_mean(plan: ClipPlan, *, camera: bool) -> float:
    """Return the mean logarithm of the noise levels to train at.

    It is 0.7 at 576x320 (public code) and grows with the size, because it takes more noise to hide a larger picture.
    Camera moves are trained higher: sampling decides them while noise still hides the picture.
    """
    cells = plan.width * plan.height / 64
    return round(0.7 + 0.6 * math.log(math.sqrt(cells) / 53.7) + (1.2 if camera else 0.0), 2)


def validation_settings(config: SVDConfig, plan: ClipPlan, bucket: float | None, fps: float) -> AnimateSettings:
    """Return the settings of validation clips: the size of training, few steps."""
    settings = AnimateSettings(
        width=plan.width,
        height=plan.height,
        frames=plan.frames,
        steps=VALIDATION_STEPS,
        motion_bucket=127 if bucket is None else bucket,
        fps=fps,
    )
    return settings.resolve(config)


def training_metadata(
    variant: str,
    settings: TrainSettings,
    plan: ClipPlan,
    *,
    data: str,
    trigger: str,
    labels: Mapping[str, float | None] | None = None,
) -> dict[str, object]:
    """Return the metadata of a trained file. labels: those given by the user; None means measured."""
    given = {name: value for name, value in (labels or {}).items() if value is not None}
    return {
        "base_model": variant,
        "targets": settings.targets,
        "trigger": trigger or None,
        "data": data,
        "settings": asdict(settings),
        "clips": asdict(plan),
        "labels": given or None,
    }


def decoder(model: Any, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return the decoder of an SVDModel for validation; on an accelerator it is offloaded between calls."""
    offload = device.type != "cpu"

    def decode(latents: Tensor) -> Tensor:
        vae = model.part("vae")
        vae.to(device)
        try:
            return model.decode(latents.to(device))
        finally:
            if offload:
                vae.to("cpu")

    return decode


def run_folder(output: Path) -> Path:
    """Return the folder for state, log, cache and validation clips of the run of an output file."""
    return output.with_name(f"{output.stem}.run")


def trigger_of(move: str) -> str:
    """Return the note on how to use a camera LoRA; empty without a camera."""
    if not move:
        return ""
    return f"moves the camera: {move}; strength -1 moves it the other way; the motion bucket sets the speed"


def memory_of_run(config: SVDConfig, settings: TrainSettings, plan: ClipPlan) -> TrainingMemory:
    """Return the memory that a run needs, counted from shapes with sides rounded up to 64."""
    return training_memory(config.unet, settings, plan.frames, *_counted_size(plan))


def memory_text(need: TrainingMemory, settings: TrainSettings, plan: ClipPlan) -> str:
    """Return one line on the memory that a run needs (`memory_of_run`)."""
    width, height = _counted_size(plan)
    checkpointing = "with" if settings.gradient_checkpointing else "without"
    return (
        f"{need.trainable:,} parameters to train; about {need.peak / 2**30:.2f} GiB for {plan.frames} frames of "
        f"{width}x{height} in {settings.precision} {checkpointing} checkpointing, without the encoders"
    )


def _counted_size(plan: ClipPlan) -> tuple[int, int]:
    width, height = (math.ceil(side / 64) * 64 for side in (plan.width, plan.height))
    return width, height

"""The steps of the training node: encode the clips, copy the UNet, train, validate, and collect the outputs."""

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..svd_core.networks.unet import UNet
from ..svd_core.networks.vae import LATENT_SCALE
from ..svd_core.pictures import composite, open_picture
from ..svd_core.training import Trainer, TrainSettings
from ..svd_core.training.data.cache import ClipSet, encode_sources, encoder_digest
from ..svd_core.training.data.samples import ClipSource
from ..svd_core.training.export import trained_lora
from ..svd_core.training.job import (
    DEMO,
    clip_plan,
    default_settings,
    memory_of_run,
    memory_text,
    training_metadata,
    trigger_of,
    validation_settings,
)
from ..svd_core.training.log import PLOT_FILE
from ..svd_core.training.network import COMPUTED_IN, default_precision
from ..svd_core.training.trainer import TrainingProgress, TrainResult
from ..svd_core.training.validation import Validation
from .decode import decode_latent
from .host import comfy as host
from .host.preview import ClipPreview
from .host.quantised import is_rounded
from .lora import add_lora
from .shared.model import LoadedModel
from .training_set import TrainingSet

log = logging.getLogger("svd_reel")


def run_training(
    model: LoadedModel, training_set: TrainingSet, chosen: dict, picture: Tensor | None, trigger: str
) -> tuple:
    """Plan the run, then return the outputs of `train`. `chosen` holds the fields of TrainSettings set by widgets."""
    device = host.compute_device()
    plan = clip_plan(model.config, **training_set.plan)
    chosen.setdefault("precision", default_precision(device))
    settings = default_settings(model.config, plan, camera=bool(training_set.move), method="lora", **chosen)
    start = composite(open_picture(DEMO) if picture is None else picture[:1])
    return train(model, training_set, plan, settings, start.clone(), trigger, device)


def train(
    model: LoadedModel,
    training_set: TrainingSet,
    plan,
    settings: TrainSettings,
    picture: Tensor,
    trigger: str,
    device: torch.device,
) -> tuple:
    """Encode the clips, train and validate; return the outputs of the node."""
    root = host.output_folder() / "svd_reel_training"
    need = memory_of_run(model.config, settings, plan)
    memory = memory_text(need, settings, plan)
    log.info("training: %s", memory)
    clips = _encode(model, training_set, plan, root / "clips")
    unet = plain_unet(model, device, COMPUTED_IN[settings.precision], need.peak)
    rate = sorted(clip.fps for clip in clips.clips)[len(clips.clips) // 2]
    folder = root / _digest(clips, settings, training_set.bucket, unet)
    validation = Validation(
        model,
        picture,
        validation_settings(model.config, plan, training_set.bucket, rate),
        lambda latents: decode_latent(model.vae, {"samples": latents / LATENT_SCALE}).movedim(-1, 1) * 2 - 1,
        folder / "validation",
    )
    result = _run(unet, ClipSource(clips, bucket=training_set.bucket, seed=settings.seed), settings, folder, validation)
    notes = training_metadata(
        model.variant,
        settings,
        plan,
        data=f"{len(clips.clips)} clips of {training_set.text}",
        trigger=trigger or trigger_of(training_set.move),
        labels={"bucket": training_set.bucket},
    )
    lora = trained_lora(folder.name, result.adapters, notes)
    with_lora, _ = add_lora(model, lora, 1.0, 1.0)
    last = f", loss {result.rows[-1].loss:.4f}" if result.rows else ""
    report = f"{clips.text()}\n{memory}\n{result.steps} steps{last}; kept in {folder}"
    pictures = (open_picture(folder / PLOT_FILE), open_picture(validation.sheet()))
    return (lora, with_lora, *(composite(page) for page in pictures), report)


def _encode(model: LoadedModel, training_set: TrainingSet, plan, folder: Path) -> ClipSet:
    """Return the encoded clips of a set. There is no progress bar, because their number is unknown until the end."""
    # Missing parts and encoders of other packs have none of our modules; their class names identify them.
    modules = (getattr(model.vae, "first_stage_model", None), getattr(model.image_encoder, "model", None))
    return encode_sources(
        training_set.sources,
        plan,
        model,
        folder,
        encoders=encoder_digest(*modules) + type(model.vae).__name__ + type(model.image_encoder).__name__,
        on_clip=lambda name, count: host.check_interrupt(),
        on_frame=host.check_interrupt,
    )


def plain_unet(model: LoadedModel, device: torch.device, dtype: torch.dtype, room: int) -> UNet:
    """Return a copy of the UNet with plain torch layers, as the trainer needs it.

    room: bytes that the host frees on the device, for these weights and for the steps. Raises ValueError for a model
    with a LoRA, because the copy would not contain it, and for weights in 8 or 4 bits.
    """
    if is_rounded(model.unet.model.diffusion_model):
        raise ValueError("weights in 8 or 4 bits cannot be trained on; set precision of Load SVD Model to fp16 or bf16")
    if getattr(model.unet, "patches", None) or getattr(model.unet, "terms", None):
        raise ValueError("the model has a LoRA or another patch already; connect the model from Load SVD Model")
    stored = model.unet.model.diffusion_model.state_dict()
    unet = UNet(model.config.unet, device="meta", dtype=dtype)
    host.make_room(room, device)
    weights = {name: stored[name].detach().to(device, dtype, copy=True) for name in unet.state_dict()}
    unet.load_state_dict(weights, strict=True, assign=True)
    return unet.requires_grad_(False)


def _digest(clips: ClipSet, settings: TrainSettings, bucket: float | None, unet: UNet) -> str:
    """Return the name of a run's folder, which depends only on clips, settings and weights."""
    made_of = [sorted(clip.path.name for clip in clips.clips), asdict(settings), bucket, encoder_digest(unet)]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _run(unet: UNet, source: ClipSource, settings: TrainSettings, folder: Path, validation: Validation) -> TrainResult:
    """Train with the host's progress bar. A cancelled run is saved before the host's exception is raised again."""
    progress = host.Progress(settings.steps, ClipPreview(None))
    stopped: list[BaseException] = []

    def on_step(now: TrainingProgress) -> None:
        progress.show(now.step, validation.latents)

    def should_stop() -> bool:
        try:
            host.check_interrupt()
        except Exception as error:  # the host's own type
            stopped.append(error)
        return bool(stopped)

    if not (folder / "state.safetensors").exists():
        validation(unet, 0, host.check_interrupt)
    result = Trainer(unet, source, settings, folder).run(
        on_step=on_step,
        should_stop=should_stop,
        validate=lambda now, step: validation(now, step),
        validated=validation.has,
    )
    if stopped:
        raise stopped[0]
    return result

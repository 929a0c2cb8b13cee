"""The nodes that train a LoRA and save it."""

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..svd_core.lora import save_lora
from ..svd_core.models.unet import UNet
from ..svd_core.models.vae import LATENT_SCALE
from ..svd_core.pictures import composite, open_picture
from ..svd_core.training import Trainer, TrainSettings
from ..svd_core.training.cache import ClipSet, encode_sources, encoder_digest
from ..svd_core.training.dataset import ClipSource
from ..svd_core.training.job import DEMO, clip_plan, memory_text, suited, told, trigger_of, validation_settings
from ..svd_core.training.plot import PLOT_FILE
from ..svd_core.training.trained import TrainedLora, halved, trained_lora
from ..svd_core.training.trainer import Progress, TrainResult
from ..svd_core.training.validation import Validation
from . import host, inputs
from .decode import decode_clips
from .lora import add_lora
from .model import LoadedModel
from .training_set import CATEGORY, TrainingSet

log = logging.getLogger("svd_reel")
AUTO = "auto"
PRECISIONS = (AUTO, "float32", "bf16", "fp16")


class SVDReelTrainLora:
    """Trains a LoRA."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Trains a LoRA on clips, temporal layers included, and hands on the model with it. While it runs, the node "
        "shows a picture animated from time to time. Cancel saves: run it again with the same widgets and it goes on. "
        "State, encoded clips, loss curve and validation clips stay in output/svd_reel_training."
    )
    SEARCH_ALIASES = ["train lora", "finetune", "camera lora", "character lora", "motion lora", "TrainLoraNode"]
    RETURN_TYPES = ("SVD_LORA", "SVD_MODEL", "IMAGE", "IMAGE", "STRING")
    RETURN_NAMES = ("lora", "model", "loss", "validation", "report")
    OUTPUT_TOOLTIPS = (
        "For Save SVD LoRA, or for Load SVD LoRA with another strength.",
        "The model with the LoRA at strength 1.",
        "The loss over the steps.",
        "A picture animated before, during and after training, a row for each time.",
        "What was trained on, with which settings, where it is kept.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.socket("SVD_MODEL", "The model to train on, straight from Load SVD Model."),
                "training_set": inputs.socket("SVD_TRAINING_SET", "From Set up Training Clips."),
                "steps": inputs.whole(
                    0,
                    0,
                    100000,
                    "Training steps. 0 takes 800 (nano: 300). 300 to 800 teach a camera, 1000 to 3000 a character; "
                    "more copies the clips.",
                ),
                "targets": inputs.choice(
                    (AUTO, "temporal", "spatial", "both", "all"),
                    "Layers to train. temporal: motion and camera. spatial: look. both: characters. all: feed-forward "
                    "layers too. auto: temporal for a camera move, else both.",
                ),
                "rank": inputs.whole(
                    0,
                    0,
                    256,
                    "Size of the LoRA. 0 takes 8 for a camera move, else 16 (nano: 8). Larger learns more and copies "
                    "sooner.",
                ),
                "seed": inputs.SEED,
            },
            "optional": {
                "picture": inputs.socket(
                    "IMAGE", "A picture to animate meanwhile, not one to train on. Without it: a photograph of a cup."
                ),
                "learning_rate": inputs.decimal(
                    0.0,
                    0.0,
                    1.0,
                    "Highest learning rate. 0 takes 0.0001 (nano: 0.002). Lower it where the loss jumps.",
                    step=0.0001,
                    advanced=True,
                ),
                "batch": inputs.whole(0, 0, 64, "Clips at once. 0 takes 1 (nano: 2). Costs memory.", advanced=True),
                "accumulation": inputs.whole(
                    0, 0, 64, "Batches of one step. 0 takes 4 (nano: 1). Costs time instead of memory.", advanced=True
                ),
                "precision": inputs.choice(
                    PRECISIONS,
                    "Format in which the network computes; what is trained is kept in float32. auto: bf16 on an "
                    "accelerator, float32 on a CPU.",
                    advanced=True,
                ),
                "save_memory": inputs.choice(
                    (AUTO, "on", "off"),
                    "Gradient checkpointing: far less memory for a third more time. auto: on, but for nano.",
                    advanced=True,
                ),
                "validate_every": inputs.whole(
                    0, 0, 100000, "Steps between validation clips. 0: four times in all.", advanced=True
                ),
                "trigger": inputs.text("", "Note on how to use the LoRA, kept in its file.", advanced=True),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        training_set: TrainingSet,
        steps: int,
        targets: str,
        rank: int,
        seed: int,
        picture: Tensor | None = None,
        learning_rate: float = 0.0,
        batch: int = 0,
        accumulation: int = 0,
        precision: str = AUTO,
        save_memory: str = AUTO,
        validate_every: int = 0,
        trigger: str = "",
    ) -> tuple:
        device = host.compute_device()
        plan = clip_plan(model.config, **training_set.plan)
        given = {"steps": steps, "rank": rank, "rate": learning_rate, "batch": batch, "accumulation": accumulation}
        given |= {"validate_every": validate_every, "targets": targets, "precision": precision}
        chosen = {name: value for name, value in given.items() if value not in (0, AUTO)}
        if save_memory != AUTO:
            chosen["gradient_checkpointing"] = save_memory == "on"
        chosen.setdefault("precision", "float32" if device.type == "cpu" else "bf16")
        camera = bool(training_set.move)
        settings = suited(model.config, plan, camera=camera, method="lora", seed=seed, **chosen)
        start = composite(open_picture(DEMO) if picture is None else picture[:1])
        # The host runs nodes in inference mode, whose tensors cannot be trained on.
        with torch.inference_mode(False), torch.enable_grad():
            return train(model, training_set, plan, settings, start.clone(), trigger, device)


class SVDReelSaveLora:
    """Saves a LoRA."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Saves a trained LoRA where Load SVD LoRA finds it, with a text beside it that says what it is made of and "
        "under which licence. Never overwrites: the next free number is added to the name."
    )
    SEARCH_ALIASES = ["save lora", "export lora", "SaveLora"]
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("path",)
    OUTPUT_TOOLTIPS = ("Where the file is.",)
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "lora": inputs.socket("SVD_LORA", "The LoRA from Train SVD LoRA."),
                "name": inputs.text("my_svd_lora", "Name of the file in models/loras, without its ending."),
            }
        }

    def execute(self, lora: TrainedLora, name: str) -> tuple:
        plain = name.strip().removesuffix(".safetensors")
        if not plain or Path(plain).name != plain or plain.startswith("."):
            raise ValueError(f"a LoRA cannot be called {name!r}; write a name without slashes, such as my_svd_lora")
        folder = host.lora_folder()
        path, number = folder / f"{plain}.safetensors", 2
        while path.exists():
            path, number = folder / f"{plain}_{number}.safetensors", number + 1
        return (str(save_lora(path, halved(lora.adapters), lora.notes)),)


def train(
    model: LoadedModel,
    training_set: TrainingSet,
    plan,
    settings: TrainSettings,
    picture: Tensor,
    trigger: str,
    device: torch.device,
) -> tuple:
    """Encode, train, validate; the outputs of the node."""
    root = host.output_folder() / "svd_reel_training"
    memory = memory_text(model.config, settings, plan)
    log.info("training: %s", memory)
    clips = _encode(model, training_set, plan, root / "clips")
    unet = plain_unet(model, device, torch.float32 if settings.precision == "float32" else torch.bfloat16)
    rate = sorted(clip.fps for clip in clips.clips)[len(clips.clips) // 2]
    folder = root / _digest(clips, settings, training_set.bucket, unet)
    validation = Validation(
        model,
        picture,
        validation_settings(model.config, plan, training_set.bucket, rate),
        lambda latents: decode_clips(model.vae, {"samples": latents / LATENT_SCALE}).movedim(-1, 1) * 2 - 1,
        folder / "validation",
    )
    result = _run(unet, ClipSource(clips, bucket=training_set.bucket, seed=settings.seed), settings, folder, validation)
    notes = told(
        model.variant,
        settings,
        plan,
        data=f"{len(clips.clips)} clips of {training_set.text}",
        trigger=trigger or trigger_of(training_set.move),
    )
    lora = trained_lora(folder.name, result.adapters, notes)
    with_lora, _ = add_lora(model, lora, 1.0, 1.0)
    last = f", loss {result.rows[-1].loss:.4f}" if result.rows else ""
    report = f"{clips.text()}\n{memory}\n{result.steps} steps{last}; kept in {folder}"
    pictures = (open_picture(folder / PLOT_FILE), open_picture(validation.sheet()))
    return (lora, with_lora, *(composite(page) for page in pictures), report)


def _encode(model: LoadedModel, training_set: TrainingSet, plan, folder: Path) -> ClipSet:
    """The clips of a set; the host's bar only turns, because nobody knows how many there will be."""
    # Missing parts and encoders of other packs have no modules of ours; their kind and name tell them apart.
    modules = (getattr(model.vae, "first_stage_model", None), getattr(model.image_encoder, "model", None))
    return encode_sources(
        training_set.sources,
        plan,
        model,
        folder,
        encoders=encoder_digest(*modules) + type(model.vae).__name__ + type(model.image_encoder).__name__,
        on_clip=lambda name, count: host.check_interrupt(),
    )


def plain_unet(model: LoadedModel, device: torch.device, dtype: torch.dtype) -> UNet:
    """The UNet with layers of plain torch and weights of its own, as the trainer needs it.

    ValueError for a model with a LoRA: it would not be trained upon.
    """
    if getattr(model.unet, "patches", None) or getattr(model.unet, "terms", None):
        raise ValueError("the model has a LoRA or another patch already; connect the model from Load SVD Model")
    stored = model.unet.model.diffusion_model.state_dict()
    unet = UNet(model.config.unet, device="meta", dtype=dtype)
    host.make_room(sum(stored[name].numel() for name in stored) * dtype.itemsize, device)
    weights = {name: stored[name].detach().to(device, dtype, copy=True) for name in unet.state_dict()}
    unet.load_state_dict(weights, strict=True, assign=True)
    return unet.requires_grad_(False)


def _digest(clips: ClipSet, settings: TrainSettings, bucket: float | None, unet: UNet) -> str:
    """Name of the folder of a run: the same for the same clips, settings and weights."""
    made_of = [sorted(clip.path.name for clip in clips.clips), asdict(settings), bucket, encoder_digest(unet)]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _run(unet: UNet, source: ClipSource, settings: TrainSettings, folder: Path, validation: Validation) -> TrainResult:
    """Train with the host's progress; a cancelled run is saved before the host's exception goes on."""
    progress = host.Progress(settings.steps, preview_device=next(unet.parameters()).device)
    stopped: list[BaseException] = []

    def on_step(now: Progress) -> None:
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
        on_step=on_step, should_stop=should_stop, validate=lambda now, step: validation(now, step)
    )
    if stopped:
        raise stopped[0]
    return result

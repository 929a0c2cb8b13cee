"""Save what was trained: a model as one safetensors file in the official layout, or adapters as a LoRA."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.licence import notice_path
from ..checkpoints.writing import write_tensors
from ..files import replacing, write_error
from ..lora import Lora
from ..lora.delta import LoraLayer
from ..lora.names import stem
from ..lora.read import StoredLayer
from ..lora.save import licence_of, notice_text
from ..model.model import SVDModel
from .adapters import AdapterWeights

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CONDITIONER_VAE = "conditioner.embedders.3.encoder."
IMAGE_ENCODER = "conditioner.embedders.0.open_clip.model.visual."


def save_checkpoint(
    path: str | Path,
    model: SVDModel,
    unet: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, object] | None = None,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write `model` with the UNet weights `unet` (all of them, by module name), and a notice beside it.

    `load_model` reads the file; parts that the model lacks are left out. metadata: what to store about the training.
    An existing file stays whole until the new one is complete. Raises ValueError for values that do not fit `dtype`,
    and OSError where the file cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"a checkpoint must end in .safetensors (got {path.name}); change its name")
    tensors = {f"{UNET}{key}": value for key, value in unet.items()}
    vae = {} if model.vae is None else model.vae.state_dict()
    for key, value in vae.items():
        encodes = key.startswith(("encoder.", "quant_conv."))
        tensors[f"{CONDITIONER_VAE if encodes else VAE}{key}"] = value
        if key.startswith("encoder."):
            tensors[f"{VAE}{key}"] = value  # the copy that other programs read
    if model.image_encoder is not None:
        tensors |= {f"{IMAGE_ENCODER}{key}": value for key, value in model.image_encoder.state_dict().items()}
    stored = {key: value.detach().to("cpu", dtype) for key, value in tensors.items()}
    broken = [key for key, value in stored.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(
            f"{len(broken)} tensors have values that are not finite in {dtype}, such as {broken[0]}; train "
            "with a lower rate"
        )
    known = {"base_model": model.variant, "licence": licence_of(model.variant), **(metadata or {})}
    given = {key: value for key, value in known.items() if value is not None}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()} | hints(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(notice_path(path)) as notice:
            text = notice_text(path.name, known).replace("A LoRA trained on", "Fine-tuned from")
            notice.write_text(text, encoding="utf-8")
            write_tensors(path, stored, {"format": "pt", **texts})
    except OSError as error:
        raise write_error(path, error) from error
    return path


def hints(model: SVDModel) -> dict[str, str]:
    """Return the metadata that the shapes do not show: variant, frames, size and head widths."""
    config = model.config
    values = {
        "variant": config.variant,
        "frames": config.frames,
        "width": config.width,
        "height": config.height,
        "head_channels": config.unet.head_channels,
    }
    if config.image_encoder is not None:
        values["clip_head_channels"] = config.image_encoder.head_channels
    return {f"svd.{key}": str(value) for key, value in values.items()}


@dataclass(frozen=True, eq=False)
class TrainedLora(Lora):
    """A LoRA with its adapters and the metadata for its file, as `save_lora` takes them."""

    adapters: AdapterWeights = field(default_factory=dict)
    notes: Mapping[str, object] = field(default_factory=dict)


def halved(adapters: AdapterWeights) -> AdapterWeights:
    """Return adapters in half precision, as files store them; the difference does not show in clips."""
    return {path: (down.half(), up.half(), alpha) for path, (down, up, alpha) in adapters.items()}


def trained_lora(name: str, adapters: AdapterWeights, notes: Mapping[str, object]) -> TrainedLora:
    """Return adapters as a LoRA for `lora.match_lora` and `lora.apply_loras`."""
    layers = {}
    for path, (down, up, alpha) in adapters.items():
        stored = f"diffusion_model.{path}"
        keys = tuple(f"{stored}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha"))
        layer = LoraLayer(down.detach().cpu(), up.detach().cpu(), alpha / down.shape[0])
        layers[stem(stored)] = StoredLayer(stored, keys, layer)
    return TrainedLora(name, layers, adapters=adapters, notes=notes)

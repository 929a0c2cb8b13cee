"""A fine-tuned model as one safetensors file in the layout of the official ones, which every loader of them reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.writing import write_tensors
from ..files import replacing, write_error
from ..lora import Lora
from ..lora.delta import LoraLayer
from ..lora.names import stem
from ..lora.read import StoredLayer
from ..lora.save import licence_of, notice_path, notice_text
from ..model.model import SVDModel
from .adapters import AdapterWeights

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CONDITIONER_VAE = "conditioner.embedders.3.encoder."
TOWER = "conditioner.embedders.0.open_clip.model.visual."


def save_checkpoint(
    path: str | Path,
    model: SVDModel,
    unet: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, object] | None = None,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write `model` with the UNet weights `unet` (module names, all of them), and a notice beside it.

    The result is read by `load_model`; parts that the model lacks are left out. metadata: what to store about the
    training. Values that do not fit `dtype` raise ValueError, a disk that does not take the file OSError; the file of
    that name stays whole until the new one is.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"a checkpoint cannot be called {path.name}; end its name in .safetensors")
    tensors = {f"{UNET}{key}": value for key, value in unet.items()}
    vae = {} if model.vae is None else model.vae.state_dict()
    for key, value in vae.items():
        encodes = key.startswith(("encoder.", "quant_conv."))
        tensors[f"{CONDITIONER_VAE if encodes else VAE}{key}"] = value
        if key.startswith("encoder."):
            tensors[f"{VAE}{key}"] = value  # other programs read this copy
    if model.image_encoder is not None:
        tensors |= {f"{TOWER}{key}": value for key, value in model.image_encoder.state_dict().items()}
    stored = {key: value.detach().to("cpu", dtype) for key, value in tensors.items()}
    broken = [key for key, value in stored.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{len(broken)} tensors hold values that are not finite in {dtype}, such as {broken[0]}")
    told = {"base_model": model.variant, "licence": licence_of(model.variant), **(metadata or {})}
    said = {key: value for key, value in told.items() if value is not None}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()} | hints(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(notice_path(path)) as notice:
            text = notice_text(path.name, told).replace("A LoRA trained on", "Fine-tuned from")
            notice.write_text(text, encoding="utf-8")
            write_tensors(path, stored, {"format": "pt", **texts})
    except OSError as error:
        raise write_error(path, error) from error
    return path


def hints(model: SVDModel) -> dict[str, str]:
    """The metadata that tells what shapes cannot: variant, frames, size and head widths."""
    config = model.config
    told = {
        "variant": config.variant,
        "frames": config.frames,
        "width": config.width,
        "height": config.height,
        "head_channels": config.unet.head_channels,
    }
    if config.image_encoder is not None:
        told["clip_head_channels"] = config.image_encoder.head_channels
    return {f"svd.{key}": str(value) for key, value in told.items()}


@dataclass(frozen=True, eq=False)
class TrainedLora(Lora):
    """A LoRA with the adapters it is made of and the notes that its file shall carry (`save_lora` takes both)."""

    adapters: AdapterWeights = field(default_factory=dict)
    notes: Mapping[str, object] = field(default_factory=dict)


def halved(adapters: AdapterWeights) -> AdapterWeights:
    """Return adapters in half precision, as they are stored; nothing that a clip would show is lost."""
    return {path: (down.half(), up.half(), alpha) for path, (down, up, alpha) in adapters.items()}


def trained_lora(name: str, adapters: AdapterWeights, notes: Mapping[str, object]) -> TrainedLora:
    """Return adapters as a LoRA that `lora.match_lora` and `lora.apply_loras` take."""
    layers = {}
    for path, (down, up, alpha) in adapters.items():
        stored = f"diffusion_model.{path}"
        keys = tuple(f"{stored}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha"))
        layer = LoraLayer(down.detach().cpu(), up.detach().cpu(), alpha / down.shape[0])
        layers[stem(stored)] = StoredLayer(stored, keys, layer)
    return TrainedLora(name, layers, adapters=adapters, notes=notes)

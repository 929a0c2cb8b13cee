"""From a file to a LoRA: its layers under the names they were stored with. Knows no model.

Tensors are copied out of the file, so that it may be replaced or deleted afterwards.
"""

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.detect import foreign as foreign_model
from ..checkpoints.folder import open_checkpoint
from ..checkpoints.source import FLOAT_TYPES, TensorSource, some
from .delta import LoraLayer
from .errors import LoraError
from .names import TEXT, read_key, stem, unsupported

EMBEDDED = Path(__file__).parent.parent / "assets" / "loras"
"""LoRAs for the embedded model, called by their file name without its ending."""

SETTINGS_KEY = "lora_adapter_metadata"  # of files that diffusers writes
log = logging.getLogger("svd_reel")


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """One adapted layer as stored: name, its tensors' names, its values, what is wrong with them."""

    name: str
    keys: tuple[str, ...]
    layer: LoraLayer | None
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA as stored; which layers of a model it means is found when it is applied.

    layers: by stem (`names.stem`). skipped: reason -> names of tensors that no layer is made of.
    """

    name: str
    layers: Mapping[str, StoredLayer]
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The different ranks of its layers, ascending."""
        return tuple(sorted({stored.layer.rank for stored in self.layers.values() if stored.layer}))


@dataclass
class _Scaling:
    """Alphas as PEFT's settings give them: a default, and others by patterns of module names."""

    alpha: float | None = None
    alphas: Mapping[re.Pattern[str], float] = field(default_factory=dict)
    root: bool = False

    def scale(self, name: str, rank: int, stored: float | None) -> float:
        """The factor of a layer: alpha / rank, or alpha / sqrt(rank) in rank-stabilised files; 1 without any alpha."""
        alpha = stored
        if alpha is None:
            matches = (value for pattern, value in self.alphas.items() if pattern.search(name))
            alpha = next(matches, self.alpha)
        if alpha is None:
            return 1.0
        return float(alpha) / (math.sqrt(rank) if self.root else rank)


def embedded_loras() -> list[str]:
    """Names of the LoRAs that come with the embedded model."""
    return sorted(path.stem for path in EMBEDDED.glob("*.safetensors"))


def lora_path(path_or_name: str | Path) -> Path:
    """The path itself, or that of an embedded LoRA if this is the name of one and no such file exists."""
    path = Path(path_or_name).expanduser()
    return EMBEDDED / f"{path}.safetensors" if not path.exists() and str(path) in embedded_loras() else path


def load_lora(path: str | Path) -> Lora:
    """Read a LoRA from a safetensors file, a PEFT folder, or by the name of an embedded one.

    Every spelling of spec section 11.1 is read, with alphas, convolutions and magnitudes (DoRA). Raises
    CheckpointError for what is no whole safetensors file and LoraError for a file that holds no LoRA or no finite
    numbers; both are one sentence.
    """
    path = lora_path(path)
    if path.is_dir() and (path / "adapter_model.safetensors").is_file():
        path = path / "adapter_model.safetensors"
    source = open_checkpoint(path)
    name = path.parent.name if path.name == "adapter_model.safetensors" else path.name
    slots, skipped = _sorted(source)
    if not slots:
        raise LoraError(_no_lora(path, source, skipped))
    scaling = _scaling(path, source.metadata)
    layers = {key: _layer(key, entry, source, scaling) for key, entry in slots.items()}
    return Lora(name, layers, {why: tuple(keys) for why, keys in skipped.items()}, source.metadata)


def _sorted(source: TensorSource) -> tuple[dict[str, dict[str, tuple[str, str]]], dict[str, list[str]]]:
    """Stem -> slot -> (name of the layer, name of the tensor); and what is skipped, by reason."""
    slots: dict[str, dict[str, tuple[str, str]]] = {}
    skipped: dict[str, list[str]] = {}
    for key in source:
        found = read_key(key)
        if TEXT.match(key):
            skipped.setdefault("text encoder, which SVD does not have", []).append(key)
        elif why := unsupported(key):
            skipped.setdefault(why, []).append(key)
        elif found is None or source.dtypes[key] not in FLOAT_TYPES:
            skipped.setdefault("no tensor of a LoRA", []).append(key)
        elif found[1] in slots.setdefault(stem(found[0]), {}):
            skipped.setdefault("a second copy of a layer, under another name", []).append(key)
        else:
            slots[stem(found[0])][found[1]] = (found[0], key)
    # Alphas of layers that were skipped for another reason would be layers without anything.
    for name in [name for name, entry in slots.items() if not entry.keys() & {"down", "up"}]:
        keys = [key for _, key in slots.pop(name).values()]
        skipped.setdefault("numbers of layers that are not there", []).extend(keys)
    return slots, skipped


def _layer(name: str, entry: dict[str, tuple[str, str]], source: TensorSource, scaling: _Scaling) -> StoredLayer:
    written = next(iter(entry.values()))[0]
    keys = tuple(key for _, key in entry.values())
    lacking = {"down", "up"} - entry.keys()
    if lacking:
        return StoredLayer(written, keys, None, f"without its {lacking.pop()} tensor")
    tensors = {slot: _finite(key, source) for slot, (_, key) in entry.items()}
    down, up = tensors["down"], tensors["up"]
    if min(down.ndim, up.ndim) < 2 or 0 in (down.numel(), up.numel()):
        return StoredLayer(written, keys, None, f"of the shapes {list(up.shape)} and {list(down.shape)}")
    alpha = tensors.get("alpha")
    if alpha is not None and alpha.numel() != 1:
        return StoredLayer(written, keys, None, f"with {alpha.numel()} alphas")
    magnitude = tensors.get("magnitude", tensors.get("dora_scale"))
    scale = scaling.scale(written, down.shape[0], None if alpha is None else float(alpha))
    by_input = "magnitude" not in tensors and magnitude is not None and _by_input(magnitude, down)
    return StoredLayer(written, keys, LoraLayer(down, up, scale, tensors.get("mid"), magnitude, by_input))


def _by_input(magnitude: Tensor, down: Tensor) -> bool:
    """Whether a `dora_scale` counts inputs: LyCORIS writes [out, 1, ...] or, by an older default, [1, in, ...]."""
    along_second = magnitude.ndim > 1 and magnitude.shape[0] == 1 and magnitude.shape[1] == magnitude.numel()
    return along_second and magnitude.numel() == down.shape[1]


def _finite(key: str, source: TensorSource) -> Tensor:
    tensor = source[key].clone()
    if not torch.isfinite(tensor.float()).all():
        raise LoraError(f"'{key}' of {source.path} holds numbers that are not finite; download the file again")
    return tensor


def _scaling(path: Path, metadata: Mapping[str, str]) -> _Scaling:
    """Alphas that stand beside the tensors: in PEFT's adapter_config.json or in the metadata that diffusers writes."""
    if path.name == "adapter_model.safetensors":
        config = path.with_name("adapter_config.json")
        if not config.is_file():
            log.warning("%s lies without its adapter_config.json: its alpha is unknown, scale 1 is taken", path)
            return _Scaling()
        return _from_settings(_json(config.read_text(encoding="utf-8"), config))
    settings = _json(metadata.get(SETTINGS_KEY, "{}"), path)
    return _from_settings({key.removeprefix("unet."): value for key, value in settings.items()})


def _from_settings(settings: Mapping[str, Any]) -> _Scaling:
    alpha, alphas = settings.get("lora_alpha"), settings.get("alpha_pattern") or {}
    numbers = [alpha, *alphas.values()] if isinstance(alphas, dict) else [None, "?"]
    if any(not isinstance(value, (int, float)) for value in numbers if value is not None):
        raise LoraError(f"the settings of the LoRA give {some(map(str, numbers))} as alphas, not numbers")
    try:
        patterns = {re.compile(rf"(^|\.)({key})$"): value for key, value in alphas.items()}
    except re.error as error:
        raise LoraError(f"the settings of the LoRA hold a pattern of names that is none ({error})") from error
    return _Scaling(alpha, patterns, bool(settings.get("use_rslora")))


def _json(text: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise LoraError(f"the settings in {path} are not valid JSON ({error}); download it again") from error
    return value if isinstance(value, dict) else {}


def _no_lora(path: Path, source: TensorSource, skipped: Mapping[str, list[str]]) -> str:
    reasons = [why for why in skipped if why != "no tensor of a LoRA"]
    if reasons:
        return f"{path} holds nothing but {' and '.join(reasons)}; take a LoRA that was trained on SVD"
    if any(key.endswith(("input_blocks.0.0.weight", "conv_in.weight")) for key in source):
        return f"{path} is a whole model, not a LoRA; open it with Load SVD Model or --model"
    what = foreign_model(source) or f"{len(source)} tensors ({some(source)})"
    return f"{path} holds no LoRA but {what}; take a .safetensors file of a LoRA that was trained on SVD"

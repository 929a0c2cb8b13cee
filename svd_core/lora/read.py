"""From a file to a LoRA: its layers under the names they were stored with. Knows no model.

Tensors are copied out of the file, so that it may be replaced or deleted afterwards.
"""

import difflib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..checkpoints.detect import foreign as foreign_model
from ..checkpoints.diffusers_folder import open_checkpoint
from ..checkpoints.source import FLOAT_TYPES, TYPES, TensorSource, some
from .delta import LoraError, LoraLayer
from .names import TEXT, read_key, stem, unsupported

ADAPTER_FILE = "adapter_model.safetensors"
SETTINGS_KEY = "lora_adapter_metadata"  # of files that diffusers writes
LARGEST = torch.finfo(torch.float32).max  # all sums are taken in float32
log = logging.getLogger("svd_reel")


@dataclass
class Scaling:
    """Alphas as PEFT's settings give them: a default, and others by patterns of module names."""

    alpha: float | None = None
    alphas: Mapping[re.Pattern[str], float] = field(default_factory=dict)
    root: bool = False

    def scale(self, name: str, rank: int, stored: float | None) -> float:
        """The factor of a layer: alpha / rank, or alpha / sqrt(rank) in rank-stabilised files; 1 without any alpha."""
        alpha = stored
        if alpha is None:
            names = _module_names(name)
            matches = (value for pattern, value in self.alphas.items() if any(map(pattern.match, names)))
            alpha = next(matches, self.alpha)
        if alpha is None:
            return 1.0
        return float(alpha) / (math.sqrt(rank) if self.root else rank)


def read_scaling(path: Path, metadata: Mapping[str, str]) -> Scaling:
    """The alphas beside the tensors of the file at `path`; LoraError where they are there and cannot be meant."""
    if path.name == ADAPTER_FILE:
        config = path.with_name("adapter_config.json")
        if not config.is_file():
            log.warning("%s lies without its adapter_config.json: its alpha is unknown, scale 1 is taken", path)
            return Scaling()
        return _scaling(_object(config.read_bytes(), config), config)
    settings = _object(metadata.get(SETTINGS_KEY, "{}"), path)
    return _scaling({key.removeprefix("unet."): value for key, value in settings.items()}, path)


def _scaling(settings: Mapping[str, Any], path: Path) -> Scaling:
    alpha, alphas = settings.get("lora_alpha"), settings.get("alpha_pattern") or {}
    if not isinstance(alphas, dict):
        raise LoraError(
            f"the settings in {path} give alpha_pattern as {alphas!r:.40}, not as an object; download it again"
        )
    named = {f"the alpha of '{key}'": value for key, value in alphas.items()}
    for what, value in (named if alpha is None else {"lora_alpha": alpha} | named).items():
        # NaN fails the comparison too, and integers of any length can be compared.
        if not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
            raise LoraError(
                f"the settings in {path} give {what} as {value!r:.40}, which is no number up to {LARGEST:.1e}; "
                "write the alpha of the training there, or download it again"
            )
    patterns = {_pattern(key, path): value for key, value in alphas.items()}
    return Scaling(alpha, patterns, bool(settings.get("use_rslora")))


def _pattern(key: str, path: Path) -> re.Pattern[str]:
    """As PEFT has it (`peft.utils.other.get_pattern_key`): the end of a name from a dot on, or all of it after a ^."""
    try:
        return re.compile(rf"(.*\.)?({key})$")
    except re.error as error:
        raise LoraError(f"the settings in {path} hold '{key}', no pattern of names ({error}); correct it") from error


def _module_names(name: str) -> tuple[str, str]:
    """What the network may have called a layer when it was trained, for the patterns that begin with a ^.

    `base_model.model.` is put before it by PEFT, `unet.` by diffusers, unless what was trained had a part of that name.
    """
    module = name.removeprefix("base_model.model.")
    return module, module.removeprefix("unet.")


def _object(text: str | bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # bytes that are no text are a ValueError as well
        raise LoraError(f"the settings in {path} are not valid JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        what = json.dumps(value)[:40]
        raise LoraError(f"the settings in {path} are {what}, not a JSON object with a lora_alpha; download it again")
    return value


EMBEDDED = Path(__file__).parent.parent / "assets" / "loras"
"""LoRAs for the embedded model, called by their file name without its ending."""

INTEGER_TYPES = {f"{sign}{bits}" for sign in "IU" for bits in (8, 16, 32, 64)}


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
    CheckpointError for what is no whole safetensors file and LoraError for a file that is not there, or holds no LoRA
    or no finite numbers; both are one sentence.
    """
    path = lora_path(path)
    if not path.is_file() and not path.is_dir():
        raise _missing(path)
    if path.is_dir() and (path / ADAPTER_FILE).is_file():
        path = path / ADAPTER_FILE
    source = open_checkpoint(path)
    name = path.parent.name if path.name == ADAPTER_FILE else path.name
    slots, skipped = _sorted(source)
    if not slots:
        raise LoraError(_no_lora(path, source, skipped))
    scaling = read_scaling(path, source.metadata)
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
        elif found is None or not _is_number(source.dtypes[key], found[1]):
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


def _is_number(dtype: str, slot: str) -> bool:
    """Whether a tensor of this safetensors type can fill the slot; some writers store alphas as integers."""
    return dtype in FLOAT_TYPES or (slot == "alpha" and dtype in INTEGER_TYPES)


def _layer(name: str, entry: dict[str, tuple[str, str]], source: TensorSource, scaling: Scaling) -> StoredLayer:
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
    tensor = _copied(key, source)
    numbers = tensor.float()
    if not torch.isfinite(numbers).all():
        what = f"is {numbers.item()}, no finite number" if numbers.numel() == 1 else "holds numbers that are not finite"
        raise LoraError(f"'{key}' of {source.path} {what}; download the file again")
    return tensor


def _copied(key: str, source: TensorSource) -> Tensor:
    if source.dtypes[key] in TYPES:
        return source[key].clone()
    # Unsigned integers of several bytes, which no checkpoint has and so the source does not map.
    file = next(header.path for header in source.headers if key in header.entries)
    with safe_open(file, "pt") as tensors:
        return tensors.get_tensor(key)


def _missing(path: Path) -> LoraError:
    """The error for a path where nothing is, with what is near it."""
    folder = path.parent.resolve()
    names = sorted(entry.name for entry in folder.glob("*") if entry.suffix == ".safetensors" or entry.is_dir())
    files = [name for name in names if name.endswith(".safetensors")]
    # Without their endings, which would make any two names alike.
    stems = {Path(name).stem: name for name in [*names, *embedded_loras()]}
    close = difflib.get_close_matches(path.stem, stems, n=1)
    holds = f"{folder} holds {some(files) if files else 'no .safetensors file'}"
    near = holds if folder.is_dir() else f"there is no folder {folder} either"
    remedy = f"check the name, download the LoRA to there, or take the embedded {some(embedded_loras())}"
    return LoraError(f"there is no LoRA at {path}; {near}; {f'did you mean {stems[close[0]]}?' if close else remedy}")


def _no_lora(path: Path, source: TensorSource, skipped: Mapping[str, list[str]]) -> str:
    if not len(source):
        return f"{path} is empty: it holds no tensors; save the LoRA again, or download it again"
    reasons = [why for why in skipped if why != "no tensor of a LoRA"]
    if reasons:
        return f"{path} holds nothing but {' and '.join(reasons)}; take a LoRA that was trained on SVD"
    if any(key.endswith(("input_blocks.0.0.weight", "conv_in.weight")) for key in source):
        return f"{path} is a whole model, not a LoRA; open it with Load SVD Model or --model"
    what = foreign_model(source) or f"{len(source)} tensors ({some(source)})"
    return f"{path} holds no LoRA but {what}; take a .safetensors file of a LoRA that was trained on SVD"


def read_lora_options(texts: Sequence[str]) -> list[tuple[Lora, float, float]]:
    """The LoRAs of the options, read from disk, with their strengths; ValueError where one cannot be."""
    return [(load_lora(path), *strengths) for path, *strengths in map(split_lora_option, texts)]


def split_lora_option(text: str) -> tuple[str, float, float]:
    """File, spatial and temporal strength of FILE[:STRENGTH[:TEMPORAL]]; colons inside the file's name may stay."""
    head, numbers = text, []
    while len(numbers) < 2:
        start, colon, end = head.rpartition(":")
        number = _number(end)
        if not colon or number is None:
            break
        head, numbers = start, [number, *numbers]
    if not head:
        raise ValueError(f"--lora {text} names no file; write FILE, FILE:0.8 or FILE:0:1")
    spatial = numbers[0] if numbers else 1.0
    return head, spatial, numbers[1] if len(numbers) > 1 else spatial


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None

"""Read LoRA files: layers under the names they were stored with, independent of any model.

Tensors are copied out of the file, so that it may be replaced or deleted afterwards.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.diffusers_folder import open_checkpoint
from ..checkpoints.family import what_it_is
from ..checkpoints.source import FLOAT_TYPES, INTEGER_TYPES, TensorSource, some
from ..files import printable
from .delta import LoraError, LoraLayer
from .names import TEXT_ENCODER, read_key, stem, unsupported
from .scaling import ADAPTER_FILE, Scaling, check_alpha, read_scaling

EMBEDDED = Path(__file__).parent.parent / "assets" / "loras"
"""LoRAs for the embedded model, called by their file name without its ending."""

MOST_TENSORS = 20_000  # SVD's UNet has 574 layers that a LoRA can adapt
NOT_LORA = "no tensor of a LoRA"


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """One adapted layer as stored: its name, the names of its tensors, its values, and what is wrong with them.

    layer: what is added to the weight by a product of matrices. weight_diff and bias_diff: whole differences of the
    weight and the bias.
    """

    name: str
    keys: tuple[str, ...]
    layer: LoraLayer | None
    problem: str = ""
    weight_diff: LoraLayer | None = None
    bias_diff: LoraLayer | None = None


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA as stored; the layers of a model that it adapts are found when it is applied.

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


def load_lora(path: str | Path) -> Lora:
    """Read a LoRA from a safetensors file, a PEFT folder, or by the name of an embedded one.

    Every spelling of spec section 11.1 is read, with alphas, convolutions, magnitudes (DoRA) and whole differences.
    Raises CheckpointError for a file that is not whole safetensors, and LoraError for a file that does not exist or
    that holds no LoRA or no finite numbers. Both are one sentence.
    """
    path = lora_path(path)
    if not path.is_file() and not path.is_dir():
        raise _missing(path)
    if path.is_dir() and (path / ADAPTER_FILE).is_file():
        path = path / ADAPTER_FILE
    source = open_checkpoint(path)
    if len(source) > MOST_TENSORS:
        raise LoraError(f"{path} holds {len(source):,} tensors; a LoRA has at most {MOST_TENSORS:,}, so use another")
    name = path.parent.name if path.name == ADAPTER_FILE else path.name
    slots, skipped = _sorted_slots(source)
    if not slots:
        raise LoraError(_no_lora(path, source, skipped))
    scaling = read_scaling(path, source.metadata)
    layers = {key: _layer(entry, source, scaling) for key, entry in slots.items()}
    return Lora(name, layers, {reason: tuple(keys) for reason, keys in skipped.items()}, source.metadata)


def embedded_loras() -> list[str]:
    """Return the names of the LoRAs that come with the embedded model."""
    return sorted(path.stem for path in EMBEDDED.glob("*.safetensors"))


def lora_path(path_or_name: str | Path) -> Path:
    """Return the path itself, or that of an embedded LoRA if this is the name of one and no such file exists."""
    path = Path(path_or_name).expanduser()
    return EMBEDDED / f"{path}.safetensors" if not path.exists() and str(path) in embedded_loras() else path


Slots = dict[str, tuple[str, str]]
"""Slot of a layer ("down", "up", "alpha"...) -> name of the layer and name of the tensor, as stored."""


def _sorted_slots(source: TensorSource) -> tuple[dict[str, Slots], dict[str, list[str]]]:
    """Return stem -> slots, and the names of the tensors that are skipped by reason."""
    slots: dict[str, Slots] = {}
    skipped: dict[str, list[str]] = {}
    dtypes = source.dtypes
    for key in source:
        found = read_key(key)
        if TEXT_ENCODER.match(key):
            skipped.setdefault("text encoder, which SVD does not have", []).append(key)
        elif reason := unsupported(key):
            skipped.setdefault(reason, []).append(key)
        elif found is None or not _is_number(dtypes[key], found[1]):
            skipped.setdefault(NOT_LORA, []).append(key)
        elif found[1] in slots.setdefault(stem(found[0]), {}):
            skipped.setdefault("a second copy of a layer, under another name", []).append(key)
        else:
            slots[stem(found[0])][found[1]] = (found[0], key)
    # Alphas of layers that were skipped for another reason would be layers without anything.
    for name in [name for name, entry in slots.items() if not entry.keys() & {"down", "up", "diff", "bias"}]:
        keys = [key for _, key in slots.pop(name).values()]
        skipped.setdefault("numbers of layers that are not there", []).extend(keys)
    return slots, skipped


def _is_number(dtype: str, slot: str) -> bool:
    """Return whether a tensor of this safetensors type can fill the slot; some writers store alphas as integers."""
    return dtype in FLOAT_TYPES or (slot == "alpha" and dtype in INTEGER_TYPES)


def _layer(entry: Slots, source: TensorSource, scaling: Scaling) -> StoredLayer:
    name = next(iter(entry.values()))[0]
    keys = tuple(key for _, key in entry.values())
    absent = {"down", "up"} - entry.keys()
    if len(absent) == 1:
        return StoredLayer(name, keys, None, f"without its {absent.pop()} tensor")
    tensors = {slot: _finite(key, source) for slot, (_, key) in entry.items()}
    weight_diff, bias_diff = (
        LoraLayer(None, None, 1.0, whole=tensors[slot]) if slot in tensors else None for slot in ("diff", "bias")
    )
    if absent:
        return StoredLayer(name, keys, None, "", weight_diff, bias_diff)
    down, up = tensors["down"], tensors["up"]
    if min(down.ndim, up.ndim) < 2 or 0 in (down.numel(), up.numel()):
        return StoredLayer(name, keys, None, f"of the shapes {list(up.shape)} and {list(down.shape)}")
    alpha = tensors.get("alpha")
    if alpha is not None and alpha.numel() != 1:
        return StoredLayer(name, keys, None, f"with {alpha.numel()} alphas")
    if alpha is not None:
        check_alpha(alpha.item(), f"'{printable(entry['alpha'][1])}'", source.path)
    magnitude = tensors.get("magnitude", tensors.get("dora_scale"))
    scale = scaling.scale(name, down.shape[0], None if alpha is None else float(alpha))
    by_input = "magnitude" not in tensors and magnitude is not None and _is_by_input(magnitude, down)
    layer = LoraLayer(down, up, scale, tensors.get("mid"), magnitude, by_input)
    return StoredLayer(name, keys, layer, "", weight_diff, bias_diff)


def _is_by_input(magnitude: Tensor, down: Tensor) -> bool:
    """Return whether a `dora_scale` counts inputs: LyCORIS writes [out, 1, ...], [1, in, ...] by an older default."""
    along_second = magnitude.ndim > 1 and magnitude.shape[0] == 1 and magnitude.shape[1] == magnitude.numel()
    return along_second and magnitude.numel() == down.shape[1]


def _finite(key: str, source: TensorSource) -> Tensor:
    tensor = source[key].clone()
    if not torch.isfinite(tensor.float()).all():
        what = f"is {tensor.item()}" if tensor.numel() == 1 else "has values that are not finite"
        raise LoraError(f"'{printable(key)}' of {source.path} {what}; the file is damaged, download it again")
    return tensor


def _missing(path: Path) -> LoraError:
    """Return the error for a path that does not exist, with what is near it."""
    folder = path.parent.resolve()
    names = sorted(entry.name for entry in folder.glob("*") if entry.suffix == ".safetensors" or entry.is_dir())
    files = [name for name in names if name.endswith(".safetensors")]
    # Without their endings, which would make any two names alike.
    stems = {Path(name).stem: name for name in [*names, *embedded_loras()]}
    close = difflib.get_close_matches(path.stem, stems, n=1)
    holds = f"{folder} holds {some(files) if files else 'no .safetensors file'}"
    near = holds if folder.is_dir() else f"there is no folder {folder} either"
    remedy = f"check the name, download the LoRA to there, or use the embedded {some(embedded_loras())}"
    return LoraError(f"there is no LoRA at {path}; {near}; {f'did you mean {stems[close[0]]}?' if close else remedy}")


def _no_lora(path: Path, source: TensorSource, skipped: Mapping[str, list[str]]) -> str:
    if not len(source):
        return f"{path} is empty: it holds no tensors; save the LoRA again, or download it again"
    reasons = [reason for reason in skipped if reason != NOT_LORA]
    if reasons:
        return f"{path} holds nothing but {' and '.join(reasons)}; use a LoRA that was trained on SVD"
    return f"{path} is {what_it_is(source.shapes)}; use a .safetensors file of a LoRA that was trained on SVD"


def read_lora_options(texts: Sequence[str]) -> list[tuple[Lora, float, float]]:
    """Read the LoRAs of `--lora` options from disk, with their strengths; raises ValueError where one cannot be."""
    return [(load_lora(path), *strengths) for path, *strengths in map(split_lora_option, texts)]


def split_lora_option(text: str) -> tuple[str, float, float]:
    """Split FILE[:STRENGTH[:TEMPORAL]] into file, spatial and temporal strength; the file's name may have colons."""
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

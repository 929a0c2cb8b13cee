"""Save checkpoints in another precision or layout, or one network of them: tensor by tensor, whole or not at all."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..files import replacing, write_error, write_text
from .adapters import check_version, kept_tensors
from .diffusers_folder import folder_configs, folder_vae_config
from .family import AdapterKind, adapter_kind
from .licence import licence_of, notice_path, notice_text
from .load import read_state_dict
from .names import FolderTensor, to_folder
from .parts import Part
from .source import FLOAT_TYPES, PICKLE_SUFFIXES, CheckpointError, TensorSource
from .split import LABELS, NETWORKS, Parts, split_state_dict
from .writing import LazyTensor, write_tensors

LAYOUTS = ("single", "diffusers")
PARTS = ("all", *NETWORKS)
PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "fp8": torch.float8_e4m3fn}
MOST_FP8 = 448.0  # the largest number of float8_e4m3fn
UNET, FIRST_STAGE = "model.diffusion_model.", "first_stage_model."
CONDITIONER, IMAGE_ENCODER = "conditioner.embedders.3.encoder.", "conditioner.embedders.0.open_clip.model.visual."
FILE_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "image_encoder": "model"}

Progress = Callable[[int, int], None]
"""Called with (done, total) tensors; what it raises ends the conversion, and nothing is left."""


def convert(
    source: str | Path | TensorSource,
    target: str | Path,
    *,
    dtype: str | None = None,
    layout: str | None = None,
    part: str = "all",
    on_progress: Progress | None = None,
) -> Path:
    """Save a checkpoint (file, folder or "nano") in another form and return the path of the new file or folder.

    source may be tensors that are mapped already (`cli.pickles`). Adapters and pose networks (`family.KINDS`) keep
    their names; a whole MotionCtrl model is reduced to its adapter.
    dtype: fp16, bf16, fp32, fp8 (matrices of the UNet in 8 bits, the rest in fp16), None as stored. layout: "single" or
    "diffusers"; None: a name that ends in .safetensors is a single file. part: all, unet, vae or image_encoder; a
    single VAE or image encoder gets the names that ComfyUI's own loaders read. Tensors are mapped, cast and written
    one at a time. Settings in the metadata are kept, and a notice of licence and changes is written beside the file.
    Raises CheckpointError for what cannot be read, converted or written.
    """
    target = Path(target).expanduser()
    layout = layout or ("single" if target.suffix == ".safetensors" else "diffusers")
    _check(target, dtype, layout, part)
    tensors = source if isinstance(source, TensorSource) else read_state_dict(source)
    if tensors.path.resolve() == target.resolve():
        raise CheckpointError(f"{target} would be written over itself; choose another name")
    kind = adapter_kind(tensors.shapes)
    if kind is not None and part == "all":
        return _convert_adapter(kind, tensors, target, dtype, layout, on_progress)
    parts = split_state_dict(tensors)
    present = parts.present()
    if part != "all":
        if part not in present:
            raise CheckpointError(f"{tensors.name} has no {LABELS[part]}; it has {', '.join(present)}")
        present = {part: present[part]}
    if layout == "diffusers" and "vae" in present:
        folder_vae_config(parts.config.vae)
    types = {name: _types(parts, name, dtype) for name in present}
    changes = _changes(tensors, dtype, layout, part)
    metadata = _metadata(tensors, parts, changes)
    counter = _Counter(on_progress)
    notice = notice_text(target.name, parts.config.variant, changes)
    try:
        if layout == "single":
            planned: dict[str, LazyTensor] = {}
            for name, network in present.items():
                planned |= _single(name, network, types[name], parts, alone=part != "all")
            counter.total = len(planned)
            write_tensors(target, planned, metadata, counter.tick)
            write_text(notice_path(target), notice)
        else:
            with replacing(target) as temporary:
                _write_folder(temporary, present, types, parts, metadata, counter)
                write_text(temporary / "NOTICE.txt", notice)
    except OSError as error:
        raise CheckpointError(str(write_error(target, error))) from error
    return target


def _convert_adapter(
    kind: AdapterKind,
    tensors: TensorSource,
    target: Path,
    dtype: str | None,
    layout: str,
    on_progress: Progress | None,
) -> Path:
    """Save an adapter or pose network as one safetensors file."""
    if layout != "single":
        raise CheckpointError(f"{tensors.name} is {kind.label}, which is one file; end {target.name} in .safetensors")
    if dtype == "fp8":
        raise CheckpointError(f"{tensors.name} is {kind.label}, too small for fp8; use fp16")
    check_version(kind, tensors.shapes, tensors.name)
    stored, kept = tensors.dtypes, kept_tensors(kind, tensors.shapes)
    wrong = sorted(key for key in kept.values() if stored[key] not in FLOAT_TYPES)
    if wrong:
        raise CheckpointError(
            f"{tensors.name} stores '{wrong[0]}' as {stored[wrong[0]]}; only float types are converted, so use "
            "a file without quantisation"
        )
    shapes = tensors.shapes
    planned = {}
    for name, key in kept.items():
        wanted = PRECISIONS[dtype] if dtype else FLOAT_TYPES[stored[key]]
        planned[name] = LazyTensor(wanted, shapes[key], _fetching(tensors, key, wanted))
    changes = [f"made of {tensors.name}"]
    changes += [f"weights cast to {dtype}"] if dtype else []
    changes += [f"{len(kept)} of {len(shapes)} tensors kept"] if len(kept) < len(shapes) else []
    metadata = {"svd.licence": licence_of(kind.name).sentence, "svd.changes": "; ".join(changes), "format": "pt"}
    counter = _Counter(on_progress)
    counter.total = len(planned)
    try:
        write_tensors(target, planned, metadata, counter.tick)
        write_text(target.with_name(f"{target.stem}.NOTICE.txt"), notice_text(target.name, kind.name, changes))
    except OSError as error:
        raise CheckpointError(str(write_error(target, error))) from error
    return target


def _fetching(tensors: TensorSource, key: str, dtype: torch.dtype) -> Callable[[], Tensor]:
    return lambda: _cast(tensors[key], dtype, key)


def _check(target: Path, dtype: str | None, layout: str, part: str) -> None:
    if dtype is not None and dtype not in PRECISIONS:
        raise CheckpointError(f"precision {dtype!r} is unknown; use {', '.join(PRECISIONS)}")
    if layout not in LAYOUTS:
        raise CheckpointError(f"layout {layout!r} is unknown; use {' or '.join(LAYOUTS)}")
    if part not in PARTS:
        raise CheckpointError(f"part {part!r} is unknown; use {', '.join(PARTS)}")
    if target.suffix.lower() in PICKLE_SUFFIXES:
        raise CheckpointError(f"{target.name} is the name of a pickle; end it in .safetensors, or name a new folder")
    if (layout == "single") != (target.suffix == ".safetensors"):
        remedy = "end its name in .safetensors" if layout == "single" else "leave .safetensors out of its name"
        raise CheckpointError(f"{target.name} does not fit the layout {layout}; {remedy}")
    if not target.absolute().parent.is_dir():
        raise CheckpointError(f"folder {target.parent} does not exist; create it first")
    if target.is_dir() or (layout == "diffusers" and target.exists()):
        raise CheckpointError(f"{target} exists; choose another name, or remove it first")


def _types(parts: Parts, name: str, dtype: str | None) -> dict[str, torch.dtype]:
    """Return the type that each tensor of a network is saved in, by module name."""
    part = parts.present()[name]
    if dtype is None:
        stored = part.stored_types()
        return {key: FLOAT_TYPES[kind] for key, kind in stored.items()}
    wanted = PRECISIONS[dtype]
    if dtype != "fp8":
        return dict.fromkeys(part, wanted)
    # Norms, biases, blend factors and the small networks are a hundredth of the file and would lose most.
    return {key: wanted if name == "unet" and len(shape) > 1 else torch.float16 for key, shape in part.shapes.items()}


def _cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    if tensor.dtype == dtype:
        return tensor
    if dtype == torch.float8_e4m3fn:
        return tensor.float().clamp(-MOST_FP8, MOST_FP8).to(dtype)
    cast = tensor.to(dtype)
    if dtype == torch.float16 and bool(torch.isinf(cast).any()):
        raise CheckpointError(f"'{name}' holds numbers beyond fp16's 65504; use bf16 or fp32")
    return cast


def _planned(part: Part, made: FolderTensor, dtype: torch.dtype) -> LazyTensor:
    def make() -> Tensor:
        tensor = part.fetch(made.key)
        if made.third is not None:
            tensor = tensor.chunk(3)[made.third]
        if made.transpose:
            tensor = tensor.t()
        return _cast(tensor.reshape(made.shape), dtype, made.key)

    return LazyTensor(dtype, made.shape, make)


def _single(name: str, part: Part, types: dict[str, torch.dtype], parts: Parts, alone: bool) -> dict[str, LazyTensor]:
    """Return one network under the names of the official files, or alone under those that ComfyUI's loaders read."""
    own = {key: _planned(part, FolderTensor(key, shape), types[key]) for key, shape in part.shapes.items()}
    if name == "unet":
        return {UNET + key: entry for key, entry in own.items()}
    if name == "image_encoder":
        if not alone:
            return {IMAGE_ENCODER + key: entry for key, entry in own.items()}
        made = to_folder(name, part.shapes, parts.config)
        return {out: _planned(part, tensor, types[tensor.key]) for out, tensor in made.items()}
    folded = parts.config.vae.temporal and parts.config.vae.quant_conv and parts.config.vae.encoder is not None
    prefix = "" if alone else FIRST_STAGE
    if not folded:
        return {prefix + key: entry for key, entry in own.items()}
    # As in the official files: the encoder and its 1x1 convolution in the conditioner, and beside the temporal
    # decoder, where ComfyUI reads it, the same encoder with the convolution folded into its last layer.
    planned = {prefix + key: entry for key, entry in own.items() if not key.startswith("quant_conv.")}
    for last in ("weight", "bias"):
        key = f"encoder.conv_out.{last}"
        planned[prefix + key] = _folded(part, last, types[key])
    if not alone:
        planned |= {
            CONDITIONER + key: entry for key, entry in own.items() if key.startswith(("encoder.", "quant_conv."))
        }
    return planned


def _folded(part: Part, last: str, dtype: torch.dtype) -> LazyTensor:
    """Return the encoder's last layer and its 1x1 convolution as one layer."""

    def make() -> Tensor:
        outer = part.fetch("quant_conv.weight").float()[:, :, 0, 0]
        if last == "weight":
            folded = torch.einsum("oi,ichw->ochw", outer, part.fetch("encoder.conv_out.weight").float())
        else:
            folded = outer @ part.fetch("encoder.conv_out.bias").float() + part.fetch("quant_conv.bias").float()
        return _cast(folded, dtype, f"encoder.conv_out.{last}")

    return LazyTensor(dtype, part.shapes[f"encoder.conv_out.{last}"], make)


def _write_folder(
    folder: Path,
    present: dict[str, Part],
    types: dict[str, dict[str, torch.dtype]],
    parts: Parts,
    metadata: dict[str, str],
    counter: "_Counter",
) -> None:
    folder.mkdir()
    files = {}
    for name, part in present.items():
        made = to_folder(name, part.shapes, parts.config)
        files[name] = {out: _planned(part, tensor, types[name][tensor.key]) for out, tensor in made.items()}
    counter.total = sum(map(len, files.values()))
    for path, content in folder_configs(parts.config, list(present)).items():
        (folder / path).parent.mkdir(exist_ok=True)
        write_text(folder / path, json.dumps(content, indent=2) + "\n")
    for name, planned in files.items():
        write_tensors(folder / name / f"{FILE_STEMS[name]}.safetensors", planned, metadata, counter.tick)


def _changes(tensors: TensorSource, dtype: str | None, layout: str, part: str) -> list[str]:
    changes = [f"made of {tensors.name}"]
    if dtype is not None:
        changes.append(f"weights cast to {dtype}")
    if part != "all":
        changes.append(f"only the {LABELS[part]} kept")
    return [*changes, f"saved in the layout {layout}, tensors that no network uses left out"]


def _metadata(tensors: TensorSource, parts: Parts, changes: list[str]) -> dict[str, str]:
    """Return the metadata of the file, and what was read from its name: a new name must not change the variant."""
    config = parts.config
    found = {"svd.variant": config.variant, "svd.frames": str(config.frames)}
    found |= {"svd.width": str(config.width), "svd.height": str(config.height)}
    if config.unet is not None:
        found["svd.head_channels"] = str(config.unet.head_channels)
    if config.image_encoder is not None:
        found["svd.clip_head_channels"] = str(config.image_encoder.head_channels)
    licence = {"svd.licence": licence_of(config.variant).sentence, "svd.changes": "; ".join(changes)}
    return {**found, **tensors.metadata, "format": "pt", **licence}


class _Counter:
    def __init__(self, on_progress: Progress | None):
        self.on_progress, self.done, self.total = on_progress, 0, 0

    def tick(self) -> None:
        self.done += 1
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)

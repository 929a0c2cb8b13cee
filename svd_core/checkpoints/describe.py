"""Describe checkpoints from their headers: nothing is loaded, and damage is listed instead of raised."""

from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ..networks.config import SVDConfig
from .load import read_state_dict
from .source import TensorSource
from .split import LABELS, split_state_dict

TYPE_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


@dataclass(frozen=True)
class PartInfo:
    """One network of a checkpoint: stored tensors, parameters, bytes, and the number of tensors of each type."""

    tensors: int
    parameters: int
    size: int
    dtypes: dict[str, int]


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint. `tensors` and `parameters` count what is stored, used or not; `size` is in bytes."""

    path: Path
    layout: str
    variant: str
    parts: dict[str, PartInfo]
    unused: dict[str, int]
    tensors: int
    parameters: int
    size: int
    dtypes: dict[str, int]
    config: SVDConfig
    metadata: dict[str, str]
    problems: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The variant, or what a file without a UNet holds."""
        if self.config.unet is not None:
            return self.variant
        held = " and ".join(LABELS[name] for name in self.parts)
        image = self.config.vae is not None and not self.config.vae.temporal and self.config.vae.decoder is not None
        return f"{held} alone{', of an image model such as Stable Diffusion' if image else ''}"

    def text(self) -> str:
        """Return the description as several lines."""
        config = self.config
        lines = [f"{self.path.name}: {self.kind}, {self.layout} layout, {self.size:,} bytes"]
        if config.unet is not None:
            lines.append(f"  clip           {config.frames} frames of {config.width} x {config.height} pixels")
        notes = _sizes(config)
        for name, part in self.parts.items():
            types = ", ".join(part.dtypes)
            lines.append(f"  {name:<14} {part.tensors} tensors, {part.parameters:,} parameters, {types}: {notes[name]}")
        lines += [f"  {name:<14} not in this file" for name in notes if name not in self.parts]
        lines += [f"  not used       {count} tensors: {why}" for why, count in self.unused.items()]
        lines.append(f"  in all         {self.tensors} tensors, {self.parameters:,} parameters")
        lines += [f"  problem        {problem}" for problem in self.problems]
        return "\n".join(lines)

    __str__ = text


def inspect_checkpoint(path: str | Path) -> CheckpointInfo:
    """Describe a checkpoint (file, shard index, folder or "nano") from its header; reads no tensor.

    What is missing, unexpected or misshapen is listed in `problems`; CheckpointError only where there is no SVD model
    to describe.
    """
    source = read_state_dict(path)
    parts = split_state_dict(source, strict=False)
    everything = _part_info(source, list(source))
    return CheckpointInfo(
        path=source.path,
        layout=parts.report.layout,
        variant=parts.config.variant,
        parts={name: _part_info(source, part.sources()) for name, part in parts.present().items()},
        unused={why: len(keys) for why, keys in parts.report.unused.items()},
        tensors=everything.tensors,
        parameters=everything.parameters,
        size=source.size,
        dtypes=everything.dtypes,
        config=parts.config,
        metadata=source.metadata,
        problems=parts.report.problems,
    )


def _part_info(source: TensorSource, keys: list[str]) -> PartInfo:
    found = source.entries
    entries = [found[key] for key in keys]
    types = Counter(TYPE_NAMES.get(entry.dtype, entry.dtype) for entry in entries)
    return PartInfo(len(keys), sum(prod(entry.shape) for entry in entries), sum(e.size for e in entries), dict(types))


def _sizes(config: SVDConfig) -> dict[str, str]:
    """Return a few words on the size of each network."""
    words = dict.fromkeys(("unet", "vae", "image_encoder"), "")
    if unet := config.unet:
        levels = " ".join(str(unet.model_channels * mult) for mult in unet.channel_mult)
        words["unet"] = f"channels {levels}, heads of {unet.head_channels}, vector {unet.vector_channels}"
    if vae := config.vae:
        halves = [] if vae.encoder is None else ["encoder"]
        if vae.decoder:
            halves.append("temporal decoder" if vae.temporal else "frame decoder")
        words["vae"] = " and ".join(halves)
    if encoder := config.image_encoder:
        words["image_encoder"] = f"{encoder.layers} layers of {encoder.width}, pictures of {encoder.image_size}"
    return words

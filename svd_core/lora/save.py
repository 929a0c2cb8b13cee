"""Save trained layers as a LoRA file with metadata, and a notice beside it."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.licence import BY_VARIANT, notice_heading, notice_path
from ..checkpoints.writing import write_tensors
from ..files import replacing, write_error
from .delta import LoraError, LoraLayer, problem
from .names import folder_path
from .scaling import SETTINGS_KEY

PREFIX = "svd.lora."
LICENCES = {variant: licence.sentence for variant, licence in BY_VARIANT.items()} | {
    "nano": "The base model, SVD Reel's nano, is licensed under the Apache License, Version 2.0.",
}
"""The sentence that must stay with everything made of a base model, by variant."""

KOHYA = ("lora_down.weight", "lora_up.weight")
NAMES = {
    "single-file": lambda module, blocks: (f"diffusion_model.{module}", KOHYA),
    "diffusers": lambda module, blocks: (folder_path(module, blocks), ("lora_A.weight", "lora_B.weight")),
    "kohya": lambda module, blocks: (f"lora_unet_{folder_path(module, blocks).replace('.', '_')}", KOHYA),
}
"""Spellings of a file: the beginning of a layer's names, and their ends for the down and the up factor.

single-file: as ComfyUI's own LoraSave. diffusers: as PEFT and diffusers save an adapter of a UNet, with alphas in the
metadata. kohya: as most LoRAs for other models.
"""

OTHER_LICENCE = "The licence of the base model also applies to this file."


def licence_of(variant: str) -> str:
    """Return the licence sentence of a LoRA for a base model: svd, svd_xt, svd_xt_1_1, nano, or another."""
    return LICENCES.get(variant, OTHER_LICENCE)


def save_lora(
    path: str | Path,
    weights: Mapping[str, tuple[Tensor, Tensor, float | None]],
    metadata: Mapping[str, object],
    *,
    names: str = "single-file",
    blocks: int = 2,
) -> Path:
    """Write a LoRA and NAME.NOTICE.txt beside it; return the path of the LoRA.

    path: ends in .safetensors; missing folders are made. weights: module path in the single-file layout -> down
    [r, in, ...], up [out, r, ...], alpha (None = rank). metadata: what to store about it, texts or JSON values;
    base_model (the variant), targets, rank, trigger (how to use it), licence (default: that of the base model) and
    settings (of the training) are expected. names: how tensors are named, one of NAMES; `load_lora` reads all of them,
    and ComfyUI's own loader the first and the last. blocks: residual blocks per level of the UNet, for the names of the
    folder layout. Both files take their names only when they are whole. Raises LoraError for weights that are not a
    LoRA, and OSError where they cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise LoraError(f"{path.name} is not a name for a LoRA; end it in .safetensors")
    if names not in NAMES:
        raise LoraError(f"names {names!r} are unknown; use one of {', '.join(NAMES)}")
    tensors: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    ranks = set()
    for module, (down, up, alpha) in weights.items():
        _check(module, down, up)
        rank = down.shape[0]
        ranks.add(rank)
        alphas[module] = float(rank if alpha is None else alpha)
        prefix, ends = NAMES[names](module, blocks)
        factors = (down.detach().to("cpu").contiguous().clone(), up.detach().to("cpu").contiguous().clone())
        tensors |= {f"{prefix}.{end}": factor for end, factor in zip(ends, factors, strict=True)}
        if names != "diffusers":
            tensors[f"{prefix}.alpha"] = torch.tensor(alphas[module])
    if not tensors:
        raise LoraError("there are no trained layers to save; train first")
    base = str(metadata.get("base_model", "custom"))
    described = {
        "rank": max(ranks),
        "licence": licence_of(base),
        **{k: v for k, v in metadata.items() if v is not None},
    }
    stored = {PREFIX + key: value if isinstance(value, str) else json.dumps(value) for key, value in described.items()}
    if names == "diffusers":
        stored[SETTINGS_KEY] = json.dumps(_peft_settings(weights, alphas, blocks))
    # The names that LoRA managers read.
    stored |= {
        "ss_base_model_version": base,
        "ss_network_dim": str(described["rank"]),
        "ss_network_module": "networks.lora",
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(notice_path(path)) as notice:
            notice.write_text(notice_text(path.name, described), encoding="utf-8")
            write_tensors(path, tensors, {"format": "pt", **stored})
    except OSError as error:
        raise write_error(path, error) from error
    return path


def _peft_settings(
    weights: Mapping[str, tuple[Tensor, Tensor, float | None]], alphas: Mapping[str, float], blocks: int
) -> dict[str, object]:
    """Return the settings of a LoRA in the words of PEFT, by exact names of layers."""
    paths = {module: folder_path(module, blocks) for module in weights}
    ranks = {paths[module]: down.shape[0] for module, (down, _, _) in weights.items()}
    scales = {paths[module]: alpha for module, alpha in alphas.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, scales))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {path: value for path, value in ranks.items() if value != rank},
        "alpha_pattern": {path: value for path, value in scales.items() if value != alpha},
        "target_modules": sorted(ranks),
    }


def _check(module: str, down: Tensor, up: Tensor) -> None:
    layer = LoraLayer(down, up, 1.0)
    shape = (up.shape[0], *down.shape[1:]) if min(up.ndim, down.ndim) > 1 else ()
    wrong = problem(layer, shape) if shape else f"up {list(up.shape)} and down {list(down.shape)} are not matrices"
    if wrong:
        raise LoraError(f"layer {module} cannot be saved: {wrong}")
    if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise LoraError(f"layer {module} has values that are not finite; train with a lower learning rate")


def notice_text(name: str, metadata: Mapping[str, object]) -> str:
    """Return the notice beside a LoRA: what it was trained on, and its licence."""
    lines = [notice_heading(name), f"A LoRA trained on {metadata.get('base_model', 'an SVD model')}."]
    for key in ("targets", "rank", "trigger"):
        if metadata.get(key):
            lines.append(f"{key.capitalize()}: {metadata[key]}")
    return "\n".join([*lines, "", str(metadata["licence"]), ""])

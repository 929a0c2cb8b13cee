"""Trained layers become a file that says what it is, with a notice beside it."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..checkpoints.licence import BY_VARIANT
from ..files import replacing, write_error
from .delta import LoraError, LoraLayer, problem

PREFIX = "svd.lora."
LICENCES = {variant: licence.sentence for variant, licence in BY_VARIANT.items()} | {
    "nano": "The base model, SVD Reel's nano, is licensed under the Apache License, Version 2.0.",
}
"""What the licences of base models want kept with everything that is made of them, by variant."""

OTHER_LICENCE = "The licence of the base model also applies to this file."


def notice_path(path: Path) -> Path:
    """Where the notice of a file of weights lies."""
    return path.with_name(f"{path.stem}.NOTICE.txt")


def licence_of(variant: str) -> str:
    """The sentence to keep with a LoRA for a base model: one of svd, svd_xt, svd_xt_1_1, nano, or another."""
    return LICENCES.get(variant, OTHER_LICENCE)


def save_lora(
    path: str | Path, weights: Mapping[str, tuple[Tensor, Tensor, float | None]], metadata: Mapping[str, object]
) -> Path:
    """Write a LoRA and, beside it, NAME.NOTICE.txt; answers the path of the LoRA.

    path: ends in .safetensors; missing folders are made. weights: module path in the single-file layout -> down
    [r, in, ...], up [out, r, ...], alpha (None = rank). metadata: what to store about it, texts or anything JSON can
    hold; expected are base_model (the variant), targets, rank, trigger (how to use it), licence (left out: that of
    the base model) and settings (of the training). ComfyUI's own LoRA loader reads the file too. Both files take
    their places only when they are whole. Raises LoraError for what cannot be a LoRA and OSError where the disk does
    not take it.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise LoraError(f"a LoRA cannot be called {path.name}; end its name in .safetensors")
    tensors: dict[str, Tensor] = {}
    ranks = set()
    for module, (down, up, alpha) in weights.items():
        _check(module, down, up)
        rank = down.shape[0]
        ranks.add(rank)
        name = f"diffusion_model.{module}"
        tensors[f"{name}.lora_down.weight"] = down.detach().to("cpu").contiguous().clone()
        tensors[f"{name}.lora_up.weight"] = up.detach().to("cpu").contiguous().clone()
        tensors[f"{name}.alpha"] = torch.tensor(float(rank if alpha is None else alpha))
    if not tensors:
        raise LoraError("there are no trained layers to save; train first")
    base = str(metadata.get("base_model", "custom"))
    told = {"rank": max(ranks), "licence": licence_of(base), **{k: v for k, v in metadata.items() if v is not None}}
    stored = {PREFIX + key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
    # The names by which LoRA managers know these three.
    stored |= {"ss_base_model_version": base, "ss_network_dim": str(told["rank"]), "ss_network_module": "networks.lora"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(notice_path(path)) as notice:
            notice.write_text(notice_text(path.name, told), encoding="utf-8")
            with replacing(path) as file:
                save_file(tensors, file, metadata={"format": "pt", **stored})
    except (OSError, SafetensorError) as error:  # the library raises its own type for a full disk
        raise write_error(path, error) from error
    return path


def _check(module: str, down: Tensor, up: Tensor) -> None:
    layer = LoraLayer(down, up, 1.0)
    shape = (up.shape[0], *down.shape[1:]) if min(up.ndim, down.ndim) > 1 else ()
    wrong = problem(layer, shape) if shape else f"up {list(up.shape)} and down {list(down.shape)} are no matrices"
    if wrong:
        raise LoraError(f"layer {module} cannot be saved: {wrong}")
    if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise LoraError(f"layer {module} holds numbers that are not finite; train with a lower rate")


def notice_text(name: str, told: Mapping[str, object]) -> str:
    """The text beside a LoRA: what it is made of and under which terms."""
    lines = [f"Notice for {name}", "", f"A LoRA trained on {told.get('base_model', 'an SVD model')}."]
    for key in ("targets", "rank", "trigger"):
        if told.get(key):
            lines.append(f"{key.capitalize()}: {told[key]}")
    return "\n".join([*lines, "", str(told["licence"]), ""])

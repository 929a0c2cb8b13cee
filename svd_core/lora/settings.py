"""Alphas that stand beside a LoRA's tensors: in PEFT's adapter_config.json or in the metadata that diffusers writes.

Knows names and numbers, no tensors.
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

from .errors import LoraError

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

"""Alphas of LoRA files: the settings of PEFT and diffusers beside the tensors.

PEFT takes the keys of its `alpha_pattern` for regular expressions. A file may hold an expression that runs for ever,
so none is compiled here: plain names, `^`, `$`, `|`, `\\.` and `.*` are read, which is all that trainers write, and
every other expression is an error.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import JsonError, is_number, parse_json, printable
from .delta import LoraError

ADAPTER_FILE = "adapter_model.safetensors"
SETTINGS_KEY = "lora_adapter_metadata"  # of files that diffusers writes
MOST_ALPHA = 1e6  # trainers use 1 to 1,000
MOST_BYTES = 2_000_000  # of the settings
MOST_WILDCARDS = 20  # patterns with .*
MOST_DOTS = 40  # of a layer name
log = logging.getLogger("svd_reel")


@dataclass(frozen=True)
class NamePattern:
    """One alternative of a pattern: literal pieces with anything between them, from the start of a name or a dot."""

    pieces: tuple[str, ...]
    from_start: bool

    def matches(self, name: str) -> bool:
        """Return whether the pattern means the layer of this name (`(.*\\.)?(PATTERN)$` in PEFT)."""
        starts = [0]
        if not self.from_start:
            starts += [index + 1 for index, letter in enumerate(name) if letter == "."][:MOST_DOTS]
        return any(self._matches_from(name, start) for start in starts)

    def _matches_from(self, name: str, start: int) -> bool:
        first, *others = self.pieces
        if not others:
            return name[start:] == first
        if not name.startswith(first, start):
            return False
        start += len(first)
        for piece in others[:-1]:
            found = name.find(piece, start)
            if found < 0:
                return False
            start = found + len(piece)
        return name.endswith(others[-1]) and len(name) - len(others[-1]) >= start


@dataclass(frozen=True)
class Scaling:
    """Alphas of a file: a default, others by name or pattern of names, and whether ranks count by their root."""

    alpha: float | None = None
    alphas: tuple[tuple[tuple[NamePattern, ...], float], ...] = field(default_factory=tuple)
    root: bool = False

    def scale(self, name: str, rank: int, stored: float | None) -> float:
        """Return the factor of a layer: alpha / rank, or alpha / sqrt(rank) in rank-stabilised files; else 1.

        stored: the alpha beside the layer's tensors, which comes first.
        """
        alpha = stored
        if alpha is None:
            names = _module_names(name)
            found = (value for patterns, value in self.alphas for p in patterns if any(map(p.matches, names)))
            alpha = next(found, self.alpha)
        if alpha is None:
            return 1.0
        return float(alpha) / (math.sqrt(rank) if self.root else rank)


def read_scaling(path: Path, metadata: Mapping[str, str]) -> Scaling:
    """Return the alphas beside the tensors of the file at `path`; LoraError for settings that make no sense."""
    if path.name == ADAPTER_FILE:
        config = path.with_name("adapter_config.json")
        if not config.is_file():
            log.warning("%s has no adapter_config.json beside it: its alpha is unknown, scale 1 is used", path)
            return Scaling()
        with config.open("rb") as file:
            return _scaling(_settings(file.read(MOST_BYTES + 1), config), config)
    settings = _settings(metadata.get(SETTINGS_KEY, "{}"), path)
    return _scaling({key.removeprefix("unet."): value for key, value in settings.items()}, path)


def check_alpha(value: Any, what: str, path: Path) -> None:
    """Raise LoraError unless an alpha is a number that a training could have had."""
    if not is_number(value, MOST_ALPHA):
        raise LoraError(
            f"{what} in {path} is {printable(value, 40)}; an alpha is a number up to {MOST_ALPHA:,.0f}, "
            "so write that of the training, or download the file again"
        )


def _settings(text: str | bytes, path: Path) -> dict[str, Any]:
    try:
        value = parse_json(text, most_bytes=MOST_BYTES)
    except JsonError as error:
        raise LoraError(
            f"the settings in {path} cannot be read ({printable(error, 200)}); download it again"
        ) from error
    if not isinstance(value, dict):
        raise LoraError(
            f"the settings in {path} are {printable(value, 40)}, not a JSON object with a lora_alpha; download it again"
        )
    return value


def _scaling(settings: Mapping[str, Any], path: Path) -> Scaling:
    alpha, alphas = settings.get("lora_alpha"), settings.get("alpha_pattern") or {}
    if not isinstance(alphas, dict):
        raise LoraError(
            f"alpha_pattern in the settings of {path} is {printable(alphas, 40)}, not a JSON object; download it again"
        )
    if alpha is not None:
        check_alpha(alpha, "lora_alpha", path)
    for key, value in alphas.items():
        check_alpha(value, f"the alpha of '{printable(key)}'", path)
    read = tuple((_patterns(key, path), float(value)) for key, value in alphas.items())
    wildcards = sum(len(pattern.pieces) > 1 for patterns, _ in read for pattern in patterns)
    if wildcards > MOST_WILDCARDS:
        raise LoraError(
            f"alpha_pattern in the settings of {path} has {wildcards} patterns with .*; at most {MOST_WILDCARDS} are "
            "read, so write whole names"
        )
    return Scaling(alpha, read, bool(settings.get("use_rslora")))


def _patterns(text: str, path: Path) -> tuple[NamePattern, ...]:
    """Read a key of alpha_pattern; LoraError for expressions that are not read."""
    return tuple(_pattern(alternative, text, path) for alternative in text.split("|"))


def _pattern(alternative: str, text: str, path: Path) -> NamePattern:
    rest = alternative.removesuffix("$")
    from_start = rest.startswith("^")
    rest = rest.removeprefix("^").replace("\\.", "\0")  # no name has a NUL
    pieces = tuple(piece.replace("\0", ".") for piece in rest.split(".*"))
    if not all(letter.isalnum() or letter in "._-" for piece in pieces for letter in piece):
        raise LoraError(
            f"alpha_pattern in the settings of {path} has '{printable(text)}'; only names with ^, $, |, \\. and .* are "
            "read, so write whole names"
        )
    return NamePattern(pieces, from_start)


def _module_names(name: str) -> tuple[str, str]:
    """Return what the network may have called a layer in training, for patterns that begin with a ^.

    PEFT puts `base_model.model.` before it and diffusers `unet.`, unless what was trained had a part of that name.
    """
    module = name.removeprefix("base_model.model.")
    return module, module.removeprefix("unet.")

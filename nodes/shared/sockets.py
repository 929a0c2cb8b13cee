"""Check what arrives at the inputs of every node, before the node runs.

ComfyUI checks widgets only. Links bring values of any other node: images of 0..255, latents and conditioning of other
kinds of models, numbers outside the range of the widget they replace.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from ...svd_core.files import printable
from ...svd_core.pictures.reading import check_values
from .clips import check_samples

LATENT_CHANNELS = 4
MOST_TEXT = 1_000_000  # characters of a text widget


def check_inputs(node: type) -> None:
    """Make `execute` of a node class check its inputs first; it then raises ValueError with the name of the input."""
    execute = node.execute

    @wraps(execute)
    def checked(self, *given: Any, **named: Any) -> Any:
        groups = node.INPUT_TYPES()
        required = groups.get("required", {})
        for name, (kind, *options) in {**required, **groups.get("optional", {})}.items():
            if name in named and (named[name] is not None or name in required):
                _check(name, kind, options[0] if options else {}, named[name])
        return execute(self, *given, **named)

    node.execute = checked


def _check(name: str, kind: Any, options: dict, value: Any) -> None:
    check = CHECKS.get(kind) if isinstance(kind, str) else None
    if value is None:
        raise ValueError(f"{name} is empty; connect a node to it, and check that this node is not bypassed")
    if check is None:
        return
    try:
        check(value, options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _image(value: Any, _: dict) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"a {type(value).__name__} is no IMAGE; connect images [pictures, height, width, channels]")
    check_values(value)


def _mask(value: Any, _: dict) -> None:
    if not isinstance(value, Tensor) or value.ndim not in (2, 3, 4) or 0 in value.shape:
        given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"a MASK must have shape [masks, height, width] (got {given}); connect another mask")
    if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
        raise ValueError("a MASK must have finite values of 0 to 1; connect another mask")


def _latent(value: Any, _: dict) -> None:
    samples = value.get("samples") if isinstance(value, dict) else None
    if not isinstance(samples, Tensor):
        raise ValueError(f"a {type(value).__name__} without samples is no LATENT; connect the latent of a sampler")
    check_samples(value)


def _conditioning(value: Any, _: dict) -> None:
    fits = isinstance(value, (list, tuple)) and all(isinstance(entry, (list, tuple)) for entry in value)
    if not fits or not all(
        len(entry) == 2 and isinstance(entry[0], Tensor) and isinstance(entry[1], dict) for entry in value
    ):
        raise ValueError(
            f"a {type(value).__name__} is no CONDITIONING; connect the conditioning of Prepare Image for SVD"
        )


def _vae(value: Any, _: dict) -> None:
    channels = getattr(value, "latent_channels", LATENT_CHANNELS)
    if channels != LATENT_CHANNELS:
        raise ValueError(
            f"this VAE has latents of {channels} channels, so it is of another kind of model; SVD needs "
            f"{LATENT_CHANNELS}, so connect the VAE from Load SVD Model"
        )


def _number(value: Any, options: dict) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{printable(value)} is no number; connect a number or use the widget")
    low, high = options.get("min", -math.inf), options.get("max", math.inf)
    if not low <= value <= high:
        raise ValueError(f"the value must be {low:g} to {high:g} (got {value:g}); connect a number in this range")


def _text(value: Any, _: dict) -> None:
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} is no text; connect a text or use the widget")
    if len(value) > MOST_TEXT:
        raise ValueError(f"the text has {len(value):,} characters; at most {MOST_TEXT:,} are read, so shorten it")


CHECKS: dict[str, Callable[[Any, dict], None]] = {
    "IMAGE": _image,
    "MASK": _mask,
    "LATENT": _latent,
    "CONDITIONING": _conditioning,
    "VAE": _vae,
    "INT": _number,
    "FLOAT": _number,
    "STRING": _text,
}

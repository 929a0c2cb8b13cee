"""Curves of the host's own editor: the socket, and the values along a curve."""

from collections.abc import Sequence
from typing import Any

from ..host import comfy as host
from . import inputs


def curve_socket(tooltip: str) -> tuple:
    """Return an input for a curve that the host's Curve Editor draws."""
    return inputs.socket("CURVE", tooltip, advanced=True, linked=True)


def curve_levels(curve: Any, name: str, count: int = 65) -> Sequence[float]:
    """Return `count` values in 0..1 along a curve, at even distances; raise ValueError for other things."""
    drawn = host.curve_of(curve)
    if drawn is None:
        raise ValueError(f"{name} is no curve (got {type(curve).__name__}); connect ComfyUI's Curve Editor")
    levels = [float(drawn.interp(place / max(count - 1, 1))) for place in range(count)]
    if not all(abs(level) < float("inf") for level in levels):
        raise ValueError(f"{name} has values that are no numbers; draw it again in Curve Editor")
    return tuple(min(1.0, max(0.0, level)) for level in levels)

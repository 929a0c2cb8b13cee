"""Runs of the sampler for calling the hooks of controls by hand, on a grid whose scale is a round number."""

from types import SimpleNamespace

import torch
from torch import Tensor

from svd_core.sampling.controls import Inputs, Run, Start
from svd_core.sampling.guidance import Guidance

SIDE = 6  # cells: sqrt(6 * 6) / 96, a sixteenth of the reference grid
SCALE = 1 / 16


def run_of(
    sigmas: tuple[float, ...] = (700.0, 100.0, 10.0, 1.0, 0.0),
    *,
    frames: int = 4,
    noise: Tensor | None = None,
    condition: object = None,
    levels: tuple[float, ...] | None = None,
) -> Run:
    """A run of `frames` frames of SIDE x SIDE cells with noise of ones."""
    noise = torch.ones(frames, 4, SIDE, SIDE) if noise is None else noise
    inputs = Inputs(SimpleNamespace() if condition is None else condition, None, Guidance(torch.ones(1)))
    return Run(noise, sigmas, inputs, lambda: torch.full_like(noise, 2.0), sigmas if levels is None else levels)


def start_of(run: Run) -> Start:
    """The start that the sampler makes of a run."""
    return Start(run.noise * (1 + run.sigmas[0] ** 2) ** 0.5, list(run.sigmas))


def level(value: float, frames: int = 4, channels: int = 4) -> Tensor:
    """Latents [T, C, SIDE, SIDE] of one value."""
    return torch.full((frames, channels, SIDE, SIDE), float(value))

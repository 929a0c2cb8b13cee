"""Random numbers, drawn on the CPU in float32 and then moved, so that a seed gives the same clip on every device."""

import torch
from torch import Tensor

from ..files import quoted


def seeded_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return standard normal noise of `shape`: the first draw of torch's CPU generator seeded with `seed`, float32."""
    return torch.randn(shape, generator=_generator(seed), dtype=torch.float32)


def start_noise(frames: int, height: int, width: int, seed: int, channels: int = 4) -> Tensor:
    """Return the standard normal start noise [frames, channels, height, width] of a clip; sizes are in latent cells.

    ComfyUI's KSampler draws the same numbers for the same seed.
    """
    if frames < 1:
        raise ValueError(f"a clip needs at least 1 frame (got {frames}); use 14 for SVD or 25 for SVD-XT")
    return seeded_noise((frames, channels, height, width), seed)


class NoiseStream:
    """Fresh noise for stochastic solvers (churn, LCM), all of one shape.

    It continues the generator of the start noise with the same seed and shape. A new generator would repeat the start
    noise first, and so add it to the latents twice.
    """

    def __init__(self, like: Tensor, seed: int) -> None:
        self._like = like
        self._seed = seed
        self._source: torch.Generator | None = None

    def __call__(self) -> Tensor:
        """Return the next standard normal noise, with the shape, dtype and device of `like`."""
        if self._source is None:
            self._source = _generator(self._seed)
            torch.randn(self._like.shape, generator=self._source)
        return torch.randn(self._like.shape, generator=self._source).to(self._like)


def check_seed(seed: int) -> None:
    """Raise ValueError unless `seed` is in the range of torch's generators, 0 to 2^64 - 1."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"the seed must be 0 to 2^64 - 1 (got {quoted(seed)}); use any such whole number")


def _generator(seed: int) -> torch.Generator:
    check_seed(seed)
    return torch.Generator(device="cpu").manual_seed(seed)

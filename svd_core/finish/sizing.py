"""The size of a film, and frames brought to it one at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..pictures.fitting import resize

FITS = ("inside", "crop", "pad", "stretch")
SMALLEST, LARGEST = 16, 16384


@dataclass(frozen=True)
class FilmSize:
    """How frames of one size become those of a film: scaled to inner_width x inner_height, then cut to width x height,
    or laid on its centre.
    """

    width: int
    height: int
    inner_width: int
    inner_height: int

    def apply(self, frame: Tensor) -> Tensor:
        """[H, W, 3] in 0..1 at the film's size, antialiased bicubic; untouched where it has that size already."""
        planes = frame.movedim(-1, 0)[None]
        planes = resize(planes, self.inner_width, self.inner_height)[0]
        left, top = (self.inner_width - self.width) // 2, (self.inner_height - self.height) // 2
        if left > 0 or top > 0:
            planes = planes[:, max(top, 0) : max(top, 0) + self.height, max(left, 0) : max(left, 0) + self.width]
        if left < 0 or top < 0:
            height, width = planes.shape[1:]
            canvas = torch.zeros(3, self.height, self.width, dtype=planes.dtype)
            y, x = (self.height - height) // 2, (self.width - width) // 2
            canvas[:, y : y + height, x : x + width] = planes
            planes = canvas
        return planes.movedim(0, -1)


def film_size(from_width: int, from_height: int, width: int = 0, height: int = 0, fit: str = "inside") -> FilmSize:
    """The size of a film of from_width x from_height frames that is to be width x height (0: as the other side asks).

    inside: the aspect kept, no side longer than asked for. crop: filled, what stands over cut off. pad: black bars.
    stretch: distorted. Raises ValueError for sizes that no film has.
    """
    if fit not in FITS:
        raise ValueError(f"fit {fit!r} is unknown; use {', '.join(FITS)}")
    for name, side in (("width", width), ("height", height)):
        if side and not SMALLEST <= side <= LARGEST:
            raise ValueError(f"{name} {side} is outside {SMALLEST} to {LARGEST}; use 3840x2160 for 4K, or 0 to keep it")
    if not width and not height:
        return _exact(from_width, from_height)  # an odd side is repeated by the encoder, nothing is scaled for it
    scales = [asked / side for asked, side in ((width, from_width), (height, from_height)) if asked]
    if len(scales) == 1 or fit == "inside":
        scale = min(scales)
        return _exact(_even(from_width * scale), _even(from_height * scale))
    width, height = _even(width), _even(height)
    if fit == "stretch":
        return _exact(width, height)
    scale = max(scales) if fit == "crop" else min(scales)
    inner = [_even(side * scale) for side in (from_width, from_height)]
    if fit == "crop":
        inner = [max(inner[0], width), max(inner[1], height)]
    return FilmSize(width, height, *inner)


def _exact(width: int, height: int) -> FilmSize:
    return FilmSize(width, height, width, height)


def _even(side: float) -> int:
    return max(SMALLEST, 2 * round(side / 2))


def to_size(width: int = 0, height: int = 0, fit: str = "inside") -> Callable[[Tensor], Tensor]:
    """The step that brings any frame to a size, as `film_size` understands it."""
    film_size(SMALLEST, SMALLEST, width, height, fit)

    def step(frame: Tensor) -> Tensor:
        return film_size(frame.shape[1], frame.shape[0], width, height, fit).apply(frame)

    return step

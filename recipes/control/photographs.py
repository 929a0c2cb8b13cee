"""Photographs outside all training at the size of a clip, and clips of them at the product's untouched defaults."""

from functools import lru_cache
from pathlib import Path

from torch import Tensor

import svd_core as svd
from svd_core.pictures import as_batch, fit, open_picture
from svd_core.pipelines.steered import Steering, steered_clip

from ..nano.photographs import HELD_OUT, load_photograph

PACKAGED = (*HELD_OUT, "moon", "motorcycle_left", "motorcycle_right")


class Photograph:
    """A photograph at the size of a clip, and clips of it at the product's defaults."""

    def __init__(self, name: str, size: tuple[int, int], frames: int | None) -> None:
        self.name, self.frames = Path(name).stem, frames
        self.width, self.height = size
        self.whole = self._read(name)  # [1, 3, H, W]
        self.picture, _ = fit(self.whole, *size)

    def clip(self, picture: Tensor | None = None, **given) -> Tensor:
        """Animate the photograph, or another picture [1, 3, H, W]: [T, H, W, 3]."""
        return svd.animate(model(), self.picture if picture is None else picture, self.settings(**given))

    def steered(self, picture: Tensor | None = None, *, steering: Steering, **given) -> Tensor:
        """Make a clip with steering besides the settings that are given: [T, H, W, 3]."""
        picture = self.picture if picture is None else picture
        return steered_clip(model(), picture, self.settings(**given), steering)

    def settings(self, **given) -> svd.AnimateSettings:
        """Return the defaults, besides the size and what is given."""
        return svd.AnimateSettings(width=self.width, height=self.height, frames=self.frames, **given)

    @staticmethod
    def _read(name: str) -> Tensor:
        if name not in PACKAGED:
            return as_batch(open_picture(name))
        if name in HELD_OUT:
            return load_photograph(name)[None]
        import skimage.data

        return as_batch(open_picture(Path(skimage.data.__file__).parent / f"{name}.png"))


@lru_cache(maxsize=1)
def model() -> svd.SVDModel:
    """Load nano once."""
    return svd.load_model("nano")

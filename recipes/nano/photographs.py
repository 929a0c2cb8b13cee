"""The photographs for nano's training, and the held-out ones.

All are files inside the wheels of scikit-image and scikit-learn, CC0, CC BY, public domain or without known copyright
restrictions (see README.md). Nothing is downloaded.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TRAINING = (
    "astronaut",
    "brick",
    "cat",
    "cell",
    "china",
    "clock",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
)
HELD_OUT = ("coffee", "camera", "rocket", "flower")
FROM_SCIKIT_LEARN = ("china", "flower")

# Colours stay near those of photographs. With arbitrary colours, four latent channels would encode colour at the cost
# of brightness.
MIXING = 0.12  # deviation of the matrix that mixes the channels of half of the pictures
SWAPPED = 0.04  # share of pictures whose channels change places

# Largest reduction of a photograph: smaller copies would have more detail than any frame of a clip.
COARSEST = 4.5

# Everyday photographs are drawn more often than scans and close-up textures.
WEIGHTS = {
    "astronaut": 5.0,
    "cat": 5.0,
    "china": 5.0,
    "immunohistochemistry": 2.0,
    "hubble_deep_field": 2.0,
    "retina": 2.0,
}


def load_photograph(name: str) -> Tensor:
    """Return one of the libraries' photographs as [3, H, W] in -1..1; grey ones get three equal channels."""
    if name in FROM_SCIKIT_LEARN:
        from sklearn.datasets import load_sample_image

        stored = load_sample_image(f"{name}.jpg")
    else:
        from skimage import data

        stored = getattr(data, name)()
    pixels = torch.from_numpy(stored.copy()).float() / 127.5 - 1.0
    return pixels.permute(2, 0, 1)[:3].contiguous() if pixels.ndim == 3 else pixels.expand(3, -1, -1).contiguous()


def fit_frame(photograph: Tensor, width: int, height: int) -> Tensor:
    """Crop the middle of [3, H, W] to the shape of a frame and resize it to [3, height, width]."""
    rows, columns = photograph.shape[1:]
    scale = min(columns / width, rows / height)
    taken = round(scale * height), round(scale * width)
    top, left = (rows - taken[0]) // 2, (columns - taken[1]) // 2
    crop = photograph[:, top : top + taken[0], left : left + taken[1]]
    scaled = F.interpolate(crop[None], size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return scaled[0].clamp(-1, 1)


def resize(picture: Tensor, size: int) -> Tensor:
    """Resize [3, h, w] to [3, size, size], antialiased bicubic, clamped to -1..1."""
    scaled = F.interpolate(picture[None], size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return scaled[0].clamp(-1, 1)


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Draw one float from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def random_crop(picture: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cut a random square (side log-uniform from `size` up, see COARSEST), flip it, resize to [3, size, size]."""
    longest = min(*picture.shape[1:], round(COARSEST * size))
    side = round(math.exp(uniform(generator, math.log(min(size, longest)), math.log(longest))))
    top = int(uniform(generator, 0, picture.shape[1] - side + 1))
    left = int(uniform(generator, 0, picture.shape[2] - side + 1))
    crop = resize(picture[:, top : top + side, left : left + side], size)
    if uniform(generator, 0, 1) < 0.5:
        crop = crop.flip(2)
    if uniform(generator, 0, 1) < 0.25:
        crop = crop.flip(1)
    if uniform(generator, 0, 1) < 0.25:
        crop = crop.transpose(1, 2)
    return crop


def jitter_colours(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Vary gamma, gain, white balance, hue and saturation of [3, H, W]; grey pictures are often tinted."""
    light = (picture + 1) / 2
    light = light.clamp(1e-4, 1) ** math.exp(uniform(generator, -0.4, 0.4))
    grey = light.mean(0, keepdim=True)
    if (light - grey).abs().mean() < 0.01 and uniform(generator, 0, 1) < 0.7:
        dark, bright = torch.rand(2, 3, 1, 1, generator=generator)
        light = dark * 0.5 * (1 - grey) + (0.5 + bright * 0.5) * grey
    elif uniform(generator, 0, 1) < 0.5:
        mixing = torch.eye(3) + MIXING * torch.randn(3, 3, generator=generator)
        mixing = mixing / mixing.sum(1, keepdim=True).clamp(min=0.5)
        light = torch.einsum("oc,chw->ohw", mixing, light)
    if uniform(generator, 0, 1) < SWAPPED:
        light = light[torch.randperm(3, generator=generator)]
    white = 1 + 0.1 * torch.randn(3, 1, 1, generator=generator)
    contrast = uniform(generator, 0.7, 1.15)
    light = (light - 0.5) * contrast + 0.5 + uniform(generator, -0.1, 0.1)
    return (light * white).clamp(0, 1) * 2 - 1


class PhotographSource:
    """Draws augmented squares from the training photographs."""

    def __init__(self) -> None:
        self.photographs = [load_photograph(name) for name in TRAINING]
        self.weights = torch.tensor([WEIGHTS.get(name, 1.0) for name in TRAINING])

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Return one picture [3, size, size] in -1..1."""
        index = int(torch.multinomial(self.weights, 1, generator=generator))
        return jitter_colours(random_crop(self.photographs[index], size, generator), generator)

"""Small films, pictures and encoders for the tests of training."""

import numpy as np
import torch
from PIL import Image

from svd_core.training.cache import encode_sources
from svd_core.training.cutting import ClipPlan

SIZE, FRAMES = 32, 4
PLAN = ClipPlan(SIZE, SIZE, FRAMES, fps=7)


class TinyEncoders:
    """Encoders that cost nothing: block means as latents, the mean colour as token. Counts its pictures."""

    def __init__(self):
        self.seen = 0

    def encode_latent(self, image):
        self.seen += len(image)
        means = torch.nn.functional.avg_pool2d(image, 8)
        return torch.cat([means, means.mean(1, keepdim=True)], dim=1)

    def encode_image(self, image):
        return image.mean((2, 3))[:, None]


def texture(height=96, width=96, seed=0):
    """A smooth random picture [1, H, W, 3] in 0..1 that flow can follow."""
    noise = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)
    return smooth.movedim(1, -1)


def film(frames, step=2, seed=0, size=48):
    """Frames [N, size, size, 3]: a window that slides over a picture by `step` pixels, so the content goes left."""
    picture = texture(size, size + frames * step + 8, seed)[0]
    return torch.stack([picture[:, index * step : index * step + size] for index in range(frames)])


def encode(sources, folder, plan=PLAN, model=None, **more):
    """The clip set of some sources by the tiny encoders."""
    return encode_sources(sources, plan, model or TinyEncoders(), folder, encoders="tiny", **more)


def save_pictures(folder, frames):
    """Write frames as numbered PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        Image.fromarray((frame.numpy() * 255).round().astype(np.uint8)).save(folder / f"f{index}.png")


def as_planes(frames):
    """[N, H, W, 3] in 0..1 to [N, 3, H, W] in -1..1."""
    return frames.movedim(-1, 1) * 2 - 1

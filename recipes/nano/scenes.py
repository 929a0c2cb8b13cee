"""Procedural pictures in pure torch: overlapping leaves, landscapes, clouds. Uses no files and no models."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .photographs import PhotographSource, jitter_colours, random_crop, uniform

CANVAS = 256


def coordinates(size: int) -> tuple[Tensor, Tensor]:
    """Return x and y, each [size, size], from -1 (left, top) to 1 (right, bottom)."""
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def random_colour(generator: torch.Generator) -> Tensor:
    """Draw a colour [3, 1, 1] in 0..1, between grey and saturated, between dark and bright."""
    hue = torch.rand(3, 1, 1, generator=generator)
    saturation, value = uniform(generator, 0, 1), uniform(generator, 0.05, 1)
    return value * (1 - saturation * (1 - hue))


def clouds(size: int, generator: torch.Generator, octaves: int = 5) -> Tensor:
    """Return fractal noise [1, size, size], about zero mean and unit deviation."""
    total = torch.zeros(1, 1, size, size)
    for octave in range(octaves):
        cells = min(size, 3 * 2**octave)
        noise = torch.randn(1, 1, cells, cells, generator=generator)
        total += F.interpolate(noise, size=(size, size), mode="bicubic", align_corners=False) * 0.55**octave
    return (total[0] - total.mean()) / total.std()


def gradient(size: int, generator: torch.Generator) -> Tensor:
    """Return a linear blend of two colours in a random direction, [3, size, size] in 0..1."""
    x, y = coordinates(size)
    angle, softness = uniform(generator, 0, 2 * math.pi), uniform(generator, 0.5, 4)
    ramp = torch.sigmoid((math.cos(angle) * x + math.sin(angle) * y + uniform(generator, -0.5, 0.5)) * softness)
    return random_colour(generator) * (1 - ramp) + random_colour(generator) * ramp


def shape_distance(kind: int, x: Tensor, y: Tensor, radius: float, aspect: float) -> Tensor:
    """Return the signed distance (negative inside) of a disk, box, diamond or ring, about 1 per unit length."""
    if kind == 0:
        return torch.hypot(x, y / aspect) - radius
    if kind == 1:
        return torch.maximum(x.abs(), y.abs() / aspect) - radius
    if kind == 2:
        return (x.abs() + y.abs() / aspect) * 0.7 - radius
    return (torch.hypot(x, y / aspect) - radius).abs() - 0.3 * radius


def paint_fill(x: Tensor, y: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """Return the inside of a shape: shaded colour, striped or mottled at random, [3, size, size]."""
    colour = random_colour(generator)
    shade = 1 + uniform(generator, -0.5, 0.5) * (x / radius) + uniform(generator, -0.5, 0.5) * (y / radius)
    fill = colour * shade.clamp(0.3, 1.7)
    choice = uniform(generator, 0, 1)
    if choice < 0.2:
        stripes = torch.sin(x * uniform(generator, 4, 14) / radius + uniform(generator, 0, 6))
        fill = fill + (random_colour(generator) - fill) * torch.sigmoid(stripes * 6) * uniform(generator, 0.3, 1)
    elif choice < 0.5:
        fill = fill * (1 + uniform(generator, 0.05, 0.25) * clouds(x.shape[0], generator))
    return fill


def leaves(size: int, generator: torch.Generator) -> Tensor:
    """Paint 15 to 80 shapes of power-law sizes over one another on a gradient: [3, size, size] in 0..1.

    Such pictures share the statistics of edges and occlusion with photographs ("dead leaves" model).
    """
    canvas = gradient(size, generator)
    x, y = coordinates(size)
    smallest = uniform(generator, 0.03, 0.1)
    for _ in range(int(uniform(generator, 15, 80))):
        radius = min(0.7, smallest / math.sqrt(max(uniform(generator, 0, 1), 1e-3)))
        angle = uniform(generator, 0, math.pi)
        x0, y0 = x - uniform(generator, -1.1, 1.1), y - uniform(generator, -1.1, 1.1)
        u = math.cos(angle) * x0 + math.sin(angle) * y0
        v = math.cos(angle) * y0 - math.sin(angle) * x0
        distance = shape_distance(int(uniform(generator, 0, 4)), u, v, radius, uniform(generator, 0.5, 2))
        edge = math.exp(uniform(generator, math.log(0.005), math.log(0.04)))
        mask = torch.sigmoid(-distance / edge * 2)
        canvas = canvas + (paint_fill(u, v, radius, generator) - canvas) * mask
    return canvas


def landscape(size: int, generator: torch.Generator) -> Tensor:
    """Paint a sky with clouds, a glowing sun and two to five ridges: [3, size, size] in 0..1."""
    x, y = coordinates(size)
    ramp = (y + 1) / 2
    sky = random_colour(generator) * (1 - ramp) + random_colour(generator) * ramp
    sky = sky + 0.12 * torch.sigmoid(clouds(size, generator) * 2) * uniform(generator, 0, 2)
    sun = torch.hypot(x - uniform(generator, -0.9, 0.9), y - uniform(generator, -0.9, 0.2))
    radius = uniform(generator, 0.05, 0.3)
    glow = torch.sigmoid((radius - sun) / 0.01) + 0.6 * torch.exp(-sun / (2 * radius))
    canvas = sky + (random_colour(generator) * 0.5 + 0.5 - sky) * glow.clamp(0, 1)
    horizon = uniform(generator, -0.4, 0.3)
    for _ in range(int(uniform(generator, 2, 6))):
        ridge = clouds(size, generator, octaves=4)[:, size // 2] * uniform(generator, 0.05, 0.2) + horizon
        mask = torch.sigmoid((y - ridge) / 0.01)
        ground = random_colour(generator) * (1 + 0.15 * clouds(size, generator)) * (1 - 0.3 * (y - horizon))
        canvas = canvas + (ground - canvas) * mask
        horizon += uniform(generator, 0.15, 0.45)
    return canvas


def mottled(size: int, generator: torch.Generator) -> Tensor:
    """Paint clouds of two or three colours: [3, size, size] in 0..1."""
    canvas = gradient(size, generator)
    for _ in range(2):
        mask = torch.sigmoid(clouds(size, generator) * uniform(generator, 1, 8))
        canvas = canvas + (gradient(size, generator) - canvas) * mask
    return canvas


def draw_scene(size: int, generator: torch.Generator) -> Tensor:
    """Return one procedural picture [3, size, size] in -1..1."""
    choice = uniform(generator, 0, 1)
    painter = leaves if choice < 0.6 else landscape if choice < 0.85 else mottled
    return painter(size, generator).clamp(0, 1) * 2 - 1


def draw_held_out_scene(width: int, height: int, generator: torch.Generator) -> Tensor:
    """Return a landscape or clouds [3, height, width] in -1..1, the scenes that nano is measured on."""
    painter = landscape if uniform(generator, 0, 1) < 0.5 else mottled
    square = painter(max(width, height), generator).clamp(0, 1) * 2 - 1
    top, left = (square.shape[1] - height) // 2, (square.shape[2] - width) // 2
    return square[:, top : top + height, left : left + width]


class PictureSource:
    """Draws training pictures: augmented photographs, else crops of a fixed pool of procedural canvases."""

    def __init__(self, work: Path, seed: int, canvases: int = 160, photograph_share: float = 0.65) -> None:
        """Draw the canvases, or read them from `work` if an earlier run cached them."""
        self.photographs = PhotographSource()
        self.photograph_share = photograph_share
        kept = work / f"canvases_{seed}_{canvases}.pt"
        if not kept.exists():
            generator = torch.Generator().manual_seed(seed)
            pixels = torch.stack([draw_scene(CANVAS, generator) for _ in range(canvases)])
            kept.parent.mkdir(parents=True, exist_ok=True)
            torch.save((pixels * 127).round().to(torch.int8), kept)
        self.canvases = torch.load(kept, weights_only=True)

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Return one picture [3, size, size] in -1..1."""
        if uniform(generator, 0, 1) < self.photograph_share:
            return self.photographs.draw(size, generator)
        canvas = self.canvases[int(uniform(generator, 0, len(self.canvases)))].float() / 127
        return jitter_colours(random_crop(canvas, size, generator), generator)

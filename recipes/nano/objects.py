"""Darts: painted objects that fly in the direction of their nose, for clips in which something moves by itself."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .camera import centres
from .photographs import uniform
from .scenes import random_colour

FLIGHT = 0.035  # halves of the shorter side per frame at the fastest usual speed


@dataclass(frozen=True)
class Dart:
    """A painted object: colours [3, H, W] in 0..1, cover [1, H, W] in 0..1 and the direction of its nose (x, y)."""

    colours: Tensor
    cover: Tensor
    direction: tuple[float, float]


def draw_dart(height: int, width: int, window: int, generator: torch.Generator) -> Dart:
    """Paint one dart on a field of `height` x `width` pixels whose middle `window` pixels the camera sees first.

    A round head with an eye at the front and a pointed tail behind, in two colours, 0.2 to 0.35 of the window long
    either way; it starts behind the middle so that it flies through the picture.
    """
    angle, radius = uniform(generator, 0, 2 * math.pi), window * uniform(generator, 0.09, 0.16)
    nose = (math.cos(angle), math.sin(angle))
    y, x = torch.meshgrid(centres(height), centres(width), indexing="ij")
    start = [uniform(generator, -0.22, 0.22) * window - 0.12 * window * part for part in nose]
    u = (nose[0] * (x - start[0]) + nose[1] * (y - start[1])) / radius  # along the nose
    v = (-nose[1] * (x - start[0]) + nose[0] * (y - start[1])) / radius
    edge = 1.5 / radius
    head = torch.sigmoid((1 - torch.hypot(u * 0.8, v)) / edge * 2)
    tail = torch.sigmoid((0.9 * (1 + u / 2.4) - v.abs()) / edge * 2) * torch.sigmoid(-u / edge * 2)
    body, accent = random_colour(generator), random_colour(generator)
    shade = (1 - 0.35 * v).clamp(0.4, 1.6)
    paint = body * shade + (accent - body) * tail * (1 - head)
    eye = torch.sigmoid((0.28 - torch.hypot(u - 0.55, v - 0.35)) / edge * 2)
    paint = paint + ((body.mean() < 0.5).float() - paint) * eye
    cover = torch.maximum(head, tail)
    return Dart(paint.clamp(0, 1), cover[None], nose)

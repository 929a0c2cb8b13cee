"""Draws dragged objects and their paths over the picture."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...svd_core.controls.drag import DragPath, drag_frames
from ...svd_core.pictures.fitting import resize

WIDTH = 768
TINT = (255, 90, 40)
COLOURS = ((80, 170, 255), (255, 190, 40), (120, 230, 120), (240, 120, 240))
GHOST = 0.45  # of the objects at the end of their paths


def draw_drags(picture: Tensor, objects: list[tuple[Tensor, DragPath]], frames: int) -> Tensor:
    """The picture [1, 3, H, W] in -1..1 with tinted objects, where they end, and a dot per frame: [1, h, 768, 3]."""
    height = round(WIDTH * picture.shape[2] / picture.shape[3])
    ends, _ = drag_frames(picture, objects, max(frames, 2))
    shown = torch.lerp(picture, ends.frames[-1:], GHOST)
    large = ((resize(shown, WIDTH, height)[0].clamp(-1, 1) + 1) * 127.5).movedim(0, -1)  # [h, 768, 3]
    for mask, _ in objects:
        area = resize(mask, WIDTH, height)[0, 0].clamp(0, 1)[..., None]
        large = torch.lerp(large, large.new_tensor(TINT), 0.35 * area)
    sheet = Image.fromarray(large.round().to(torch.uint8).cpu().numpy())
    pen = ImageDraw.Draw(sheet)
    for number, (mask, path) in enumerate(objects):
        _draw_path(pen, mask, path, frames, (WIDTH, height), COLOURS[number % len(COLOURS)])
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)[None]


def _draw_path(
    pen: ImageDraw.ImageDraw, mask: Tensor, path: DragPath, frames: int, size: tuple[int, int], colour: tuple
) -> None:
    rows, columns = (mask[0, 0] > 0.5).nonzero().float().mean(0).tolist()
    x, y = (columns + 0.5) / mask.shape[3], (rows + 0.5) / mask.shape[2]
    places = [((x + across) * size[0], (y + down) * size[1]) for across, down, *_ in path.places(frames).tolist()]
    pen.line(places, fill=colour, width=4, joint="curve")
    for place, radius in zip(places, [7, *[4] * (frames - 2), 10], strict=True):
        pen.ellipse([place[0] - radius, place[1] - radius, place[0] + radius, place[1] + radius], fill=colour)

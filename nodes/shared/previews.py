"""Previews of camera paths and dragged objects."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...svd_core.controls.camera.path import CameraPath, held_frames
from ...svd_core.controls.camera.warping import warp
from ...svd_core.controls.drag import DragPath, drag_frames
from ...svd_core.pictures import as_batch
from ...svd_core.pictures.fitting import resize

USUAL_FRAMES = 25  # of a usual clip, without holds
VIEWS, SHOWN = 7, 4  # outlines on the map, frames below it
SHEET_WIDTH, MAP_HEIGHT, GAP, TEXT = 768, 400, 8, 26
INK, PAPER, FIRST, LAST = (235, 235, 235), (32, 33, 38), (80, 170, 255), (255, 150, 40)
MAP_SHARE = 0.5  # of the map's width for the image; the rest shows views beyond its edges


def draw_path(path: CameraPath, image: Tensor | None = None) -> Tensor:
    """Draw a path and four of its frames over the first image of IMAGE [B, H, W, C], or a pattern: [1, H, W, 3]."""
    picture = pattern() if image is None else as_batch(image[:1])
    cell = (SHEET_WIDTH - (SHOWN - 1) * GAP) // SHOWN
    height = max(16, round(cell * picture.shape[2] / picture.shape[3]))
    picture = resize(picture, cell, height)
    frames = USUAL_FRAMES + held_frames(path.part)
    sheet = Image.new("RGB", (SHEET_WIDTH, MAP_HEIGHT + height + 2 * TEXT), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    _draw_map(sheet, pen, picture, path, frames)
    words = path.text if len(path.text) <= 100 else path.text[:97] + "..."
    pen.text((GAP, 6), words, fill=INK, font=font)
    indices = _spread(frames, SHOWN)
    warped, valid = warp(picture, path.poses(frames).at(indices))
    # Filled areas are dimmed, because the image does not show them.
    shown = torch.lerp(warped * 0.35 - 0.5, warped, valid)
    for place, index in enumerate(indices):
        x, y = place * (cell + GAP), MAP_HEIGHT + TEXT
        sheet.paste(_to_pil(shown[place]), (x, y))
        pen.text((x + 2, y + height + 4), f"frame {index + 1} of {frames}", fill=_colour(index, frames), font=font)
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)[None]


def pattern() -> Tensor:
    """Return a pattern of coloured squares in which every place is distinct: [1, 3, 144, 256] in -1..1."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 144), torch.linspace(0, 1, 256), indexing="ij")
    squares = ((x * 16).floor() + (y * 9).floor()) % 2 * 0.35 + 0.65
    return torch.stack([x, y * 0.8 + 0.1, 1 - x])[None] * squares * 2 - 1


def _draw_map(sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Tensor, path: CameraPath, frames: int) -> None:
    """Draw the image in the middle, and the camera's view of its plane in several frames, from blue to orange."""
    height, width = picture.shape[2:]
    scale = min(SHEET_WIDTH * MAP_SHARE / width, MAP_HEIGHT * MAP_SHARE / height)
    left, top = (SHEET_WIDTH - width * scale) / 2, TEXT + (MAP_HEIGHT - height * scale) / 2
    small = _to_pil(picture[0]).resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    sheet.paste(small, (round(left), round(top)))
    corners = torch.tensor([[0, 0], [width, 0], [width, height], [0, height], [width / 2, height / 2]]) - 0.5
    corners = torch.cat([corners, torch.ones(5, 1)], dim=1).to(torch.float64).T  # [3, 5]
    centres = []
    views = torch.linalg.inv(path.poses(frames).homographies(width, height)) @ corners  # [T, 3, 5]
    for index, view in enumerate(views):
        if not bool((view[2] > 0).all()):
            continue  # a corner beyond the horizon of the image plane
        points = [(left + x * scale, top + y * scale) for x, y in ((view[:2] + 0.5 * view[2]) / view[2]).T.tolist()]
        centres.append((points[4], _colour(index, frames)))
        if index in _spread(frames, VIEWS):
            pen.line([*points[:4], points[0]], fill=_colour(index, frames), width=3 if index in (0, frames - 1) else 1)
    for (start, _), (end, colour) in zip(centres[:-1], centres[1:], strict=True):
        pen.line([start, end], fill=colour, width=3)
    if centres:
        x, y = centres[-1][0]
        pen.ellipse([x - 5, y - 5, x + 5, y + 5], fill=LAST)


def _spread(count: int, wanted: int) -> list[int]:
    return [round(place * (count - 1) / (wanted - 1)) for place in range(wanted)]


def _colour(index: int, frames: int) -> tuple[int, ...]:
    part = index / max(frames - 1, 1)
    return tuple(round(a + (b - a) * part) for a, b in zip(FIRST, LAST, strict=True))


def _to_pil(frame: Tensor) -> Image.Image:
    pixels = ((frame.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(0, -1)
    return Image.fromarray(pixels.cpu().numpy())


TINT = (255, 90, 40)
COLOURS = ((80, 170, 255), (255, 190, 40), (120, 230, 120), (240, 120, 240))
GHOST = 0.45  # opacity of the objects at the end of their paths


def draw_drags(picture: Tensor, objects: list[tuple[Tensor, DragPath]], frames: int) -> Tensor:
    """Draw tinted objects, their end positions and a dot per frame over an image [1, 3, H, W]: [1, h, 768, 3]."""
    height = round(SHEET_WIDTH * picture.shape[2] / picture.shape[3])
    ends, _ = drag_frames(picture, objects, max(frames, 2))
    shown = torch.lerp(picture, ends.frames[-1:], GHOST)
    large = ((resize(shown, SHEET_WIDTH, height)[0].clamp(-1, 1) + 1) * 127.5).movedim(0, -1)  # [h, 768, 3]
    for mask, _ in objects:
        area = resize(mask, SHEET_WIDTH, height)[0, 0].clamp(0, 1)[..., None]
        large = torch.lerp(large, large.new_tensor(TINT), 0.35 * area)
    sheet = Image.fromarray(large.round().to(torch.uint8).cpu().numpy())
    pen = ImageDraw.Draw(sheet)
    for number, (mask, path) in enumerate(objects):
        _draw_path(pen, mask, path, frames, (SHEET_WIDTH, height), COLOURS[number % len(COLOURS)])
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

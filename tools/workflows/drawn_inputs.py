"""Inputs for the pictures of workflows whose weights cannot be shipped: objects, orbits, poses, rays, control pictures.

They show what goes in. What comes out is never invented.
"""

import colorsys
import math

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from svd_core.charts import FAINT, GRID, INK, PALETTE, PAPER, font
from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.weights import camera_rays, camera_to_world, rows_of
from svd_core.controls.lines import line_drawing
from svd_core.model.orbit import OrbitPath
from svd_core.pictures import from_pil
from svd_core.pictures.fitting import resize
from svd_core.pictures.objects import prepare_object

SCALE = 3  # drawn larger, then reduced: Pillow's shapes have hard edges


def mug(width: int = 320, height: int = 240) -> Tensor:
    """Return a mug off the centre of a transparent picture: [height, width, 4] in 0..1."""
    sheet = Image.new("RGBA", (width * SCALE, height * SCALE), (255, 255, 255, 0))
    pen = ImageDraw.Draw(sheet)

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
        return (left * width * SCALE, top * height * SCALE, right * width * SCALE, bottom * height * SCALE)

    pen.ellipse(box(0.42, 0.34, 0.62, 0.68), outline=(150, 70, 40, 255), width=9 * SCALE)
    pen.rectangle(box(0.2, 0.26, 0.5, 0.78), fill=(196, 98, 54, 255))
    pen.ellipse(box(0.2, 0.7, 0.5, 0.86), fill=(196, 98, 54, 255))
    for shade in range(12):
        right = 0.5 - 0.006 * shade
        pen.rectangle(box(right - 0.006, 0.26, right, 0.77), fill=(166 + 2 * shade, 78 + 2 * shade, 42 + shade, 255))
    pen.ellipse(box(0.2, 0.18, 0.5, 0.34), fill=(222, 132, 88, 255))
    pen.ellipse(box(0.22, 0.2, 0.48, 0.32), fill=(70, 40, 28, 255))
    return from_pil(sheet.resize((width, height), Image.Resampling.LANCZOS))[0]


def prepared_mug(side: int = 240) -> Tensor:
    """Return the mug as SV3D sees it: [side, side, 3] in 0..1."""
    return prepare_object(mug(), size=side)


def on_checks(picture: Tensor, cell: int = 12) -> Tensor:
    """Return a picture [H, W, 4] over the grey squares that stand for transparency: [H, W, 3]."""
    height, width = picture.shape[:2]
    rows, columns = torch.arange(height)[:, None] // cell, torch.arange(width)[None] // cell
    ground = 0.78 + 0.14 * ((rows + columns) % 2)[..., None].float()
    return picture[..., :3] * picture[..., 3:] + ground * (1 - picture[..., 3:])


def orbit_map(path: OrbitPath, side: int = 240) -> Tensor:
    """Return the cameras of an orbit seen from above, the picture's own view at the bottom: [side, side, 3]."""
    sheet = Image.new("RGB", (side, side), PAPER)
    pen = ImageDraw.Draw(sheet)
    middle, radius = side / 2, side * 0.36
    pen.ellipse((middle - radius, middle - radius, middle + radius, middle + radius), outline=GRID, width=2)
    pen.ellipse((middle - 16, middle - 16, middle + 16, middle + 16), fill=(196, 98, 54))
    for number, azimuth in enumerate(path.azimuths, 1):
        angle = math.radians(azimuth - path.azimuths[-1])
        x, y = middle + radius * math.sin(angle), middle + radius * math.cos(angle)
        own = number == path.frames
        size = 7 if own else 4
        pen.ellipse((x - size, y - size, x + size, y + size), fill=PALETTE[1] if own else PALETTE[0])
        if own or number in (1, 5, 10, 15):
            away = 1.24
            text = (middle + radius * away * math.sin(angle), middle + radius * away * math.cos(angle))
            pen.text(text, str(number), fill=INK if own else FAINT, font=font(14), anchor="mm")
    return from_pil(sheet)[0, ..., :3]


def angle_table(path: OrbitPath, side: int = 240, rows: int = 8) -> Tensor:
    """Return the first rows of an orbit's table of angles as a picture: [side, side, 3]."""
    sheet = Image.new("RGB", (side, side), PAPER)
    pen = ImageDraw.Draw(sheet)
    lines = [line.split(",") for line in path.table().splitlines()[: rows + 1]]
    for row, words in enumerate(lines):
        for place, word in enumerate(words):
            text = word if row == 0 else f"{float(word):g}"
            pen.text((14 + place * side // 3, 32 + row * 22), text, fill=FAINT if row == 0 else INK, font=font(14))
    return from_pil(sheet)[0, ..., :3]


# Joints of a person: neck, nose, shoulders, elbows, wrists, hips, knees, ankles, right before left, in 0..1.
STANDING = (
    (0.5, 0.27), (0.5, 0.16), (0.41, 0.28), (0.59, 0.28), (0.36, 0.42), (0.64, 0.42), (0.34, 0.55), (0.66, 0.55),
    (0.45, 0.54), (0.55, 0.54), (0.44, 0.73), (0.56, 0.73), (0.44, 0.92), (0.56, 0.92),
)  # fmt: skip
RAISED = {4: (0.31, 0.2), 6: (0.35, 0.06), 5: (0.71, 0.36), 7: (0.82, 0.44), 11: (0.63, 0.7), 13: (0.66, 0.88)}
LIMBS = (
    (0, 1), (0, 2), (0, 3), (2, 4), (3, 5), (4, 6), (5, 7), (0, 8), (0, 9), (8, 10), (9, 11), (10, 12), (11, 13),
)  # fmt: skip


def pose(share: float, width: int = 135, height: int = 240) -> Tensor:
    """Return the drawing of a person between standing (0) and arms raised (1): [height, width, 3], on black."""
    sheet = Image.new("RGB", (width * SCALE, height * SCALE))
    pen = ImageDraw.Draw(sheet)
    joints = []
    for number, (x, y) in enumerate(STANDING):
        to_x, to_y = RAISED.get(number, (x, y))
        joints.append(((x + share * (to_x - x)) * width * SCALE, (y + share * (to_y - y)) * height * SCALE))
    for number, (start, end) in enumerate(LIMBS):
        colour = colorsys.hsv_to_rgb(number / len(LIMBS), 1, 0.75)
        pen.line((joints[start], joints[end]), fill=tuple(round(255 * part) for part in colour), width=5 * SCALE)
    for number, (x, y) in enumerate(joints):
        colour = colorsys.hsv_to_rgb(number / len(joints), 1, 1)
        size = 3 * SCALE
        pen.ellipse((x - size, y - size, x + size, y + size), fill=tuple(round(255 * part) for part in colour))
    return from_pil(sheet.resize((width, height), Image.Resampling.LANCZOS))[0, ..., :3]


def ray_maps(path: str, frames: int = 4, width: int = 240, height: int = 136) -> list[Tensor]:
    """Return what CameraCtrl sees of a camera path: the direction of every pixel's ray as colours, [H, W, 3] each."""
    rows = rows_of(parse_path(path).poses(frames), width, height)
    rays = camera_rays(camera_to_world(rows.poses), rows.intrinsics, width, height)[:, 3:]
    return [((direction + 1) / 2).movedim(0, -1) for direction in rays]


def depth_frames(count: int = 4, side: int = 240) -> list[Tensor]:
    """Return depth maps of a camera that approaches a ball on a plain, near bright: each [side, side, 3]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    frames = []
    for number in range(count):
        radius = 0.35 + 0.09 * number
        ground = (0.1 + 0.55 * y.clamp(min=0)) * (y > 0)
        bulge = (radius**2 - x.square() - (y - 0.1).square()).clamp(min=0).sqrt()
        ball = 0.45 + 0.06 * number + 0.6 * bulge
        frames.append(torch.where(bulge > 0, ball, ground).clamp(0, 1)[..., None].expand(-1, -1, 3))
    return frames


def line_frames(photograph: Tensor, count: int = 4, side: int = 240) -> list[Tensor]:
    """Return the lines of a photograph [1, H, W, 3] under a camera that pans right: each [side, side, 3]."""
    crops = []
    height = photograph.shape[1]
    width = photograph.shape[2]
    part = int(0.7 * min(height, width))
    for number in range(count):
        left = (width - part) * number // max(1, count - 1)
        crop = photograph[:, (height - part) // 2 :, left : left + part][:, :part]
        crops.append(resize(crop.movedim(-1, 1) * 2 - 1, side, side))
    return list(line_drawing((torch.cat(crops).movedim(1, -1) + 1) / 2))

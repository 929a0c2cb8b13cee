"""How the pictures of workflows are laid out: sharp stills that show the idea, with small frames of nano's clip."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

SIDE, CAPTION, GAP = 512, 40, 4
HIGH = SIDE - CAPTION  # of the picture above the caption
INK, PAPER, MARK, FIRST = (240, 240, 240), (24, 24, 28), (255, 150, 40), (80, 170, 255)

Picture = Image.Image
Layout = Callable[[Picture, Sequence[Picture]], Picture]


@dataclass(frozen=True)
class Look:
    """A layout, and the part of the workflow's photograph that it shows (left, top, right, bottom, as shares)."""

    layout: Layout
    part: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    mirrored: bool = False

    def still(self, photograph: Picture) -> Picture:
        """Return the part of a photograph."""
        width, height = photograph.size
        left, top, right, bottom = self.part
        cut = photograph.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
        return ImageOps.mirror(cut) if self.mirrored else cut


def captioned(picture: Picture, caption: str, source: str) -> Picture:
    """Return the thumbnail: a picture [512 x 472] above its caption, with the source in small print."""
    sheet = Image.new("RGB", (SIDE, SIDE), PAPER)
    sheet.paste(picture, (0, 0))
    pen, small = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    pen.text((8, HIGH + 6), caption, fill=INK, font=ImageFont.load_default(24))
    place = (SIDE - 8 - pen.textlength(source, small), HIGH + 14)
    pen.text(place, source, fill=(150, 150, 150), font=small)
    return sheet


def filled(picture: Picture, width: int = SIDE, height: int = HIGH) -> Picture:
    """Return a picture cut to a size."""
    return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)


def spread(count: int, wanted: int) -> list[int]:
    """Return `wanted` indices from the first to the last of `count`."""
    return [round(place * (count - 1) / max(wanted - 1, 1)) for place in range(wanted)]


def some(frames: Sequence[Picture], wanted: int) -> list[Picture]:
    """Return `wanted` frames, from the first to the last."""
    return [frames[index] for index in spread(len(frames), wanted)]


def hero(still: Picture, frames: Sequence[Picture]) -> Picture:
    """The still fills the picture, with four frames in a row at the bottom."""
    sheet = filled(still)
    _row(sheet, frames, HIGH - 92)
    return sheet


def top(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Four frames in a row above the still."""
    sheet = filled(still)
    _row(sheet, frames, 12)
    return sheet


def left(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Four frames below one another, and the still to their right."""
    sheet, high = Image.new("RGB", (SIDE, HIGH), PAPER), (HIGH - 3 * GAP) // 4
    for place, frame in enumerate(some(frames, 4)):
        sheet.paste(filled(frame, 160, high), (0, place * (high + GAP)))
    sheet.paste(filled(still, SIDE - 160 - GAP, HIGH), (160 + GAP, 0))
    return sheet


def split(still: Picture, frames: Sequence[Picture]) -> Picture:
    """The first and the last frame, with a slanted line between them."""
    sheet, mask = filled(frames[0]), Image.new("L", (SIDE, HIGH), 0)
    ImageDraw.Draw(mask).polygon([(300, 0), (SIDE, 0), (SIDE, HIGH), (212, HIGH)], fill=255)
    sheet.paste(filled(frames[-1]), (0, 0), mask)
    ImageDraw.Draw(sheet).line([(300, 0), (212, HIGH)], fill=(255, 255, 255), width=5)
    return sheet


def grid(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Twenty-five frames in five rows."""
    sheet, (wide, high) = Image.new("RGB", (SIDE, HIGH), PAPER), ((SIDE - 4 * GAP) // 5, (HIGH - 4 * GAP) // 5)
    for place, frame in enumerate(some(frames, 25)):
        sheet.paste(filled(frame, wide, high), (place % 5 * (wide + GAP), place // 5 * (high + GAP)))
    return sheet


def chosen(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Four pictures, of which one has a green frame."""
    sheet, (wide, high) = Image.new("RGB", (SIDE, HIGH), PAPER), ((SIDE - 3 * 14) // 2, (HIGH - 3 * 14) // 2)
    for place, frame in enumerate(some(frames, 4)):
        x, y = 14 + place % 2 * (wide + 14), 14 + place // 2 * (high + 14)
        sheet.paste(filled(frame, wide, high), (x, y))
        if place == 2:
            ImageDraw.Draw(sheet).rectangle([x - 6, y - 6, x + wide + 5, y + high + 5], outline=(76, 196, 106), width=6)
    return sheet


def film(still: Picture, frames: Sequence[Picture]) -> Picture:
    """A strip of film across a dimmed still."""
    sheet = ImageEnhance.Brightness(filled(still).filter(ImageFilter.GaussianBlur(3))).enhance(0.45)
    pen = ImageDraw.Draw(sheet)
    for row in range(3):
        y = 14 + row * 152
        pen.rectangle([0, y, SIDE, y + 140], fill=(12, 12, 14))
        for hole in range(17):
            for edge in (y + 4, y + 128):
                pen.rounded_rectangle([hole * 31 + 6, edge, hole * 31 + 20, edge + 8], 2, fill=(200, 200, 200))
        for place, frame in enumerate(some(frames, 12)[row * 4 : row * 4 + 4]):
            sheet.paste(filled(frame, 124, 104), (place * 128 + 2, y + 18))
    return sheet


def ring(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Eight frames in a ring around the still: the last leads to the first."""
    sheet = ImageEnhance.Brightness(filled(still)).enhance(0.3)
    pen = ImageDraw.Draw(sheet)
    pen.ellipse([SIDE / 2 - 170, HIGH / 2 - 170, SIDE / 2 + 170, HIGH / 2 + 170], outline=MARK, width=5)
    for place, frame in enumerate(some(frames, 8)):
        angle = place * math.pi / 4
        x, y = SIDE / 2 + 170 * math.sin(angle) - 54, HIGH / 2 - 170 * math.cos(angle) - 46
        sheet.paste(filled(frame, 108, 92), (round(x), round(y)))
    sheet.paste(filled(still, 170, 150), (SIDE // 2 - 85, HIGH // 2 - 75))
    return sheet


def ends(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Both ends large, and what lies between them small."""
    sheet, half = Image.new("RGB", (SIDE, HIGH), PAPER), (SIDE - 14) // 2
    sheet.paste(filled(frames[0], half, 330), (0, 0))
    sheet.paste(filled(frames[-1], half, 330), (SIDE - half, 0))
    for place, frame in enumerate(some(frames, 6)[1:-1]):
        sheet.paste(filled(frame, 125, 124), (place * 129, 342))
    pen = ImageDraw.Draw(sheet)
    pen.polygon([(SIDE / 2 - 22, 140), (SIDE / 2 + 30, 165), (SIDE / 2 - 22, 190)], fill=MARK)
    return sheet


def upright(still: Picture, frames: Sequence[Picture]) -> Picture:
    """An upright clip in the middle of a bright card, its frames beside it."""
    sheet = Image.new("RGB", (SIDE, HIGH), (236, 226, 208))
    sheet.paste(filled(still, 252, 448), (20, 12))
    for place, frame in enumerate(some(frames, 4)):
        sheet.paste(filled(frame, 104, 184), (288 + place % 2 * 112, 46 + place // 2 * 196))
    return sheet


def square(still: Picture, frames: Sequence[Picture]) -> Picture:
    """A square in the middle of a coloured card."""
    sheet = Image.new("RGB", (SIDE, HIGH), (214, 72, 120))
    sheet.paste(filled(still, 300, 300), (106, 24))
    for place, frame in enumerate(some(frames, 4)):
        sheet.paste(filled(frame, 110, 110), (18 + place * 122, 344))
    return sheet


def nodes(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Four nodes with links, over a bright still."""
    sheet = Image.blend(filled(still), Image.new("RGB", (SIDE, HIGH), (250, 250, 250)), 0.62)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    boxes = [("Prepare Image", 24, 40), ("Export", 24, 150), ("KSampler", 196, 96), ("Decode", 350, 30)]
    for (_, x, y), (_, to_x, to_y) in [(boxes[0], boxes[2]), (boxes[1], boxes[2]), (boxes[2], boxes[3])]:
        pen.line([(x + 146, y + 40), (to_x, to_y + 40)], fill=(230, 140, 30), width=5)
    for words, x, y in boxes:
        pen.rounded_rectangle([x, y, x + 146, y + 80], 10, fill=(40, 42, 50))
        pen.text((x + 12, y + 28), words, fill=INK, font=font)
    _row(sheet, frames, HIGH - 150, 120, 132)
    return sheet


def memory(still: Picture, frames: Sequence[Picture]) -> Picture:
    """The still above a bar of memory that stays below its mark."""
    sheet = Image.new("RGB", (SIDE, HIGH), (22, 78, 66))
    sheet.paste(filled(still, SIDE - 40, 250), (20, 20))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(26)
    pen.rounded_rectangle([20, 330, SIDE - 20, 400], 10, fill=(12, 44, 38))
    pen.rounded_rectangle([20, 330, 300, 400], 10, fill=(96, 214, 150))
    pen.line([(350, 310), (350, 420)], fill=MARK, width=5)
    pen.text((330, 424), "8 GB", fill=INK, font=font)
    pen.text((20, 290), "memory of the card", fill=INK, font=font)
    return sheet


def steps(still: Picture, frames: Sequence[Picture]) -> Picture:
    """The still in four bands, from noise to the picture."""
    sheet, noise = filled(still), torch.randn(HIGH, SIDE, 3, generator=torch.Generator().manual_seed(1))
    grain = Image.fromarray((noise * 60 + 128).clamp(0, 255).to(torch.uint8).numpy())
    pen = ImageDraw.Draw(sheet)
    for place, share in enumerate((0.9, 0.65, 0.35)):
        box = (place * 128, 0, place * 128 + 128, HIGH)
        soft = sheet.crop(box).filter(ImageFilter.GaussianBlur(10 - 3 * place))
        sheet.paste(Image.blend(soft, grain.crop(box), share), box)
    for place in range(4):
        pen.text((place * 128 + 12, 10), str(place + 1), fill=INK, font=ImageFont.load_default(34), stroke_width=3,
                 stroke_fill=PAPER)  # fmt: skip
    return sheet


def chart(still: Picture, frames: Sequence[Picture]) -> Picture:
    """The still above a page with two curves."""
    sheet = Image.new("RGB", (SIDE, HIGH), (246, 244, 238))
    sheet.paste(filled(still, SIDE, 216), (0, 0))
    pen = ImageDraw.Draw(sheet)
    for line in range(5):
        pen.line([(24, 246 + line * 48), (SIDE - 24, 246 + line * 48)], fill=(206, 202, 192), width=1)
    for colour, high, phase in ((FIRST, 80, 0.4), (MARK, 54, 2.4)):
        points = [(24 + x, 340 - high * math.sin(x / 74 + phase) * (1 - x / 900)) for x in range(SIDE - 48)]
        pen.line(points, fill=colour, width=7, joint="curve")
    return sheet


def words(still: Picture, frames: Sequence[Picture]) -> Picture:
    """A line of words, and the still that they become."""
    sheet = Image.new("RGB", (SIDE, HIGH), (70, 52, 120))
    pen = ImageDraw.Draw(sheet)
    pen.rounded_rectangle([20, 24, SIDE - 20, 150], 14, fill=(245, 245, 250))
    pen.text(
        (38, 44), "misty mountains at sunrise,\na forest in front |", fill=(40, 30, 70), font=ImageFont.load_default(30)
    )
    sheet.paste(filled(still, SIDE - 40, 210), (20, 172))
    _row(sheet, frames, HIGH - 84, 74, 114)
    return sheet


def sizes(still: Picture, frames: Sequence[Picture]) -> Picture:
    """The still with the outlines of three sizes."""
    sheet = filled(still)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(22)
    for share, text in ((0.3, "720p"), (0.55, "1080p"), (0.94, "4K")):
        x, y = 20 + (SIDE - 40) * share, HIGH - 20 - (HIGH - 40) * share
        pen.rectangle([20, y, x, HIGH - 20], outline=(255, 255, 255), width=4)
        pen.text((x - 74, y + 8), text, fill=INK, font=font, stroke_width=3, stroke_fill=PAPER)
    return sheet


def panels(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Three panels as in a comic."""
    sheet, width, height = Image.new("RGB", (SIDE, HIGH), (250, 250, 250)), *still.size
    parts = [(0.2, 0.2, 0.6, 0.8), (0.55, 0.05, 1.0, 0.75), (0.0, 0.0, 1.0, 1.0)]
    boxes = [(12, 12, 200, 214), (224, 12, 276, 214), (12, 238, 488, 222)]
    pen = ImageDraw.Draw(sheet)
    for (a, b, c, d), (x, y, wide, high) in zip(parts, boxes, strict=True):
        cut = still.crop((round(a * width), round(b * height), round(c * width), round(d * height)))
        sheet.paste(filled(cut, wide, high), (x, y))
        pen.rectangle([x - 2, y - 2, x + wide + 1, y + high + 1], outline=PAPER, width=5)
    return sheet


def sketch(still: Picture, frames: Sequence[Picture]) -> Picture:
    """The drawing on a dark table, and its film."""
    sheet = Image.new("RGB", (SIDE, HIGH), (44, 62, 92))
    paper = filled(still, 380, 250).rotate(5, Image.Resampling.BICUBIC, expand=True, fillcolor=(44, 62, 92))
    sheet.paste(paper, (60, 6))
    _row(sheet, frames, HIGH - 150, 130, 124)
    return sheet


def table(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Rows of words beside a small still."""
    sheet = Image.new("RGB", (SIDE, HIGH), (58, 60, 66))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(24)
    for place, text in enumerate(("variant", "parts", "precision", "size", "licence")):
        y = 24 + place * 60
        pen.rectangle([20, y, SIDE - 20, y + 46], fill=(78, 82, 92) if place % 2 else (70, 73, 81))
        pen.text((34, y + 8), text, fill=(176, 200, 230), font=font)
        pen.rounded_rectangle([230, y + 14, 230 + (170, 236, 120, 90, 200)[place], y + 32], 8, fill=(214, 216, 222))
    sheet.paste(filled(still, SIDE - 40, 124), (20, 332))
    return sheet


def combined(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Frames that lie on one another, over a white card."""
    sheet = Image.new("RGB", (SIDE, HIGH), (232, 238, 244))
    for place, frame in enumerate(some(frames, 6)):
        sheet.paste(filled(frame, 300, 250), (18 + place * 36, 14 + place * 38))
    return sheet


def framed(ground: tuple[int, int, int]) -> Layout:
    """Return the layout of the whole still on a card of one colour, with four frames below."""

    def layout(still: Picture, frames: Sequence[Picture]) -> Picture:
        sheet = Image.new("RGB", (SIDE, HIGH), ground)
        sheet.paste(filled(still, SIDE - 32, 300), (16, 16))
        _row(sheet, frames, HIGH - 130, 100, 116)
        return sheet

    return layout


def cells(still: Picture, frames: Sequence[Picture]) -> Picture:
    """Four pictures, numbered."""
    sheet, (wide, high) = Image.new("RGB", (SIDE, HIGH), PAPER), ((SIDE - GAP) // 2, (HIGH - GAP) // 2)
    pen = ImageDraw.Draw(sheet)
    for place, frame in enumerate(some(frames, 4)):
        x, y = place % 2 * (wide + GAP), place // 2 * (high + GAP)
        sheet.paste(ImageOps.pad(frame, (wide, high), Image.Resampling.LANCZOS, color=PAPER), (x, y))
        pen.text((x + 8, y + 6), str(place + 1), fill=INK, font=ImageFont.load_default(20), stroke_width=2,
                 stroke_fill=PAPER)  # fmt: skip
    return sheet


def _row(sheet: Picture, frames: Sequence[Picture], y: int, high: int = 80, wide: int = 120) -> None:
    """Paste four frames in a row with thin white borders."""
    gap = (SIDE - 4 * wide) // 5
    for place, frame in enumerate(some(frames, 4)):
        x = gap + place * (wide + gap)
        ImageDraw.Draw(sheet).rectangle([x - 2, y - 2, x + wide + 1, y + high + 1], fill=(245, 245, 245))
        sheet.paste(filled(frame, wide, high), (x, y))


# These show the sharp still alone; no clip is made for them.
STILLS = (sizes, steps, memory, chart, panels, table)
# What is not named here shows the whole photograph as a hero.
LOOKS = {
    "nano_image_to_video": Look(hero),
    "check_setup": Look(chart, (0.2, 0.1, 0.9, 0.9)),
    "svd_image_to_video": Look(left, (0.5, 0.1, 1.0, 0.9)),
    "svd_xt_image_to_video": Look(grid),
    "svd_xt_1_1_image_to_video": Look(hero, (0.25, 0.0, 0.75, 0.45)),
    "svd_with_comfyui_nodes": Look(nodes),
    "low_vram_8gb": Look(memory, (0.0, 0.2, 1.0, 1.0)),
    "animatelcm_few_steps": Look(steps, (0.05, 0.1, 0.75, 1.0)),
    "fast_draft": Look(left, (0.0, 0.4, 0.5, 1.0)),
    "upscale_and_interpolate": Look(sizes, (0.25, 0.3, 0.5, 0.72)),
    "clip_report": Look(chart, (0.1, 0.2, 0.9, 0.75)),
    "camera_pan_and_zoom": Look(framed((20, 26, 44))),
    "camera_orbit_with_depth": Look(framed((196, 120, 72)), (0.0, 0.25, 1.0, 1.0)),
    "motion_brush": Look(hero),
    "cut_and_drag": Look(framed((96, 140, 104))),
    "control_by_clip": Look(left, (0.3, 0.0, 1.0, 1.0)),
    "first_and_last_frame": Look(ends),
    "seamless_loop": Look(ring),
    "longer_clip": Look(film),
    "longer_clip_15_seconds": Look(grid, (0.0, 0.4, 1.0, 1.0)),
    "steadier_clip": Look(chart, (0.1, 0.0, 0.9, 0.4)),
    "finish_4k": Look(sizes, (0.3, 0.35, 1.0, 1.0)),
    "draft_then_final": Look(split, (0.3, 0.2, 0.7, 1.0)),
    "interpolate_with_model": Look(combined),
    "vhs_output": Look(combined, (0.2, 0.0, 0.8, 1.0)),
    "sketch_to_4k_film": Look(sketch),
    "text_to_video": Look(words),
    "product_b_roll": Look(hero, (0.25, 0.3, 0.75, 1.0), mirrored=True),
    "portrait_9_16": Look(upright, (0.15, 0.0, 0.85, 1.0)),
    "social_square": Look(square, (0.15, 0.0, 0.85, 0.6)),
    "motion_lab": Look(chosen),
    "compare_clips": Look(split),
    "storyboard_animatic": Look(panels),
    "inspect_model": Look(table),
    "lora_camera_move": Look(left),
    "train_camera_lora": Look(square),
    "train_character_lora": Look(grid, (0.2, 0.0, 0.8, 0.5)),
}

"""Write webp and gif: Pillow compresses one frame at a time, and this file writes the containers around them.

Pillow's own `save_all` holds all frames in memory and merges equal ones, which loses the frame count.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from torch import Tensor

from .clip import ClipOptions, frame_times, to_pil

IMAGE_DESCRIPTION = 0x010E  # EXIF tag


def write_webp(path: Path, frames: Iterator[Tensor], options: ClipOptions) -> None:
    """Write an animated lossy WebP; durations in whole milliseconds do not drift, settings are the EXIF description.

    Container: RFC 9649 section 2.7.
    """
    if max(options.width, options.height) > 16383:
        raise ValueError(f"{options.width}x{options.height} is beyond webp's 16383 pixels per side; use mp4 or webm")
    size = _three_bytes(options.width - 1) + _three_bytes(options.height - 1)
    exif = Image.Exif()
    exif[IMAGE_DESCRIPTION] = options.text
    with open(path, "wb") as file:
        file.write(b"RIFF\0\0\0\0WEBP")
        file.write(_chunk(b"VP8X", struct.pack("<I", 0x02 | 0x08) + size))  # animated, has EXIF
        file.write(_chunk(b"ANIM", struct.pack("<IH", 0xFFFFFFFF, 0 if options.loop else 1)))
        for index, frame in enumerate(frames):
            duration = _three_bytes(frame_times(options.fps, 1000, index))
            replace = b"\x02"  # the frame replaces what was there, no blending
            file.write(_chunk(b"ANMF", bytes(6) + size + duration + replace + _still_webp(frame, options.quality)))
        file.write(_chunk(b"EXIF", exif.tobytes().removeprefix(b"Exif\0\0")))
        length = file.tell()
        file.seek(4)
        file.write(struct.pack("<I", length - 8))


def _still_webp(frame: Tensor, quality: int) -> bytes:
    """Return the picture chunk of a WebP file of one frame, without the header of the file."""
    buffer = io.BytesIO()
    to_pil(frame).save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()[12:]


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _three_bytes(value: int) -> bytes:
    return value.to_bytes(3, "little")


def write_gif(path: Path, frames: Iterator[Tensor], options: ClipOptions) -> None:
    """Write a GIF with 256 colours per frame and Floyd-Steinberg dithering; the settings are its comment.

    Durations are hundredths of a second whose rounding does not add up (7 fps is 14, 15, 14, ...). Container: GIF89a
    specification.
    """
    with open(path, "wb") as file:
        file.write(b"GIF89a" + struct.pack("<HHBBB", options.width, options.height, 0x70, 0, 0))
        if options.loop:
            file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")
        file.write(b"!\xfe" + _gif_blocks(options.text.encode("ascii")))
        for index, frame in enumerate(frames):
            duration = frame_times(options.fps, 100, index)
            file.write(struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 1 << 2, duration, 0, 0))
            file.write(_gif_image(frame))
        file.write(b";")


def _gif_blocks(content: bytes) -> bytes:
    parts = (content[start : start + 255] for start in range(0, len(content), 255))
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def _gif_image(frame: Tensor) -> bytes:
    """Return an image block with its own palette, cut out of the GIF file that Pillow makes of a single frame."""
    picture = to_pil(frame)
    # Octree palettes are best for photographs: measured 3 dB above median cut after dithering, and ten times faster.
    palette = picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    buffer = io.BytesIO()
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "GIF", interlace=False)
    content = buffer.getvalue()
    table_bits = content[10] & 7
    position = 13 + 3 * 2 ** (table_bits + 1)
    table = content[13:position]
    while content[position] == 0x21:  # extensions before the image
        position += 2
        while content[position]:
            position += content[position] + 1
        position += 1
    flags = content[position + 9] | 0x80 | table_bits  # the file's colour table becomes the image's own
    return content[position : position + 9] + bytes([flags]) + table + content[position + 10 :].removesuffix(b";")

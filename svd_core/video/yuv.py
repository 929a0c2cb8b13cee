"""Convert float frames to the planes of encoders: BT.709, limited range, 8 or 10 bits, 4:2:0 or 4:2:2."""

from contextlib import suppress

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Weights of red and blue in luma, ITU-R BT.709 section 3; green has the rest.
KR, KB = 0.2126, 0.0722
BT709, LIMITED = 1, 1  # AVCOL_*_BT709 and AVCOL_RANGE_MPEG of FFmpeg
# By pixel format: bits, and whether chroma has half the rows (4:2:0).
FORMATS = {"yuv420p": (8, True), "yuv420p10le": (10, True), "yuv422p10le": (10, False)}


def to_yuv(frame: Tensor, index: int, pixel_format: str = "yuv420p") -> av.VideoFrame:
    """Return a frame [H, W, 3] in 0..1 in one of FORMATS with time stamp `index`, without rounding to 8-bit RGB first.

    An odd side grows by one repeated pixel. Chroma is sited on the left, as H.264 and VP9 assume: halved by a 1-2-1
    filter across and by pairs down.
    """
    bits, rows_too = FORMATS[pixel_format]
    height, width = frame.shape[:2]
    planes = frame.contiguous().movedim(-1, 0)[None]
    if height % 2 or width % 2:
        planes = F.pad(planes, (0, width % 2, 0, height % 2), mode="replicate")
    height, width = planes.shape[2:]
    red, green, blue = planes[0]  # each [H, W]
    luma = KR * red + (1 - KR - KB) * green + KB * blue
    chroma = torch.stack([(blue - luma) / (2 - 2 * KB), (red - luma) / (2 - 2 * KR)])  # [2, H, W] in -0.5..0.5
    if rows_too:
        chroma = chroma.unflatten(1, (-1, 2)).mean(2)  # [2, H/2, W]
    chroma = torch.cat([chroma[:, :, :1], chroma], 2)
    chroma = (chroma[:, :, :-1:2] + 2 * chroma[:, :, 1::2] + chroma[:, :, 2::2]) / 4  # [2, H or H/2, W/2]
    unit = 2 ** (bits - 8)
    levels = [_levels(unit * (16 + 219 * luma), bits), *(_levels(unit * (128 + 224 * part), bits) for part in chroma)]
    result = av.VideoFrame(width, height, pixel_format)
    for plane, values in zip(result.planes, levels, strict=True):
        _fill(plane, values)
    result.colorspace, result.color_range = BT709, LIMITED
    with suppress(AttributeError):  # PyAV before 15 has these two only on the encoder
        result.color_primaries = result.color_trc = BT709
    result.pts = index
    return result


def _levels(values: Tensor, bits: int) -> np.ndarray:
    whole = values.round().clamp(0, 2**bits - 1)
    return whole.to(torch.uint8).numpy() if bits == 8 else whole.to(torch.int16).numpy().view(np.uint16)


def _fill(plane: av.video.plane.VideoPlane, values: np.ndarray) -> None:
    """Copy [h, w] into a plane, whose rows may be longer."""
    rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
    rows[:, : values.shape[1]] = values
    plane.update(rows)

"""mp4 (H.264) and webm (VP9) through PyAV: 4:2:0, limited range, BT.709, converted and tagged as such."""

from collections.abc import Iterator
from pathlib import Path

import av
import torch
import torch.nn.functional as F
from torch import Tensor

from .clip import ClipOptions

# Weights of red and blue in luma, ITU-R BT.709 section 3; green has the rest.
KR, KB = 0.2126, 0.0722
CODECS = {"mp4": "libx264", "webm": "libvpx-vp9"}
BT709, LIMITED = 1, 1  # AVCOL_*_BT709 and AVCOL_RANGE_MPEG of FFmpeg


def write_encoded(path: Path, frames: Iterator[Tensor], options: ClipOptions, kind: str) -> None:
    """Encode frames [H, W, 3] as they come. An odd side grows by one repeated pixel, since 4:2:0 has none."""
    with av.open(str(path), "w", format=kind, options=_container_options(kind)) as container:
        container.metadata["comment"] = options.text
        stream = container.add_stream(CODECS[kind], rate=options.fps, options=_codec_options(kind, options.quality))
        stream.width, stream.height = options.width + options.width % 2, options.height + options.height % 2
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.color_primaries = codec.color_trc = codec.colorspace = BT709
        codec.color_range = LIMITED
        for index, frame in enumerate(frames):
            container.mux(stream.encode(to_yuv(frame, index)))
        container.mux(stream.encode(None))


def _container_options(kind: str) -> dict[str, str]:
    # mp4: the index first, so that a browser starts playing before the last byte. webm: no random ids, so that equal
    # clips make equal files.
    return {"movflags": "faststart"} if kind == "mp4" else {"fflags": "bitexact"}


def _codec_options(kind: str, quality: int) -> dict[str, str]:
    """Constant quality: 90 is visually lossless for most clips (crf 17 of 51 for H.264, 23 of 63 for VP9)."""
    if kind == "mp4":
        # x264's macroblock tree gives another file on every run at sizes below 128 pixels, and no better one above.
        return {"crf": str(min(51, round(12 + (100 - quality) * 0.5))), "mbtree": "0"}
    return {"crf": str(min(63, round(15 + (100 - quality) * 0.8))), "b": "0", "cpu-used": "3", "row-mt": "1"}


def to_yuv(frame: Tensor, index: int) -> av.VideoFrame:
    """[H, W, 3] in 0..1 to an 8-bit yuv420p frame, from the floats rather than from rounded RGB.

    Chroma is sited on the left as H.264 and VP9 assume: halved by a 1-2-1 filter across and by pairs down.
    """
    height, width = frame.shape[:2]
    planes = frame.movedim(-1, 0)[None]
    if height % 2 or width % 2:
        planes = F.pad(planes, (0, width % 2, 0, height % 2), mode="replicate")
    height, width = planes.shape[2:]
    red, green, blue = planes[0]  # each [H, W]
    luma = KR * red + (1 - KR - KB) * green + KB * blue
    chroma = torch.stack([(blue - luma) / (2 - 2 * KB), (red - luma) / (2 - 2 * KR)])  # [2, H, W] in -0.5..0.5
    chroma = chroma.unflatten(1, (-1, 2)).mean(2)  # [2, H/2, W]
    chroma = torch.cat([chroma[:, :, :1], chroma], 2)
    chroma = (chroma[:, :, :-1:2] + 2 * chroma[:, :, 1::2] + chroma[:, :, 2::2]) / 4  # [2, H/2, W/2]
    values = torch.cat([16 + 219 * luma.flatten(), 128 + 224 * chroma.flatten()])
    levels = values.round().clamp(0, 255).to(torch.uint8).view(height * 3 // 2, width).numpy()
    result = av.VideoFrame.from_ndarray(levels, format="yuv420p")
    result.colorspace, result.color_range = BT709, LIMITED
    result.pts = index
    return result

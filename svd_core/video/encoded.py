"""Encode mp4 (H.264) and webm (VP9) with PyAV: 4:2:0, limited range, converted and tagged as BT.709."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from .clip import ClipOptions
from .media import open_output
from .yuv import BT709, LIMITED, to_yuv

CODECS = {"mp4": "libx264", "webm": "libvpx-vp9"}


def write_encoded(path: Path, frames: Iterator[Tensor], options: ClipOptions, kind: str) -> None:
    """Encode frames [H, W, 3]. An odd side grows by one repeated pixel, because 4:2:0 needs even sides."""
    with open_output(path, kind, _container_options(kind)) as container:
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
    # mp4: the index comes first, so that a browser plays before the last byte. webm: no random ids, so that equal clips
    # make equal files.
    return {"movflags": "faststart"} if kind == "mp4" else {"fflags": "bitexact"}


def _codec_options(kind: str, quality: int) -> dict[str, str]:
    """Return options of constant quality: 90, visually lossless for most clips, is crf 17 in H.264 and 23 in VP9."""
    if kind == "mp4":
        # x264's macroblock tree is not deterministic below 128 pixels, and no better above.
        return {"crf": str(min(51, round(12 + (100 - quality) * 0.5))), "mbtree": "0"}
    return {"crf": str(min(63, round(15 + (100 - quality) * 0.8))), "b": "0", "cpu-used": "3", "row-mt": "1"}

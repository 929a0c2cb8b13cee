"""mp4 (H.264) and webm (VP9) through PyAV: 4:2:0, limited range, BT.709, converted and tagged as such."""

from collections.abc import Iterator
from pathlib import Path

import av
from torch import Tensor

from .clip import ClipOptions
from .yuv import BT709, LIMITED, to_yuv

CODECS = {"mp4": "libx264", "webm": "libvpx-vp9"}


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

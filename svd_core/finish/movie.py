"""Write a film file frame by frame, with colour tags, sound and settings; it gets its name when it is whole."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor

from ..files import check_writable, replacing, write_error
from ..video.clip import parse_fps, settings_text
from ..video.media import open_output
from ..video.target import check_name, check_quality
from ..video.yuv import BT709, LIMITED, to_yuv
from .codecs import TAGS, Codec, encoder_options, find_codec
from .sound import Sound, SoundTrack

LEAST_SIDE = {"libx265": 64}  # pixels: with fewer, x265 writes outside its own memory


@dataclass(frozen=True)
class FilmOptions:
    """How a film is written.

    fps: frame rate of the film. codec: a name of CODECS. quality: 0..100. bit_depth: 8 or 10. metadata: settings as
    plain JSON values, which `read_clip` returns. texts: further metadata under their own keys, such as a workflow.
    keep_partial: keep a cancelled film as a shorter one instead of deleting it.
    """

    fps: float | Fraction
    codec: str = "h264"
    quality: int = 90
    bit_depth: int = 8
    sound: Sound | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, Any] = field(default_factory=dict)
    keep_partial: bool = False


def check_film(path: str | PathLike, options: FilmOptions) -> Codec:
    """Check before the first frame that a film can be written to `path`, and return its codec.

    Raises ValueError for invalid settings, OSError where nothing can be written.
    """
    codec = find_codec(options.codec, options.bit_depth)
    parse_fps(options.fps)
    path = Path(path)
    check_name(path)
    check_quality(options.quality)
    if path.suffix.lower() != codec.suffix:
        raise ValueError(f"{path.name} does not suit the codec {codec.name}; use a name that ends in {codec.suffix}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; choose another name")
    check_writable(path)
    return codec


def write_film(frames: Iterable[Tensor], path: str | PathLike, options: FilmOptions) -> int:
    """Encode an iterable of frames [H, W, 3] in 0..1, and return their number.

    The file gets its name once it is whole. An exception of the iterable, such as a cancel, is raised again; with
    `keep_partial` the frames so far become a shorter film first. Raises OSError where the film cannot be written.
    """
    codec, path = check_film(path, options), Path(path)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("a film needs at least 1 frame; 0 were given")
    least = LEAST_SIDE.get(codec.encoder, 1)
    if min(first.shape[:2]) < least:
        size = f"{first.shape[1]}x{first.shape[0]}"
        raise ValueError(f"{size} is too small for {codec.name}, which needs {least} pixels per side; use h264")
    stopped: BaseException | None = None
    try:
        with (
            replacing(path) as temporary,
            open_output(temporary, codec.container, _container_options(codec)) as container,
        ):
            writer = _Writer(container, codec, first, options)
            writer.add(first)
            del first
            while True:
                try:
                    frame = next(frames, None)
                except BaseException as error:
                    stopped, frame = error, None
                    if not options.keep_partial:
                        raise
                if frame is None:
                    break
                writer.add(frame)
            writer.finish()
    except (OSError, av.FFmpegError) as error:
        if error is stopped:
            raise
        raise write_error(path, error) from error
    if isinstance(stopped, KeyboardInterrupt):
        # The message names the file, because after Ctrl-C nobody expects one.
        raise KeyboardInterrupt(f"stopped; the first {writer.count} frames are in {path}") from stopped
    if stopped is not None:
        raise stopped
    return writer.count


def _container_options(codec: Codec) -> dict[str, str]:
    # mp4: the index comes first, so that a browser plays before the last byte, and metadata keep their own keys.
    return {"fflags": "bitexact"} if codec.container == "webm" else {"movflags": "faststart+use_metadata_tags"}


class _Writer:
    """Video and sound streams of one open container."""

    def __init__(self, container: Any, codec: Codec, first: Tensor, options: FilmOptions):
        self.container, self.count, self.size = container, 0, first.shape
        self.fps, self.format = parse_fps(options.fps), codec.formats[options.bit_depth]
        height, width = first.shape[:2]
        container.metadata["comment"] = settings_text(options.metadata, self.fps, width, height)
        for key, value in options.texts.items():
            container.metadata[key] = value if isinstance(value, str) else json.dumps(value)
        self.video = container.add_stream(codec.encoder, rate=self.fps, options=encoder_options(codec, options.quality))
        self.video.width, self.video.height = width + width % 2, height + height % 2
        self.video.pix_fmt = self.format
        context = self.video.codec_context
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = LIMITED
        if codec.name in TAGS:
            context.codec_tag = TAGS[codec.name]
        self.sound = None if options.sound is None else SoundTrack(container, codec, options.sound)

    def add(self, frame: Tensor) -> None:
        """Encode one more frame, and the sound up to its end."""
        if frame.shape != self.size:
            raise ValueError(
                f"frame {self.count} is {list(frame.shape)}, frame 0 was {list(self.size)}; use frames of one size"
            )
        if not torch.isfinite(frame).all():
            raise ValueError(
                f"frame {self.count} has NaN or infinite values; check the clip, the upscale and interpolation model"
            )
        self.container.mux(self.video.encode(to_yuv(frame.float().cpu().clamp(0, 1), self.count, self.format)))
        self.count += 1
        if self.sound is not None:
            self.sound.encode_until(Fraction(self.count) / self.fps)

    def finish(self) -> None:
        """Write what the encoders still buffer."""
        if self.sound is not None:
            self.sound.finish()
        self.container.mux(self.video.encode(None))

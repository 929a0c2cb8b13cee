"""A film file, written frame by frame: colours tagged, sound alongside, under a temporary name until it is whole."""

import json
import math
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
from ..video.target import check_quality
from ..video.yuv import BT709, LIMITED, to_yuv
from .codecs import TAGS, Codec, encoder_options, find_codec

SOUND_RATES = {"libopus": (48000, 24000, 16000, 12000, 8000)}
LEAST_SIDE = {"libx265": 64}  # below it x265 writes beyond its own memory
SOUND_PIECE = 4096  # samples handed to the encoder at once


@dataclass(frozen=True)
class Sound:
    """Sound of a film: samples [channels, N] in -1..1, and how many of them make a second."""

    samples: Tensor
    rate: int


@dataclass(frozen=True)
class FilmOptions:
    """How a film is written.

    fps: of the film. quality: 0..100. metadata: settings as plain JSON values, which `read_clip` gives back. texts:
    further entries of the file under their own names, such as a workflow. keep_partial: whether a film that is broken
    off stays as the shorter film of the frames so far, instead of leaving nothing.
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
    """Say early whether a film can be written so to `path`; returns its codec.

    Raises ValueError for settings that make no film, OSError where nothing can be written.
    """
    codec = find_codec(options.codec, options.bit_depth)
    parse_fps(options.fps)
    path = Path(path)
    check_quality(options.quality)
    if path.suffix.lower() != codec.suffix:
        raise ValueError(f"{path.name} is no name for {codec.name}; let it end in {codec.suffix}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; choose another name")
    check_writable(path)
    return codec


def write_film(frames: Iterable[Tensor], path: str | PathLike, options: FilmOptions) -> int:
    """Encode frames [H, W, 3] in 0..1 as they come, and return how many there were.

    The file has its name only once it is whole. What the frames raise (a cancel) is raised again, after the frames so
    far have become a shorter film if `keep_partial` says so. Raises OSError where the film cannot be written.
    """
    codec, path = check_film(path, options), Path(path)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("a film needs at least 1 frame; 0 were given")
    least = LEAST_SIDE.get(codec.encoder, 1)
    if min(first.shape[:2]) < least:
        size = f"{first.shape[1]}x{first.shape[0]}"
        raise ValueError(f"{size} is too small for {codec.name}, which takes {least} pixels a side and more; use h264")
    stopped: BaseException | None = None
    try:
        with (
            replacing(path) as temporary,
            av.open(str(temporary), "w", format=codec.container, options=_container_options(codec)) as container,
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
        # Who pressed Ctrl-C is told what is left; without words it would be taken for nothing.
        raise KeyboardInterrupt(f"stopped; the {writer.count} frames made so far are in {path}") from stopped
    if stopped is not None:
        raise stopped
    return writer.count


def _container_options(codec: Codec) -> dict[str, str]:
    # mp4: the index first, so that a browser starts playing before the last byte; our entries under their own names.
    return {"fflags": "bitexact"} if codec.container == "webm" else {"movflags": "faststart+use_metadata_tags"}


class _Writer:
    """Streams of one open container, and how far they are."""

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
        self.sound = None if options.sound is None else _SoundTrack(container, codec, options.sound)

    def add(self, frame: Tensor) -> None:
        """Encode one more frame, and the sound up to its end."""
        if frame.shape != self.size or not torch.isfinite(frame).all():
            raise ValueError(
                f"frame {self.count} is {list(frame.shape)} or not finite, frame 0 was {list(self.size)}; "
                "decode again in a higher precision, and give frames of one size"
            )
        self.container.mux(self.video.encode(to_yuv(frame.float().cpu().clamp(0, 1), self.count, self.format)))
        self.count += 1
        if self.sound is not None:
            self.sound.play_until(Fraction(self.count) / self.fps)

    def finish(self) -> None:
        """What the encoders still hold back."""
        if self.sound is not None:
            self.sound.finish()
        self.container.mux(self.video.encode(None))


class _SoundTrack:
    """Sound that is encoded as far as the picture is; it ends with the shorter of the two."""

    def __init__(self, container: Any, codec: Codec, sound: Sound):
        samples = sound.samples.detach().float().cpu()
        if samples.ndim != 2 or not 1 <= sound.rate <= 768000:
            raise ValueError(f"sound of shape {list(samples.shape)} at {sound.rate} is none; give [channels, samples]")
        self.samples, self.rate, self.done = samples[:2].clamp(-1, 1), sound.rate, 0
        encoder = next((name for name in codec.sound if _has(name)), None)
        if encoder is None:
            raise ValueError(f"this PyAV cannot write sound for {codec.name} ({codec.sound[0]}); leave the sound out")
        rates = SOUND_RATES.get(encoder, (sound.rate,))
        self.layout = "stereo" if len(self.samples) == 2 else "mono"
        self.container = container
        self.stream = container.add_stream(
            encoder, rate=sound.rate if sound.rate in rates else rates[0], layout=self.layout
        )

    def play_until(self, seconds: Fraction) -> None:
        """Encode what sounds before that time."""
        end = min(self.samples.shape[1], math.floor(seconds * self.rate))
        while self.done < end:
            stop = min(self.done + SOUND_PIECE, end)
            piece = self.samples[:, self.done : stop].contiguous().numpy()
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=self.layout)
            frame.sample_rate, frame.pts, frame.time_base = self.rate, self.done, Fraction(1, self.rate)
            self.container.mux(self.stream.encode(frame))
            self.done = stop

    def finish(self) -> None:
        """What the encoder still holds back."""
        self.container.mux(self.stream.encode(None))


def _has(encoder: str) -> bool:
    try:
        av.codec.Codec(encoder, "w")
    except ValueError:
        return False
    return True

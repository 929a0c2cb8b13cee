"""Video files decoded by FFmpeg: upright, with square pixels, in the colours of BT.709."""

import math
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor

from ..stopping import stop_if_asked
from .clip import Settings, parse_settings
from .colour import Colour, to_rgb
from .frames import UNTIMED_FPS, Clip, Recent, check_index, check_pixels, opaque, reading, stretched
from .media import open_input

MOST_ASPECT = 16  # of a pixel's sides: beyond, the file is damaged
SAME_RATE = 1e-3  # relative difference of frame rates that containers cause by rounding
SEEK_BACK = (0, 32, 256)  # frames before the wanted one to seek to, until a key frame before it is found
UNIT = 65536  # of a display matrix, whose numbers have 16 fractional bits
ALPHA_DECODERS = {"libvpx": "libvpx", "vp8": "libvpx", "libvpx-vp9": "libvpx-vp9", "vp9": "libvpx-vp9"}
"""By decoder, the one that also decodes the alpha of WebM: FFmpeg's own decoders ignore it."""


class EncodedClip(Clip):
    """A video file. Between two reads by index a decoder stays open, so that the next frame needs no new start."""

    def __init__(self, path: Path, background: str):
        self.path, self.background, self.notes = path, background, []
        self._container, self._running = None, iter(())
        with open_input(path) as container:
            settings = parse_settings(comment_of(container))
            if not container.streams.video:
                raise ValueError(f"clip {path} holds no frames; use a video, an animation or a folder of pictures")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ValueError(f"clip {path} has a video codec that is not supported; convert it to H.264 first")
            check_pixels(path, stream.codec_context.width, stream.codec_context.height)
            first = next(_decoded(container, stream), None)
            if first is None:
                raise ValueError(f"clip {path} holds no frames; it may be cut short")
            self.fps = Fraction(stream.average_rate or 0)
            self._frames_by_header = stream.frames or _estimated_frames(container, stream)
            self._coded = (first.width, first.height)
            self._pixel = _pixel_aspect(stream)
            self._matrix = _display_matrix(first)
            self._colour = Colour.of(first, stream.codec_context)
        try:
            self._colour.check()
        except ValueError as error:
            raise ValueError(f"clip {path} cannot be shown: {error}") from None
        self._take(settings)
        if first.interlaced_frame:
            self.notes.append("it is interlaced: both fields are read as one frame; deinterlace it for clean motion")
        if self._colour.hdr:
            self.notes.append("it is HDR and is tone-mapped to SDR")
        self._recent = Recent(3 * first.width * first.height)

    def _take(self, settings: Settings) -> None:
        """Set size and rate: those of the file, and of our own settings what the container had to round."""
        self.metadata = settings.metadata
        if settings.fault:
            self.notes.append(f"its embedded settings are ignored: {settings.fault}")
        width, height = self._coded
        if settings.size and settings.size == (width - settings.size[0] % 2, height - settings.size[1] % 2):
            width, height = settings.size  # an odd side grew by one pixel
        elif settings.size:
            was = "x".join(map(str, settings.size))
            self.notes.append(f"it was resized: {width}x{height} pixels, written at {was}")
        self._cropped = (width, height)
        if settings.fps is not None:
            if not self.fps or abs(self.fps / settings.fps - 1) <= SAME_RATE:
                self.fps = settings.fps
            else:
                self.notes.append(f"it was retimed: {float(self.fps):g} fps, written at {float(settings.fps):g}")
        width = max(1, round(width * self._pixel))
        self._square = (width, height)
        self.width, self.height = self._square[::-1] if self._matrix[0] == 0 else self._square

    @property
    def header_frames(self) -> int:
        return self._frames_by_header

    @cached_property
    def _stamps(self) -> list[tuple[float, int | None]]:
        """Seconds and presentation time stamp of every frame; decodes the file once, without converting a frame."""
        with reading(self.path), open_input(self.path) as container:
            stream = container.streams.video[0]
            return [(seconds, frame.pts) for seconds, frame in self._with_seconds(_decoded(container, stream))]

    @cached_property
    def times(self) -> list[float]:
        return [seconds - self._stamps[0][0] for seconds, _ in self._stamps]

    def __len__(self) -> int:
        return len(self._stamps)

    def timed(self) -> Iterator[tuple[float, Callable[[], Tensor]]]:
        with reading(self.path), open_input(self.path) as container:
            stream = container.streams.video[0]
            for seconds, frame in self._with_seconds(_decoded(container, stream)):
                yield seconds, lambda frame=frame: self._converted(frame)

    def _with_seconds(self, frames: Iterator[av.VideoFrame]) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield frames with their times; those without a time stamp follow at the average rate."""
        interval = 1 / float(self.fps or UNTIMED_FPS)
        seconds = -interval
        for frame in frames:
            stop_if_asked()
            seconds = seconds + interval if frame.time is None else float(frame.time)
            yield seconds, frame

    def __getitem__(self, index: int) -> Tensor:
        index = check_index(index, len(self))
        if index not in self._recent:
            with reading(self.path):
                self._decode_to(index)
        return self._converted(self._recent[index])

    def _decode_to(self, index: int) -> None:
        """Decode up to a frame, and keep it and those before it."""
        if not self._next <= index < self._next + self._recent.most:
            self._start(index)
        for place, frame in self._running:
            self._next = place + 1
            self._recent.add(place, frame)
            if place == index:
                return
        raise ValueError(f"clip {self.path} changed while it was read; start again")

    _next = math.inf  # index of the frame that the running decoder yields next

    def _start(self, index: int) -> None:
        """Start a decoder at a key frame before `index`, or at the beginning where time stamps do not allow it."""
        stamps = [stamp for _, stamp in self._stamps]
        places = {stamp: place for place, stamp in enumerate(stamps)}
        seekable = None not in places and all(a < b for a, b in zip(stamps, stamps[1:], strict=False))
        for back in SEEK_BACK if seekable and index else ():
            frames = self._opened(stamps[max(0, index - back)])
            # Frames before the key frame may refer to others that were not decoded.
            first = next((frame for frame in frames if frame.key_frame), None)
            place = len(stamps) if first is None else places.get(first.pts, len(stamps))
            if place <= index:
                self._running, self._next = enumerate(chain([first], frames), place), place
                return
        self._running, self._next = enumerate(self._opened(None)), 0

    def _opened(self, stamp: int | None) -> Iterator[av.VideoFrame]:
        """Open the file anew and yield the frames from about a time stamp on, None for all."""
        self.close()
        self._container = open_input(self.path)
        stream = self._container.streams.video[0]
        if stamp is not None:
            self._container.seek(stamp, stream=stream)
        return _decoded(self._container, stream)

    def close(self) -> None:
        self._running, self._next = iter(()), math.inf
        self._recent.clear()
        if self._container is not None:
            self._container.close()
        self._container = None

    def _converted(self, frame: av.VideoFrame) -> Tensor:
        if (frame.width, frame.height) != self._coded:
            raise ValueError(
                f"clip {self.path} changes from {self._coded[0]}x{self._coded[1]} to {frame.width}x{frame.height} "
                "pixels; convert it to one size first"
            )
        width, height = self._cropped
        picture = opaque(to_rgb(frame, self._colour)[:height, :width], self.background)
        if self._square != self._cropped:
            picture = stretched(picture, *self._square)
        return _turned(picture, self._matrix)


def comment_of(container: Any) -> str | None:
    """Return the comment of a file, where our settings are."""
    return next((value for key, value in container.metadata.items() if key.lower() == "comment"), None)


def _decoded(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    """Yield the frames of a stream, with the alpha of WebM."""
    decoder = ALPHA_DECODERS.get(stream.codec_context.name)
    if stream.metadata.get("alpha_mode") == "1" and decoder is not None:
        context = av.codec.CodecContext.create(decoder, "r")
        for packet in container.demux(stream):
            for frame in context.decode(packet if packet.size else None):
                frame.time_base = stream.time_base
                yield frame
    else:
        stream.thread_type = "AUTO"
        yield from container.decode(stream)


def _estimated_frames(container: Any, stream: Any) -> int:
    """Return the number of frames by duration and average rate; 0 if the header lacks one of them."""
    seconds = stream.duration * stream.time_base if stream.duration else Fraction(container.duration or 0, av.time_base)
    return round(seconds * stream.average_rate) if stream.average_rate and 0 < seconds < 10**7 else 0


def _pixel_aspect(stream: Any) -> Fraction:
    """Return width / height of a pixel, 1 where the file has none or a damaged one."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return aspect if Fraction(1, MOST_ASPECT) <= aspect <= MOST_ASPECT else Fraction(1)


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return (a, b, c, d) of -1, 0 and 1: a pixel (x, y) is shown at (a x + c y, b x + d y). ISO 14496-12, 8.5.2.2."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return (1, 0, 0, 1)
    a, b, _, c, d = struct.unpack("<5i", bytes(data)[:20])
    matrix = tuple((value > UNIT // 2) - (value < -UNIT // 2) for value in (a, b, c, d))
    straight, swapped = abs(matrix[0] * matrix[3]), abs(matrix[1] * matrix[2])
    right_angle = straight + swapped == 1 and sum(map(abs, matrix)) == 2
    return matrix if right_angle else (1, 0, 0, 1)


def _turned(picture: Tensor, matrix: tuple[int, int, int, int]) -> Tensor:
    """Return a picture [H, W, 3] turned and mirrored by a display matrix."""
    a, b, c, d = matrix
    if a == 0:
        picture, a, d = picture.transpose(0, 1), c, b
    flipped = [axis for axis, direction in ((0, d), (1, a)) if direction < 0]
    return torch.flip(picture, flipped).contiguous() if flipped else picture.contiguous()

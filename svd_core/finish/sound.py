"""Sound of a film: read from any media file, mixed down to stereo, and encoded alongside the frames."""

import math
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor

from ..video.media import open_input
from .codecs import Codec

RATES = {
    "libopus": (48000, 24000, 16000, 12000, 8000),
    "aac": (48000, 96000, 88200, 64000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000),
}
"""Sample rates of encoders that do not support all; other sound is resampled to the first."""
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""FFmpeg's default channel layouts by number of channels."""
SAMPLES_AT_ONCE = 4096  # per call of the encoder


@dataclass(frozen=True)
class Sound:
    """Sound of a film: samples [channels, N] in -1..1, and their number per second."""

    samples: Tensor
    rate: int


def read_sound(path: str | PathLike, seconds: float | None = None) -> Sound:
    """Return the first `seconds` (None: all) of the sound of an audio or video file as mono or stereo.

    Raises FileNotFoundError, or ValueError for a file without sound.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"sound {path} does not exist; check the path")
    parts, count = [], 0
    try:
        with open_input(path) as container:
            if not container.streams.audio:
                raise ValueError(f"{path} has no sound; use an audio file, or leave --sound out")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise ValueError(f"{path} has sound in a codec that is not supported; convert it to WAV or AAC first")
            most = None if seconds is None else math.ceil(seconds * stream.rate)
            channels = stream.channels
            resampler = av.AudioResampler("fltp", "mono" if channels == 1 else "stereo", stream.rate)
            for frame in container.decode(stream):
                for part in resampler.resample(frame):
                    parts.append(torch.from_numpy(part.to_ndarray()))
                    count += part.samples
                if most is not None and count >= most:
                    break
    except av.FFmpegError as error:
        raise ValueError(f"{path} cannot be read ({error}); use another audio file") from error
    if not count:
        raise ValueError(f"{path} holds no sound; use another audio file")
    samples = torch.cat(parts, dim=1)[:, :most]
    return Sound(_without_clipping(samples) if channels > 2 else samples, stream.rate)


def has_sound(path: str | PathLike) -> bool:
    """Return whether a media file has sound; False for folders and for files that FFmpeg cannot read."""
    if not Path(path).is_file():
        return False
    try:
        with open_input(path) as container:
            return bool(container.streams.audio)
    except (av.FFmpegError, OSError):
        return False


def mixed_down(sound: Sound) -> Sound:
    """Return sound with at most two channels, on the CPU, in -1..1.

    More channels are in FFmpeg's order (5.1: left, right, centre, LFE, back left, back right) and mixed as FFmpeg does:
    centre and surround are added at -3 dB. Raises ValueError for sound of another shape.
    """
    samples = sound.samples.detach().float().cpu()
    if samples.ndim != 2 or len(samples) not in LAYOUTS or not 1 <= sound.rate <= 768000:
        raise ValueError(
            f"sound has shape {list(samples.shape)} at {sound.rate} Hz; use [channels, samples] with 1 to 8 channels"
        )
    if len(samples) > 2 and samples.shape[1]:
        interleaved = samples.T.reshape(1, -1).numpy()
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=LAYOUTS[len(samples)])
        frame.sample_rate = sound.rate
        mixed = av.AudioResampler("fltp", "stereo", sound.rate).resample(frame)
        samples = _without_clipping(torch.cat([torch.from_numpy(part.to_ndarray()) for part in mixed], dim=1))
    return Sound(samples.clamp(-1, 1), sound.rate)


def _without_clipping(samples: Tensor) -> Tensor:
    """Return samples scaled down where a mix exceeds -1..1."""
    peak = float(samples.abs().max()) if samples.numel() else 0.0
    return samples / peak if peak > 1 else samples


class SoundTrack:
    """Encodes sound as far as the frames of the film have come; the film ends with the shorter of the two."""

    def __init__(self, container: Any, codec: Codec, sound: Sound):
        mixed = mixed_down(sound)
        self.samples, self.rate, self.done = mixed.samples, mixed.rate, 0
        encoder = next((name for name in codec.sound if _exists(name)), None)
        if encoder is None:
            raise ValueError(f"this PyAV cannot write sound for {codec.name} ({codec.sound[0]}); leave the sound out")
        rates = RATES.get(encoder, (self.rate,))
        self.layout = LAYOUTS[len(self.samples)]
        self.container = container
        self.stream = container.add_stream(
            encoder, rate=self.rate if self.rate in rates else rates[0], layout=self.layout
        )

    def encode_until(self, seconds: Fraction) -> None:
        """Encode the samples before that time."""
        end = min(self.samples.shape[1], math.floor(seconds * self.rate))
        while self.done < end:
            stop = min(self.done + SAMPLES_AT_ONCE, end)
            part = self.samples[:, self.done : stop].contiguous().numpy()
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=self.layout)
            frame.sample_rate, frame.pts, frame.time_base = self.rate, self.done, Fraction(1, self.rate)
            self.container.mux(self.stream.encode(frame))
            self.done = stop

    def finish(self) -> None:
        """Write what the encoder still buffers."""
        self.container.mux(self.stream.encode(None))


def _exists(encoder: str) -> bool:
    try:
        av.codec.Codec(encoder, "w")
    except ValueError:
        return False
    return True

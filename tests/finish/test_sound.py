"""Sound of a film: every channel is heard, lengths and rates are right, and bad sound is refused with a sentence."""

import math
from pathlib import Path

import av
import pytest
import torch

from svd_core.finish import FilmOptions, Sound, write_film
from svd_core.finish.sound import LAYOUTS, has_sound, mixed_down, read_sound
from svd_core.video import write_clip

RATE = 48000
SHARE = math.sqrt(0.5)
# Each row: number of channels, the one that sounds, and how loud it is on the left and on the right.
MIXES = [
    (1, 0, (1.0,)),
    (2, 0, (1.0, 0.0)),
    (2, 1, (0.0, 1.0)),
    (6, 0, (1.0, 0.0)),
    (6, 1, (0.0, 1.0)),
    (6, 2, (SHARE, SHARE)),
    (6, 3, (0.0, 0.0)),
    (6, 4, (SHARE, 0.0)),
    (6, 5, (0.0, SHARE)),
    (8, 2, (SHARE, SHARE)),
    (5, 2, (SHARE, SHARE)),
    (4, 2, (SHARE, SHARE)),
]


def tone(channels: int, sounding: int, seconds: float = 0.25, level: float = 0.5) -> torch.Tensor:
    samples = torch.zeros(channels, round(seconds * RATE))
    samples[sounding] = level * torch.sin(torch.arange(samples.shape[1]) * 0.05)
    return samples


@pytest.mark.parametrize(("channels", "sounding", "expected"), MIXES)
def test_every_channel_is_mixed_into_stereo(channels: int, sounding: int, expected: tuple):
    sound = tone(channels, sounding)
    mixed = mixed_down(Sound(sound, RATE))
    assert mixed.samples.shape == (len(expected), sound.shape[1]) and mixed.rate == RATE
    for heard, share in zip(mixed.samples, expected, strict=True):
        torch.testing.assert_close(heard, share * sound[sounding], atol=1e-4, rtol=0)


def test_a_mix_that_is_too_loud_is_scaled_not_clipped():
    loud = torch.ones(6, 4800) * torch.sin(torch.arange(4800) * 0.05)
    mixed = mixed_down(Sound(loud, RATE)).samples
    assert float(mixed.abs().max()) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(mixed[0] / mixed[0].abs().max(), loud[0] / loud[0].abs().max(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("samples", "rate"),
    [(torch.zeros(9, 100), RATE), (torch.zeros(100), RATE), (torch.zeros(0, 100), RATE), (torch.zeros(2, 9), 0)],
)
def test_sound_of_another_shape_is_refused(samples: torch.Tensor, rate: int):
    with pytest.raises(ValueError, match=r"sound has shape .*; use \[channels, samples\] with 1 to 8 channels"):
        mixed_down(Sound(samples, rate))


def write_wave(path: Path, samples: torch.Tensor, rate: int = RATE) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout=LAYOUTS[len(samples)])
        levels = (samples.clamp(-1, 1) * 32767).round().to(torch.int16).T.contiguous().reshape(1, -1).numpy()
        frame = av.AudioFrame.from_ndarray(levels, format="s16", layout=LAYOUTS[len(samples)])
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(("channels", "sounding", "expected"), MIXES[:6])
def test_files_are_read_as_mono_or_stereo_with_their_centre(tmp_path, channels, sounding, expected):
    path = tmp_path / "sound.wav"
    sound = tone(channels, sounding)
    write_wave(path, sound)
    found = read_sound(path)
    assert found.rate == RATE and found.samples.shape == (len(expected), sound.shape[1])
    for heard, share in zip(found.samples, expected, strict=True):
        torch.testing.assert_close(heard, share * sound[sounding], atol=2e-4, rtol=0)


@pytest.mark.parametrize(("seconds", "samples"), [(None, 48000), (0.5, 24000), (2.0, 48000)])
def test_no_more_is_read_than_the_film_lasts(tmp_path: Path, seconds: float | None, samples: int):
    write_wave(tmp_path / "long.wav", tone(2, 0, 1.0))
    assert read_sound(tmp_path / "long.wav", seconds).samples.shape == (2, samples)


@pytest.mark.parametrize("codec", ["h264", "vp9", "prores"])
@pytest.mark.parametrize("rate", [44100, 22050, 12345])
def test_films_have_the_centre_of_surround_sound(tmp_path: Path, codec: str, rate: int):
    suffix, bits = {"h264": (".mp4", 8), "vp9": (".webm", 8), "prores": (".mov", 10)}[codec]
    samples = torch.zeros(6, rate)
    samples[2] = 0.5 * torch.sin(torch.arange(rate) * (2 * math.pi * 220 / rate))
    path = tmp_path / f"film{suffix}"
    frames = [torch.full((64, 64, 3), 0.5)] * 10
    write_film(iter(frames), path, FilmOptions(10, codec, 90, bits, Sound(samples, rate)))
    heard = read_sound(path).samples
    middle = heard[:, heard.shape[1] // 4 : -heard.shape[1] // 4]
    loudness = middle.square().mean(1).sqrt()
    # A sine of half the level, at -3 dB: encoders lose a few percent.
    assert loudness.tolist() == pytest.approx([0.5 * SHARE * SHARE] * 2, rel=0.1)


def test_files_without_sound_are_told_apart(tmp_path: Path):
    silent = write_clip(torch.zeros(2, 16, 16, 3), tmp_path / "clip.mp4", fps=7)
    write_wave(tmp_path / "loud.wav", tone(1, 0))
    (tmp_path / "text.mp3").write_text("no sound")
    assert has_sound(tmp_path / "loud.wav")
    for name in ("clip.mp4", "text.mp3", "none.wav", "."):
        assert not has_sound(tmp_path / name)
    with pytest.raises(ValueError, match="has no sound; use an audio file"):
        read_sound(silent)
    with pytest.raises(ValueError, match="cannot be read .*; use another audio file"):
        read_sound(tmp_path / "text.mp3")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_sound(tmp_path / "none.wav")

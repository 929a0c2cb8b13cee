"""Colours of videos from elsewhere: every matrix, range and gamut as ffmpeg shows it, HDR by the standards."""

from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from svd_core.video import colour, open_clip
from svd_core.video.colour import (
    BT601,
    BT709,
    KNEE,
    PEAK,
    WHITE,
    Colour,
    hlg_to_nits,
    pq_to_nits,
    tone_mapped,
)
from tests.helpers.videos import DATA, reference

# Each row: file, and the greatest and mean error in levels of 255. The references are of 16 bits: by zscale, and of
# rgb.mp4 its own levels.
FILES = [
    ("bt709.mp4", 0.1, 0.02),
    ("bt601.mp4", 0.1, 0.02),
    ("bt470bg.mp4", 0.1, 0.02),
    ("bt709_full.mp4", 0.1, 0.02),
    ("bt601_full.mp4", 0.1, 0.02),
    ("jpeg.avi", 0.1, 0.02),
    ("rgb.mp4", 0.1, 0.02),
    ("bt2020.mkv", 0.5, 0.02),
    ("pq.mkv", 0.5, 0.02),
]


@pytest.mark.parametrize(("file", "most", "mean"), FILES, ids=[row[0] for row in FILES])
def test_colours_are_those_that_ffmpeg_shows(file: str, most: float, mean: float):
    with open_clip(DATA / file) as clip:
        error = (clip[0] - reference(file.split(".")[0])).abs() * 255
    assert error.max() <= most and error.mean() <= mean


ALPHA = [("alpha_png.mov", 2.0), ("alpha_apng.png", 2.0), ("alpha_vp9.webm", 2.5), ("alpha_prores.mov", 2.5)]


@pytest.mark.parametrize(("file", "most"), ALPHA, ids=[row[0] for row in ALPHA])
def test_transparent_frames_lie_over_white(file: str, most: float):
    """References are overlays in 8 bits, stored in 16: ffmpeg shows white as 254, and rounds each part once more."""
    with open_clip(DATA / file) as clip:
        assert (len(clip), clip.width, clip.height) == (3, 48, 32)
        error = (clip[0] - reference(file.split(".")[0])).abs() * 255
    assert error.max() <= most
    assert clip.metadata == {} and float(clip.fps) == 12


@pytest.mark.parametrize("file", [row[0] for row in ALPHA])
def test_the_background_of_transparent_frames_can_be_chosen(file: str):
    frames = {}
    for background in ("white", "black", "#3366cc"):
        with open_clip(DATA / file, background=background) as clip:
            frames[background] = clip[1]
    # Alpha runs from 0 on the left to 1 on the right.
    assert frames["black"][:, 0].max() < 0.02 and frames["white"][:, 0].min() > 0.98
    assert (frames["#3366cc"][:, 0] - torch.tensor([0.2, 0.4, 0.8])).abs().max() < 0.02
    assert (frames["white"][:, -1] - frames["black"][:, -1]).abs().max() < 0.02


def test_hdr_is_tone_mapped_and_said(caplog):
    for name in ("hlg", "pq"):
        with open_clip(DATA / f"{name}.mkv") as clip:
            assert clip[0].min() >= 0 and clip[0].max() <= 1 and clip[0].std() > 0.1
        assert any("HDR" in note for note in clip.notes)
    assert len(caplog.records) == 2


def test_hlg_is_the_light_of_the_standard():
    """BT.2100 table 5 by hand: signals of 0, 1/2, 0.75 and 1 in grey, and pure red, on a display of 1000 nits."""
    grey = hlg_to_nits(torch.tensor([0.0, 0.5, 0.75, 1.0])[:, None].expand(4, 3))[:, 0]
    # E = E'^2 / 3 or (exp((E' - c) / a) + b) / 12; nits = 1000 E^1.2.
    assert grey.tolist() == pytest.approx([0.0, 50.7, 203.2, 1000.0], abs=0.5)
    red = hlg_to_nits(torch.tensor([1.0, 0.0, 0.0]))
    assert red.tolist() == pytest.approx([1000 * 0.2627**0.2, 0.0, 0.0], rel=1e-3)


def test_pq_is_the_light_of_the_standard():
    """SMPTE ST 2084: code values of 100, 203, 1000 and 10000 nits."""
    signal = torch.tensor([0.0, 0.5081, 0.5807, 0.7518, 1.0])
    assert pq_to_nits(signal).tolist() == pytest.approx([0.0, 100.0, 203.0, 1000.0, 10000.0], rel=2e-3)


def test_tone_mapping_keeps_dark_tones_and_hues_and_ends_at_the_peak():
    peak = PEAK / WHITE
    grey = torch.tensor([0.0, 0.1, KNEE, 1.0, peak])[:, None].expand(5, 3)
    mapped = tone_mapped(grey)[:, 0]
    assert mapped[:3].tolist() == pytest.approx([0.0, 0.1, KNEE], abs=1e-6)
    assert float(mapped[4]) == pytest.approx(1.0, abs=1e-5) and 0.5 < float(mapped[3]) < 0.9
    rising = tone_mapped(torch.linspace(0, peak, 200)[:, None].expand(200, 3))[:, 0]
    assert (rising.diff() > 0).all() and rising.diff().diff().abs().max() < 0.01, "smooth"
    colour = torch.tensor([[4.0, 1.0, 0.5]])
    assert torch.allclose(tone_mapped(colour) / tone_mapped(colour).amax(), colour / 4.0, atol=1e-5)


def tagged(**tags: int) -> Colour:
    usual = {"colorspace": 2, "color_range": 0, "color_trc": 2, "color_primaries": 2, "height": 480}
    frame = SimpleNamespace(**{**usual, **tags}, format=SimpleNamespace(name=tags.get("name", "yuv420p")))
    return Colour.of(frame, SimpleNamespace(color_trc=tags.get("stream_trc", 2), color_primaries=2))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, {"matrix": BT601, "standard": True, "full_range": False}),
        ({"height": 719}, {"matrix": BT601}),
        ({"height": 720}, {"matrix": BT709}),
        ({"colorspace": 1}, {"matrix": BT709, "standard": True}),
        ({"colorspace": 6}, {"matrix": 6, "standard": True}),
        ({"colorspace": 9}, {"matrix": 9, "standard": False}),
        ({"colorspace": 7}, {"matrix": 7, "standard": False}),
        ({"color_range": 2}, {"full_range": True, "standard": False}),
        ({"name": "yuvj422p"}, {"full_range": True, "standard": False}),
        ({"color_trc": 18}, {"transfer": 18, "hdr": True, "standard": False}),
        ({"stream_trc": 16}, {"transfer": 16, "hdr": True}),
        ({"color_primaries": 9, "colorspace": 1}, {"primaries": 9, "standard": False}),
        ({"color_primaries": 12, "colorspace": 1}, {"standard": False}),
    ],
)
def test_tags_decide_the_conversion(tags: dict, expected: dict):
    colour = tagged(**tags)
    assert {name: getattr(colour, name) for name in expected} == expected
    colour.check()


@pytest.mark.parametrize("matrix", [3, 10, 14])
def test_matrices_that_cannot_be_converted_are_refused(matrix: int):
    with pytest.raises(ValueError, match=f"colour matrix {matrix} .*not supported; convert it to BT.709"):
        tagged(colorspace=matrix).check()


@pytest.mark.parametrize(("name", "bits"), [("yuv420p", 8), ("yuv444p", 8), ("yuv422p", 8), ("yuv422p10le", 10)])
@pytest.mark.parametrize("matrix", [colour.BT601, colour.BT709, colour.BT2020])
@pytest.mark.parametrize("level", [16, 60, 126, 200, 235])
def test_grey_of_a_video_has_no_bias_up_to_white(name: str, bits: int, matrix: int, level: int):
    frame, unit = av.VideoFrame(64, 32, name), 2 ** (bits - 8)
    for plane, value in zip(frame.planes, (level, 128, 128), strict=True):
        kind = np.uint8 if bits == 8 else np.uint16
        plane.update(np.full((plane.height, plane.line_size // kind().itemsize), value * unit, kind))
    found = colour.to_rgb(frame, colour.Colour(matrix, colour.UNKNOWN, colour.UNKNOWN, False))
    assert (found * 255 - 255 * (level - 16) / 219).abs().max() < 0.1  # of a level


@pytest.mark.parametrize("name", ["rgb24", "gbrp", "bgr24", "rgba", "bgra", "gbrap"])
def test_rgb_of_a_video_is_exact(name: str):
    levels = np.random.default_rng(1).integers(0, 256, (32, 48, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(levels, format="rgb24").reformat(format=name)
    found = colour.to_rgb(frame, colour.Colour(colour.RGB_MATRIX, colour.UNKNOWN, colour.UNKNOWN, True))
    assert np.array_equal((found[..., :3] * 255).round().numpy(), levels)
    assert (found[..., :3] * 255 - torch.from_numpy(levels)).abs().max() < 1e-4
    assert found.shape[-1] == (4 if name in ("rgba", "bgra", "gbrap") else 3)


@pytest.mark.parametrize(("name", "kind", "most"), [("gray", np.uint8, 255), ("gray16le", np.uint16, 65535)])
def test_grey_videos_have_full_range_unless_they_are_tagged(name: str, kind: type, most: int):
    levels = (np.linspace(0, 1, 40 * 20).reshape(20, 40) * most).round().astype(kind)
    frame = av.VideoFrame.from_ndarray(levels, format=name)
    described = colour.Colour(colour.BT601, colour.UNKNOWN, colour.UNKNOWN, False)
    found = colour.to_rgb(frame, described)
    assert found.shape == (20, 40, 3) and np.abs(found[..., 0].numpy() - levels / most).max() < 1e-6
    frame.color_range = colour.LIMITED
    scale = most / 255 if kind == np.uint8 else 256
    expected = ((levels / scale - 16) / 219).clip(0, 1)
    assert np.abs(colour.to_rgb(frame, described)[..., 0].numpy() - expected).max() < 1e-5

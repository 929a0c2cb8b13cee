"""Animations and folders of frames: any usual names in order, gaps and sizes said, transparency over a background."""

import logging
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from svd_core.video import open_clip, picture_clips, read_clip, write_clip
from svd_core.video.picture_clips import frames_in, natural_order
from tests.helpers.colour_profiles import DISPLAY_P3, icc_profile, srgb_of


def folder(path: Path, *names: str, size: tuple = (8, 6)) -> Path:
    """Pictures whose grey level is ten times their place."""
    path.mkdir(exist_ok=True)
    for place, name in enumerate(names):
        Image.new("RGB", size, (10 * place,) * 3).save(path / name)
    return path


def levels(path: Path) -> list[int]:
    frames, _, _ = read_clip(path)
    return [round(float(frame.mean()) * 255) for frame in frames]


NAMES = [
    ("ComfyUI", [f"ComfyUI_{number:05}_.png" for number in range(1, 12)]),
    ("a camera", [f"img_{number:04}.jpg" for number in range(1, 12)]),
    ("no zeros", [f"frame{number}.png" for number in range(8, 13)]),
    ("numbers alone", [f"{number}.png" for number in range(98, 103)]),
    ("two numbers", [f"take2_{number}.webp" for number in range(9, 12)]),
    ("ours", [f"frame_{number:05}.png" for number in range(3)]),
    ("tif", [f"scan-{number:03}.tif" for number in range(3)]),
    ("capitals", [f"IMG_{number:03}.PNG" for number in range(3)]),
    ("digits that are no numbers", [f"m\u00b2_\u2460_{number}.png" for number in (8, 9, 10)]),
    ("a digit that is no number before one", [f"\u00b2{number}.png" for number in (8, 9, 10)]),
]


@pytest.mark.parametrize("names", [row[1] for row in NAMES], ids=[row[0] for row in NAMES])
def test_usual_names_are_read_in_the_order_of_their_numbers(tmp_path: Path, names: list, caplog):
    path = folder(tmp_path / "frames", *names)
    (path / "notes.txt").write_text("no picture")
    (path / "folder.png").mkdir()
    assert [file.name for file in frames_in(path)] == names
    found = levels(path)
    assert found == pytest.approx([10 * place for place in range(len(names))], abs=1) and not caplog.records
    with open_clip(path) as clip:
        assert (len(clip), clip.header_frames, clip.width, clip.height, clip.fps) == (len(names), len(names), 8, 6, 0)
        assert clip.is_even and clip.seconds == pytest.approx(len(names) / 7)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([0, 1, 2, 4, 5], "frame 3 is missing between f_0.png and f_5.png"),
        ([1, 2, 5, 6, 8], "frames 3, 4, 7 are missing between f_1.png and f_8.png"),
        ([0, 10], "frames 1, 2, 3, 4, 5, ... are missing between f_0.png and f_10.png"),
        ([0, 10**12], "frames 1, 2, 3, 4, 5, ... are missing"),
    ],
)
def test_gaps_are_said_and_the_rest_is_read(tmp_path: Path, numbers: list, words: str, caplog):
    path = folder(tmp_path / "frames", *(f"f_{number}.png" for number in numbers))
    assert levels(path) == [10 * place for place in range(len(numbers))]
    assert len(caplog.records) == 1 and words in caplog.text


def test_several_sequences_in_one_folder_are_said(tmp_path: Path, caplog):
    path = folder(tmp_path / "frames", "a_1.png", "a_2.png", "b_1.png", "b_2.png")
    assert levels(path) == [0, 10, 20, 30]
    assert len(caplog.records) == 1 and "names of 2 kinds" in caplog.text


def test_mixed_sizes_are_named(tmp_path: Path):
    path = folder(tmp_path / "frames", "f_0.png", "f_1.png")
    Image.new("RGB", (10, 6)).save(path / "f_2.png")
    with pytest.raises(ValueError, match=r"f_2.png is 10x6, but f_0.png is 8x6; resize them"):
        open_clip(path)


def test_frames_turned_by_exif_have_one_size(tmp_path: Path):
    path = tmp_path / "frames"
    path.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 8)).save(path / "f_0.jpg", exif=exif)
    Image.new("RGB", (8, 6)).save(path / "f_1.jpg")
    with open_clip(path) as clip:
        assert (clip.width, clip.height) == (8, 6) and [frame.shape for frame in clip] == [(6, 8, 3)] * 2


def test_profiles_and_transparency_of_frames_are_applied(tmp_path: Path):
    path = tmp_path / "frames"
    path.mkdir()
    levels = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(levels).save(path / "f_0.png", icc_profile=icc_profile(DISPLAY_P3, 2.2))
    Image.new("RGBA", (8, 6), (255, 0, 0, 51)).save(path / "f_1.png")
    frames, _, _ = read_clip(path, background="blue")
    expected = torch.from_numpy(srgb_of(levels, DISPLAY_P3, 2.2)).float()
    assert (frames[0] - expected).abs().max() * 255 <= 1
    assert frames[1, 0, 0].tolist() == pytest.approx([0.2, 0.0, 0.8])


def test_a_folder_without_pictures_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="holds no frames; use a video, an animation or a folder"):
        open_clip(tmp_path)


def test_a_damaged_frame_is_named(tmp_path: Path):
    path = folder(tmp_path / "frames", "f_0.png", "f_1.png", size=(64, 64))
    content = (path / "f_1.png").read_bytes()
    (path / "f_1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"f_1.png.*cut short"):
        read_clip(path)


CLEAR = [("clip.webp", 2), ("clip.gif", 1), ("clip.png", 1), ("clip.avif", 12)]


@pytest.mark.parametrize(("name", "error"), CLEAR, ids=[row[0] for row in CLEAR])
def test_animations_lie_over_the_background(tmp_path: Path, name: str, error: int):
    """Clear pixels hide red under them; opaque ones are blue."""
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    pixels = np.zeros((3, 16, 16, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[:, :, 8:] = (0, 0, 220, 255)
    for index in range(3):
        pixels[index, index, 8:] = (0, 220, 0, 255)  # no two frames are equal
    pictures = [Image.fromarray(frame) for frame in pixels]
    options = {"lossless": True} if name.endswith("webp") else {"quality": 95} if name.endswith("avif") else {}
    options["disposal"] = 0 if name.endswith("png") else 2  # with 2, Pillow writes an APNG that it cannot read itself
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=100, **options)
    for background, colour in (("white", 255), ("black", 0)):
        frames, fps, _ = read_clip(tmp_path / name, background=background)
        assert frames.shape == (3, 16, 16, 3) and fps == pytest.approx(10, rel=0.01)
        assert (frames[:, 6:, :6] * 255 - colour).abs().max() <= error
        assert (frames[:, 6:, 10:] * 255 - torch.tensor([0.0, 0.0, 220.0])).abs().max() <= error


def test_a_still_picture_is_a_clip_of_one_frame(tmp_path: Path):
    Image.new("RGB", (8, 6), (51, 0, 0)).save(tmp_path / "still.png")
    frames, fps, _ = read_clip(tmp_path / "still.png")
    assert frames.shape == (1, 6, 8, 3) and fps == 0 and frames[0, 0, 0].tolist() == pytest.approx([0.2, 0, 0])
    with open_clip(tmp_path / "still.png") as clip:
        assert clip.times == [0.0] and clip.is_even and clip.seconds == pytest.approx(1 / 7)


# Each row: durations in milliseconds, the usual rate, and the second at which each frame is shown.
DURATIONS = [
    ([100, 100, 100], 10.0, [0, 0.1, 0.2]),
    ([140, 150, 140], 1000 / (430 / 3), [0, 0.143333, 0.286667]),
    ([100, 100, 900], 10.0, [0, 0.1, 0.2]),
    ([100, 500, 100, 100], 10.0, [0, 0.1, 0.6, 0.7]),
]


@pytest.mark.parametrize(("durations", "usual", "times"), DURATIONS)
def test_one_long_frame_does_not_change_the_usual_rate(tmp_path: Path, durations: list, usual: float, times: list):
    pictures = [Image.new("RGB", (8, 8), (40 * index, 0, 0)) for index in range(len(durations))]
    path = tmp_path / "clip.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations)
    with open_clip(path) as clip:
        assert clip.usual_fps == pytest.approx(usual) and clip.times == pytest.approx(times, abs=1e-5)
        assert float(clip.fps) == pytest.approx(1000 * len(durations) / sum(durations))


def test_frames_of_animations_are_read_in_any_order(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("svd_core.video.frames.MOST_RECENT", 0)
    path = write_clip(torch.rand(9, 16, 16, 3), tmp_path / "clip.webp", fps=7)
    frames, _, _ = read_clip(path)
    with open_clip(path) as clip:
        for index in (8, 0, 4, 3, 2, 1, 0, 7, -1):
            assert torch.equal(clip[index], frames[index])


def test_notes_are_logged_once(tmp_path: Path, caplog):
    path = folder(tmp_path / "frames", "f_0.png", "f_2.png")
    with caplog.at_level(logging.WARNING, "svd_reel"), open_clip(path) as clip:
        list(clip), len(clip), clip[1]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("names", [["a1.png", "A1.png", "a01.png"], ["b.png", "B.png"]])
def test_names_that_count_alike_have_one_order(tmp_path: Path, names: list):
    paths = [tmp_path / name for name in names]
    assert sorted(paths, key=natural_order) == sorted(reversed(paths), key=natural_order)


def asks_for(kind: str, width: int, height: int) -> bytes:
    """A small file whose header says that its frames are large."""
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind, **({"save_all": True} if kind == "WEBP" else {}))
    content = bytearray(buffer.getvalue())
    if kind == "GIF":
        content[6:10] = struct.pack("<HH", width, height)
    else:
        body = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        content[:] = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + body + b"ANIM\6\0\0\0" + bytes(6) + b"ANMF"
        frame = bytes(6) + bytes([7, 0, 0, 7, 0, 0, 100, 0, 0, 2]) + buffer.getvalue()[12:]
        content += struct.pack("<I", len(frame)) + frame
        content[4:8] = struct.pack("<I", len(content) - 8)
    return bytes(content)


@pytest.mark.parametrize(
    ("kind", "width", "height"), [("GIF", 8193, 8192), ("GIF", 65535, 1025), ("WEBP", 8193, 8192), ("WEBP", 2**23, 9)]
)
def test_frames_that_are_too_large_are_refused_before_they_are_decoded(tmp_path: Path, kind, width, height):
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(asks_for(kind, width, height))
    with pytest.raises(ValueError, match=rf"{width}x{height}, {width * height:,} pixels; at most 67,108,864"):
        open_clip(path)
    path.write_bytes(asks_for(kind, 96, 80))
    with open_clip(path) as clip:
        assert (clip.width, clip.height, len(clip)) == (96, 80, 1)


def test_a_later_frame_of_a_gif_is_refused_before_it_is_decoded_if_it_is_too_large(tmp_path: Path):
    content = bytearray(asks_for("GIF", 96, 80)[:-1])
    descriptor = content.index(b"\x2c", 13)
    later = content[descriptor:]
    later[5:9] = struct.pack("<HH", 9000, 8000)  # its width and height
    path = tmp_path / "x.gif"
    path.write_bytes(content + later + b"\x3b")
    with pytest.raises(ValueError, match=r"9000x8000, 72,000,000 pixels; at most 67,108,864"):
        open_clip(path)


def test_frames_of_a_folder_are_never_averaged_down(tmp_path: Path, monkeypatch):
    path = folder(tmp_path / "frames", "f_0.png", "f_1.png")
    monkeypatch.setattr(picture_clips, "MOST_PIXELS", 47)
    with pytest.raises(ValueError, match="8x6, 48 pixels; at most 47"):
        open_clip(path)


def test_a_gif_cut_inside_its_palette_is_a_sentence(tmp_path: Path):
    path = tmp_path / "x.gif"
    pictures = [Image.effect_noise((16, 16), 50 + place) for place in range(3)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    whole = path.read_bytes()
    for end in range(20, len(whole), 5):
        path.write_bytes(whole[:end])
        try:
            with open_clip(path) as clip:
                assert len(list(clip)) <= 3
        except ValueError as error:
            assert "cannot be read" in str(error) or "no frames" in str(error)

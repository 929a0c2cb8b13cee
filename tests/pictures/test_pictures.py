"""Pictures: files of every mode, bad ones with a sentence each, and the geometry of fitting."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from svd_core.pictures import as_batch, check_image, check_size, composite, fit, open_picture, size_like, snap_size


def ramp(height: int, width: int) -> torch.Tensor:
    """[1, 3, height, width] in 0..1: red runs across, green down, blue constant; bicubic keeps it exactly linear."""
    across = torch.linspace(0, 1, width).expand(height, width)
    down = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([across, down, torch.full((height, width), 0.5)])[None]


# Each row: mode, the pixel put into a file of that mode, what must be read.
MODES = [
    ("RGB", (255, 0, 51), (1.0, 0.0, 0.2)),
    ("RGBA", (255, 0, 51, 102), (1.0, 0.0, 0.2, 0.4)),
    ("L", 51, (0.2, 0.2, 0.2)),
    ("LA", (51, 102), (0.2, 0.2, 0.2, 0.4)),
    ("1", 1, (1.0, 1.0, 1.0)),
    ("I;16", 32768, (32768 / 65535,) * 3),
    ("I", 257, (257 / 65535,) * 3),
]


@pytest.mark.parametrize("mode, pixel, expected", MODES, ids=[row[0] for row in MODES])
def test_every_mode_is_read_at_its_depth(tmp_path: Path, mode, pixel, expected):
    # Pillow writes PNG from mode I no more, but reads such files of old.
    path = tmp_path / ("picture.tif" if mode == "I" else "picture.png")
    Image.new(mode, (4, 3), pixel).save(path)
    image = open_picture(path)
    assert image.shape == (1, 3, 4, len(expected)) and image.dtype == torch.float32
    torch.testing.assert_close(image[0, 0, 0], torch.tensor(expected), atol=1e-6, rtol=0)


def test_palette_with_a_transparent_entry_becomes_rgba(tmp_path: Path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "palette.png", transparency=1)
    image = open_picture(tmp_path / "palette.png")
    assert image[0, 0].tolist() == [[1, 0, 0, 1], [0, 0, 1, 0]]


def test_cmyk_and_float_files_are_read(tmp_path: Path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "ink.tif")
    torch.testing.assert_close(open_picture(tmp_path / "ink.tif")[0, 0, 0], torch.tensor([1.0, 0.0, 0.0]))
    Image.new("F", (8, 8), 0.25).save(tmp_path / "float.tif")
    assert open_picture(tmp_path / "float.tif").unique().tolist() == [0.25]


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_exif_orientation_is_applied(tmp_path: Path, mode: str):
    picture = Image.new(mode, (6, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    picture.save(tmp_path / "turned.png", exif=exif)
    assert open_picture(tmp_path / "turned.png").shape == (1, 6, 2, 3)


def test_bad_files_are_named_in_one_sentence(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no.png does not exist"):
        open_picture(tmp_path / "no.png")
    with pytest.raises(ValueError, match="is a folder"):
        open_picture(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="not a picture that Pillow can read; save it as PNG"):
        open_picture(tmp_path / "text.png")
    for suffix in ("png", "jpg"):
        whole = tmp_path / f"whole.{suffix}"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
        (tmp_path / f"half.{suffix}").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(ValueError, match=f"half.{suffix} cannot be read .*cut short"):
            open_picture(tmp_path / f"half.{suffix}")
    Image.new("I", (2, 2), 70000).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match="70000, outside 0 to 65535"):
        open_picture(tmp_path / "deep.tif")


BAD_IMAGES = [
    ("NaN", torch.full((1, 4, 4, 3), float("nan")), "48 values that are NaN or infinite"),
    ("infinite", torch.tensor([0.0, float("inf"), 0.0]).expand(1, 4, 4, 3), "16 values that are NaN or infinite"),
    ("empty batch", torch.zeros(0, 4, 4, 3), "0 pictures; give at least 1"),
    ("no pixels", torch.zeros(1, 0, 4, 3), "4x0 pixels"),
    ("five channels", torch.zeros(1, 4, 4, 5), r"5 channels; give 1 \(grey\), 3 \(RGB\) or 4 \(RGBA\)"),
    ("two axes", torch.zeros(4, 4), "2 axes"),
    ("bytes", torch.zeros(1, 4, 4, 3, dtype=torch.uint8), "torch.uint8; give floats"),
    ("0 to 255", torch.linspace(0, 255, 48).view(1, 4, 4, 3), "run from 0 to 255; bring them to 0 to 1"),
    ("-1 to 1", torch.linspace(-1, 1, 48).view(1, 4, 4, 3), "run from -1 to 1; bring them to 0 to 1"),
    ("a path", "photo.png", "image is a str; give a PIL image"),
]


@pytest.mark.parametrize("image, message", [row[1:] for row in BAD_IMAGES], ids=[row[0] for row in BAD_IMAGES])
def test_bad_images_are_refused_with_a_sentence(image, message: str):
    with pytest.raises(ValueError, match=message):
        as_batch(image)


def test_overshoot_of_an_upscaler_is_clamped():
    assert check_image(torch.tensor([-0.04, 0.5, 1.07]).view(1, 1, 1, 3)).tolist() == [[[[0.0, 0.5, 1.0]]]]


@pytest.mark.parametrize(
    "background, expected",
    [("white", (1, 1, 1)), ("#ff0000", (1, 0, 0)), ((0.0, 0.5, 1.0), (0.0, 0.5, 1.0))],
)
def test_transparency_shows_the_background(background, expected):
    clear = torch.zeros(1, 1, 1, 4)
    torch.testing.assert_close(composite(clear, background)[0, 0, 0], torch.tensor(expected).float())
    half = torch.tensor([0.0, 0.0, 0.0, 0.5]).view(1, 1, 1, 4)
    torch.testing.assert_close(composite(half, background)[0, 0, 0], torch.tensor(expected) * 0.5)


@pytest.mark.parametrize("background", ["whitish", (1.0, 2.0, 0.0), (1.0, 0.0)])
def test_unknown_backgrounds_are_refused(background):
    with pytest.raises(ValueError, match="is not a colour"):
        composite(torch.zeros(1, 2, 2, 4), background)


def test_all_accepted_layouts_give_the_same_batch():
    picture = Image.fromarray(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3))
    expected = as_batch(picture)
    assert expected.shape == (1, 3, 5, 7) and expected.min() == -1
    tensor = torch.from_numpy(np.asarray(picture) / 255).float()
    for same in (tensor, tensor[None], tensor.numpy(), expected):
        torch.testing.assert_close(as_batch(same), expected)


@pytest.mark.parametrize("width, height", [(1024, 576), (16, 8000), (1000, 8)])
def test_sizes_that_are_no_multiple_of_8_name_the_two_nearest(width: int, height: int):
    if height >= 16:
        check_size(width, height)
        with pytest.raises(ValueError, match=f"width {width + 1} is not a multiple of 8; use {width} or {width + 8}"):
            check_size(width + 1, height)
    else:
        with pytest.raises(ValueError, match="height 8 is too small; use 16 or more"):
            check_size(width, height)


def test_snapping_goes_to_the_nearest_legal_size():
    assert snap_size(1001, 573) == (1000, 576)
    assert snap_size(1, 20) == (16, 24)
    assert snap_size(900, 500, 64) == (896, 512)


def test_size_like_keeps_the_aspect_and_the_number_of_pixels():
    assert size_like(1920, 1080, 1024 * 576) == (1024, 576)
    assert size_like(1080, 1920, 1024 * 576) == (576, 1024)
    assert size_like(3000, 3000, 1024 * 576) == (768, 768)


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
def test_a_picture_of_the_right_size_is_untouched(mode: str):
    image = torch.rand(2, 3, 24, 40)
    fitted, placement = fit(image, 40, 24, mode)
    assert torch.equal(fitted, image) and not placement.padded


# Width and height of pictures: same aspect, wide, tall, tiny, and longer than any memory if it were scaled whole.
PICTURES = [(96, 64), (300, 50), (41, 333), (3, 2), (50000, 2)]


@pytest.mark.parametrize("from_width, from_height", PICTURES)
@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
def test_fit_gives_the_size_and_keeps_the_range(mode: str, from_width: int, from_height: int):
    image = torch.rand(1, 3, from_height, from_width) * 2 - 1
    fitted, _ = fit(image, 48, 32, mode)
    assert fitted.shape == (1, 3, 32, 48)
    assert fitted.amin() >= image.amin() and fitted.amax() <= image.amax()


def test_crop_keeps_the_centre_and_the_aspect():
    fitted, _ = fit(ramp(100, 300), 32, 32, "crop")
    # A 300x100 ramp cut to its middle third: red from 1/3 to 2/3; one source pixel is 1/300.
    row = fitted[0, 0, 16]
    assert abs(float(row[0]) - 1 / 3) < 0.01 and abs(float(row[-1]) - 2 / 3) < 0.01
    assert abs(float(row.mean()) - 0.5) < 1e-3


def test_long_pictures_are_cropped_as_if_scaled_whole():
    image = torch.rand(1, 3, 24, 400)
    fitted, _ = fit(image, 16, 16, "crop")
    whole = torch.nn.functional.interpolate(image, (16, 267), mode="bicubic", antialias=True)
    # 400 * 16 / 24 = 266.67 pixels wide: rounding the width of the trimmed picture moves samples by under half a pixel.
    middle = whole[..., 125:141]
    assert (fitted - middle).pow(2).mean().sqrt() < 0.12 < image.std()


def test_resizing_down_is_antialiased():
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., 1::4] = stripes[..., 2::4] = 1
    fitted, _ = fit(stripes, 16, 16, "stretch")
    # Samples fall between the two bright columns of every four: without antialiasing all is white, averaged it is grey.
    assert (fitted - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("from_width, from_height", [(300, 50), (41, 333), (97, 96), (3, 2)])
def test_padding_is_cropped_back_to_the_picture(from_width: int, from_height: int):
    image = ramp(from_height, from_width)
    fitted, placement = fit(image, 96, 64, "pad")
    frames = placement.undo(fitted.movedim(1, -1))  # [1, H, W, 3]
    height, width = frames.shape[1:3]
    assert width % 2 == 0 and height % 2 == 0 and (width == 96 or height == 64)
    # Even sides: each is at most one pixel from the exact aspect.
    scale = min(96 / from_width, 64 / from_height)
    assert abs(width - from_width * scale) <= 1 and abs(height - from_height * scale) <= 1
    corners = frames[0, [0, 0, -1, -1], [0, -1, 0, -1], :2]
    torch.testing.assert_close(corners, torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]]), atol=0.2, rtol=0)


def test_padding_continues_the_picture_without_an_edge():
    fitted, placement = fit(ramp(64, 32), 96, 64, "pad")
    step = (fitted[..., 1:] - fitted[..., :-1]).abs().amax(dim=(0, 1, 2))
    # A black border would jump by up to 1; the ramp itself rises by 1/31 a pixel, to which the blur adds its slope.
    assert placement.padded and step.max() < 0.06
    assert fitted[0, 2].min() > 0.49


def test_undo_follows_upscaled_frames():
    _, placement = fit(torch.rand(1, 3, 50, 30), 96, 64, "pad")
    assert placement.undo(torch.zeros(2, 64, 96, 3)).shape == (2, 64, 38, 3)
    assert placement.undo(torch.zeros(2, 256, 384, 3)).shape == (2, 256, 152, 3)


def test_one_picture_of_a_batch_does_not_change_another():
    quiet, loud = torch.rand(1, 3, 20, 30) * 0.2, torch.rand(1, 3, 20, 30)
    for mode in ("crop", "pad", "stretch"):
        alone, _ = fit(quiet, 40, 40, mode)
        together, _ = fit(torch.cat([loud, quiet]), 40, 40, mode)
        torch.testing.assert_close(together[1:], alone)


def test_unknown_fit_is_refused():
    with pytest.raises(ValueError, match="fit 'zoom' is unknown; use crop, pad or stretch"):
        fit(torch.rand(1, 3, 8, 8), 16, 16, "zoom")

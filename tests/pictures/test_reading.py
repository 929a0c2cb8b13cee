"""Pictures as tensors: files of every mode at full depth, and one sentence for every other file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from svd_core.pictures import as_batch, check_image, composite, from_pil, open_picture, reading

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
    ("five axes", torch.zeros(1, 1, 4, 4, 3), "5 axes"),
    ("integers", torch.zeros(1, 4, 4, 3, dtype=torch.int32), "torch.int32; give floats"),
    ("0 to 255", torch.linspace(0, 255, 48).view(1, 4, 4, 3), "run from 0 to 255; bring them to 0 to 1"),
    ("-1 to 1", torch.linspace(-1, 1, 48).view(1, 4, 4, 3), "run from -1 to 1; bring them to 0 to 1"),
    ("a number", 7, "image is a int; give a path, a PIL image"),
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


# Each row: mode, a value of that mode, and what it is as floats. Premultiplied modes cannot be saved.
HELD = [
    ("RGBa", (51, 0, 0, 102), (0.5, 0.0, 0.0, 0.4)),
    ("La", (51, 102), (0.5, 0.5, 0.5, 0.4)),
    ("CMYK", (0, 255, 0, 0), (1.0, 0.0, 1.0)),
    ("HSV", (0, 0, 51), (0.2, 0.2, 0.2)),
    ("F", 1.0, (1.0, 1.0, 1.0)),
    ("I", 65535, (1.0, 1.0, 1.0)),
]


@pytest.mark.parametrize("mode, value, expected", HELD, ids=[row[0] for row in HELD])
def test_pil_images_of_other_modes_are_converted(mode: str, value, expected):
    image = from_pil(Image.new(mode, (3, 2), value))
    assert image.shape == (1, 2, 3, len(expected))
    torch.testing.assert_close(image[0, 1, 2], torch.tensor(expected), atol=1 / 255, rtol=0)


@pytest.mark.parametrize(("mode", "value", "words"), [("F", 1.01, "1.01, outside 0 to 1"), ("I", -1, "from -1 to -1")])
def test_grey_outside_its_range_is_refused(mode: str, value, words: str):
    with pytest.raises(ValueError, match=f"{words}.*; save the picture with 8 or 16 bits"):
        from_pil(Image.new(mode, (3, 2), value))


def blocks(mode: str) -> tuple[Image.Image, np.ndarray]:
    """A picture of 24 x 12 pixels in blocks of 4 x 4, and the value of each block in 0..1: [3, 6]."""
    levels = np.arange(18, dtype=np.float32).reshape(3, 6) / 20
    pixels = levels.repeat(4, 0).repeat(4, 1)
    if mode == "F":
        return Image.fromarray(pixels), levels
    if mode == "I;16":
        return Image.fromarray((pixels * 65535).round().astype(np.uint16)), levels
    return Image.fromarray((pixels * 255).round().astype(np.uint8)).convert(mode), levels


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "I;16", "I", "F"])
@pytest.mark.parametrize(("most", "factor"), [(288, 1), (287, 2), (72, 2), (71, 3), (18, 4)])
def test_large_pictures_are_averaged_down_before_they_become_floats(tmp_path, monkeypatch, mode, most, factor):
    picture, levels = blocks("I;16" if mode == "I" else mode)
    path = tmp_path / ("picture.tif" if mode in ("F", "CMYK", "I", "I;16") else "picture.png")
    (picture.convert("I") if mode == "I" else picture).save(path)
    monkeypatch.setattr(reading, "MOST_PIXELS", most)
    image = open_picture(path)
    assert tuple(image.shape[1:3]) == (12 // factor, 24 // factor)
    if factor in (2, 4):  # 3 does not divide the blocks
        expected = torch.from_numpy(levels).repeat_interleave(4 // factor, 0).repeat_interleave(4 // factor, 1)
        # One level of 8 bits, and half a level for the average.
        assert (image[0, ..., 0] - expected).abs().max() < 1.6 / 255


@pytest.mark.parametrize(("size", "reduced"), [((8192, 4096), None), ((8192, 4097), (4096, 2049))])
def test_pictures_of_more_than_33_million_pixels_are_large(size: tuple, reduced):
    picture = Image.new("L", size)  # 2^25 pixels, and a row more
    found = reading._averaged_down(picture)
    assert found is picture if reduced is None else found.size == reduced


def test_large_jpegs_are_decoded_at_a_fraction_of_their_size(tmp_path: Path, monkeypatch):
    path = tmp_path / "photo.jpg"
    pixels = np.linspace(0, 255, 320).astype(np.uint8)[None, :, None].repeat(160, 0).repeat(3, 2)
    Image.fromarray(pixels).save(path, quality=95)
    whole, decoded = open_picture(path), []
    average = reading._averaged_down
    monkeypatch.setattr(reading, "_averaged_down", lambda picture: decoded.append(average(picture)) or decoded[-1])
    for most, width in ((51200, 320), (51199, 160), (12799, 80)):
        monkeypatch.setattr(reading, "MOST_PIXELS", most)
        image = open_picture(path)
        assert image.shape == (1, width // 2, width, 3)
        step = 320 // width
        expected = whole.unflatten(2, (width, step)).unflatten(1, (width // 2, step)).mean((2, 4))
        assert (image - expected).abs().max() < 3 / 255
    assert [picture.size for picture in decoded] == [(320, 160), (160, 80), (80, 40)]


def test_an_averaged_picture_keeps_orientation_profile_and_transparency(tmp_path: Path, monkeypatch):
    picture, _ = blocks("RGBA")
    picture.putalpha(51)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    monkeypatch.setattr(reading, "MOST_PIXELS", 100)
    image = open_picture(tmp_path / "turned.png")
    assert image.shape == (1, 12, 6, 4) and image[..., 3].unique().tolist() == pytest.approx([0.2])
    deep, _ = blocks("I;16")
    deep.save(tmp_path / "deep.png", exif=exif)
    assert open_picture(tmp_path / "deep.png").shape == (1, 12, 6, 3)


def test_a_picture_of_too_many_pixels_names_the_limit(tmp_path: Path, monkeypatch):
    Image.new("L", (20, 11)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="more than 200 pixels; make it smaller"):
        open_picture(tmp_path / "large.png")
    Image.new("L", (20, 10)).save(tmp_path / "just.png")
    assert open_picture(tmp_path / "just.png").shape == (1, 10, 20, 3)


@pytest.mark.parametrize(
    ("values", "limits", "expected"),
    [
        ((-0.5, 0.25, 1.5), {}, (0.0, 0.25, 1.0)),
        ((-1.5, 0.25, 1.5), {"low": -1.0}, (-1.0, 0.25, 1.0)),
        ((-0.501, 0.0, 1.0), {}, "run from -0.501 to 1; bring them to 0 to 1"),
        ((0.0, 0.0, 1.501), {}, "run from 0 to 1.501; bring them to 0 to 1"),
        ((-1.6, 0.0, 0.0), {"low": -1.0}, "run from -1.6 to 0; bring them to -1 to 1"),
        ((0.0, 2.0, 2.6), {"high": 2.0}, "run from 0 to 2.6; bring them to 0 to 2"),
    ],
)
def test_values_beyond_the_range_are_clamped_up_to_a_limit(values: tuple, limits: dict, expected):
    image = torch.tensor(values).view(1, 1, 1, 3)
    if isinstance(expected, tuple):
        assert check_image(image, **limits).flatten().tolist() == pytest.approx(expected)
    else:
        with pytest.raises(ValueError, match=expected):
            check_image(image, **limits)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 4, 0, 3), "0x4 pixels; give at least 1x1"),
        ((1, 4, 4, 2), "2 channels"),
        ((4, 4, 3), "3 axes"),
        ((1, 1, 4, 4, 3), "5 axes"),
    ],
)
def test_shapes_that_are_no_image_are_refused(shape: tuple, words: str):
    with pytest.raises(ValueError, match=words):
        check_image(torch.zeros(shape))


def test_the_smallest_image_and_half_precision_are_accepted():
    found = check_image(torch.full((1, 1, 1, 1), 0.5, dtype=torch.float16))
    assert found.dtype == torch.float32 and found.shape == (1, 1, 1, 1) and found.item() == 0.5


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_compositing_weighs_colour_and_background_by_alpha(alpha: float):
    image = torch.tensor([0.2, 0.4, 0.8, alpha]).view(1, 1, 1, 4)
    expected = [
        value * alpha + ground * (1 - alpha) for value, ground in zip((0.2, 0.4, 0.8), (1, 0, 0.5), strict=True)
    ]
    assert composite(image, (1.0, 0.0, 0.5)).flatten().tolist() == pytest.approx(expected)
    assert composite(image).flatten().tolist() == pytest.approx(
        [value * alpha + 1 - alpha for value in (0.2, 0.4, 0.8)]
    ), "white is the default"


def test_grey_is_repeated_and_colours_stay():
    assert composite(torch.full((2, 1, 1, 1), 0.3)).tolist() == [[[[pytest.approx(0.3)] * 3]]] * 2
    colours = torch.rand(1, 2, 2, 3)
    assert torch.equal(composite(colours, "red"), colours)


@pytest.mark.parametrize("background", [(0.0, 0.0, -0.1), (0.0, 0.0, 1.1), (0.5, 0.5, 0.5, 1.0), "#12"])
def test_backgrounds_outside_the_range_are_refused(background):
    with pytest.raises(ValueError, match="is not a colour; "):
        composite(torch.zeros(1, 2, 2, 4), background)


def test_named_backgrounds_are_levels_of_255():
    assert composite(torch.zeros(1, 1, 1, 4), "#336699").flatten().tolist() == pytest.approx([0.2, 0.4, 0.6])
    clear = Image.new("RGBA", (1, 1), (9, 9, 9, 0))
    assert as_batch(clear, "#336699").flatten().tolist() == pytest.approx([-0.6, -0.2, 0.2], abs=1e-6)
    assert as_batch(clear).flatten().tolist() == [1, 1, 1], "white is the default"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 7, 3), (1, 3, 5, 7)),
        ((2, 5, 7, 3), (2, 3, 5, 7)),
        ((2, 5, 7, 1), (2, 3, 5, 7)),
        ((2, 5, 7, 4), (2, 3, 5, 7)),
        ((2, 3, 5, 7), (2, 3, 5, 7)),
        ((2, 3, 5, 3), (2, 3, 3, 5)),
        ((2, 3, 5, 4), (2, 3, 3, 5)),
        ((2, 3, 5, 1), (2, 3, 3, 5)),
        ((2, 3, 5, 2), (2, 3, 5, 2)),
    ],
)
def test_the_layout_is_read_from_the_shape(shape: tuple, expected: tuple):
    assert as_batch(torch.zeros(shape)).shape == expected
    assert as_batch(np.zeros(shape, np.float32)).shape == expected


def test_a_batch_of_planes_keeps_its_values():
    planes = torch.rand(2, 3, 5, 7) * 2 - 1
    assert torch.equal(as_batch(planes), planes)
    with pytest.raises(ValueError, match="bring them to -1 to 1"):
        as_batch(planes * 2)

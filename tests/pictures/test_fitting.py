"""Fitting: sizes, positions and values of cropped, padded and stretched pictures, and the way back."""

import math

import pytest
import torch
import torch.nn.functional as F

from svd_core.pictures import Placement, check_size, fit, size_like, snap_size
from svd_core.pictures.fitting import resize


def ramp(height: int, width: int) -> torch.Tensor:
    """[1, 3, height, width] in 0..1: red runs across, green down, blue constant; bicubic keeps it exactly linear."""
    across = torch.linspace(0, 1, width).expand(height, width)
    down = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([across, down, torch.full((height, width), 0.5)])[None]


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
    whole = F.interpolate(image, (16, 267), mode="bicubic", antialias=True)
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


@pytest.mark.parametrize("mode", ["zoom", "", "Crop", "cover", "fill", "padded", "stretched"])
def test_unknown_fit_is_refused(mode: str):
    with pytest.raises(ValueError, match=f"fit '{mode}' is unknown; use crop, pad or stretch"):
        fit(torch.rand(1, 3, 8, 8), 16, 16, mode)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(11))


def scaled(image: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """What PyTorch makes of it, clamped to the range of the picture."""
    found = F.interpolate(image, (height, width), mode="bicubic", antialias=True)
    return found.clamp(image.min(), image.max())


@pytest.mark.parametrize("value", [0, 7, 8, 15])
def test_sides_below_16_are_refused(value: int):
    for size in ((value, 64), (64, value)):
        with pytest.raises(ValueError, match=f"{value} is too small; use 16 or more"):
            check_size(*size)


@pytest.mark.parametrize(("value", "nearest"), [(17, "16 or 24"), (23, "16 or 24"), (1001, "1000 or 1008")])
def test_sides_between_multiples_name_both(value: int, nearest: str):
    for name, size in (("width", (value, 64)), ("height", (64, value))):
        with pytest.raises(ValueError, match=f"{name} {value} .*8; use {nearest}"):
            check_size(*size)
    check_size(16, 24)


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [
        ((20, 28), None, (24, 32)),
        ((19.9, 27.9), None, (16, 24)),
        ((1, 16), None, (16, 16)),
        ((95, 96), 64, (64, 128)),
        ((1, 31), 64, (64, 64)),
        ((9, 17), 4, (16, 16)),
        ((18, 22), 4, (20, 24)),
    ],
)
def test_sizes_are_rounded_to_a_multiple_with_halves_up(size: tuple, multiple: int | None, expected: tuple):
    assert snap_size(*size, **({} if multiple is None else {"multiple": multiple})) == expected


def test_a_size_like_a_picture_may_have_another_multiple():
    assert size_like(1920, 1080, 1024 * 576, 8) == (1024, 576)
    assert size_like(100, 150, 60000, 8) == (200, 304)
    assert size_like(100, 150, 60000) == (192, 320)


# Each row: size of the picture, size of the frame, the picture inside it: left, top, width, height.
PLACEMENTS = [
    ((300, 50), (96, 64), (0, 24, 96, 16)),
    ((41, 333), (96, 64), (44, 0, 8, 64)),
    ((97, 96), (96, 64), (16, 0, 64, 64)),
    ((64, 60), (64, 64), (0, 2, 64, 60)),
    ((64, 62), (64, 64), (0, 0, 64, 62)),
    ((64, 63), (64, 64), (0, 0, 64, 64)),
    ((1000, 1), (64, 32), (0, 14, 64, 2)),
    ((1, 1000), (64, 32), (30, 0, 2, 32)),
    ((30, 50), (96, 64), (28, 0, 38, 64)),
]


@pytest.mark.parametrize(("size", "frame", "inner"), PLACEMENTS)
def test_padding_centres_the_picture_on_even_pixels(size: tuple, frame: tuple, inner: tuple):
    image = noise(1, 3, size[1], size[0])
    fitted, placement = fit(image, *frame, "pad")
    left, top, width, height = inner
    assert placement == Placement(*frame, *inner)
    assert placement.padded == (inner[2:] != frame)
    assert torch.equal(fitted[:, :, top : top + height, left : left + width], scaled(image, width, height))


def padded_by_hand(inner: torch.Tensor, placement: Placement, blur: tuple[int, int]) -> torch.Tensor:
    """[1, C, H, W]: mirrored pixel by pixel, then blended into a copy that was shrunk to `blur` (width, height)."""
    height, width = inner.shape[2:]

    def folded(index: int, size: int) -> int:
        period = [*range(size), *reversed(range(size))]
        return period[index % len(period)]

    rows = [folded(y - placement.top, height) for y in range(placement.height)]
    columns = [folded(x - placement.left, width) for x in range(placement.width)]
    mirrored = inner[:, :, rows][:, :, :, columns]
    blurred = scaled(scaled(mirrored, *blur), placement.width, placement.height)
    beyond_x = [max(placement.left - x, x - (placement.left + width - 1), 0) for x in range(placement.width)]
    beyond_y = [max(placement.top - y, y - (placement.top + height - 1), 0) for y in range(placement.height)]
    reach = min(placement.width, placement.height) / 4
    share = torch.tensor([[min(max(x, y) / reach, 1.0) for x in beyond_x] for y in beyond_y])
    return mirrored + share * (blurred - mirrored)


@pytest.mark.parametrize(
    ("size", "frame", "blur"),
    [
        ((8, 24), (64, 32), (2, 2)),
        ((128, 24), (128, 96), (4, 3)),
        ((5, 64), (32, 64), (2, 2)),
        ((64, 40), (64, 64), (2, 2)),
    ],
)
def test_borders_are_the_mirrored_picture_that_fades_into_its_blur(size: tuple, frame: tuple, blur: tuple):
    image = noise(1, 3, size[1], size[0])
    fitted, placement = fit(image, *frame, "pad")
    inner = scaled(image, placement.inner_width, placement.inner_height)
    expected = padded_by_hand(inner, placement, blur)
    torch.testing.assert_close(fitted, expected, atol=2e-6, rtol=0)


def test_far_from_the_picture_no_detail_is_left():
    """The border of a frame of noise: a quarter of the shorter side away it varies over 32 pixels, not over one."""
    fitted, placement = fit(noise(1, 1, 32, 128).expand(1, 3, 32, 128), 128, 128, "pad")
    far = fitted[0, 0, : placement.top - 32]
    near = fitted[0, 0, placement.top - 1]
    assert (far[:, 1:] - far[:, :-1]).abs().max() < 0.02 < 0.3 < (near[1:] - near[:-1]).abs().max()


# Each row: size of the picture, size of the frame, the size that it is scaled to, and the corner that is cut out.
CROPS = [
    ((30, 20), (16, 16), (24, 16), (4, 0)),
    ((10, 8), (32, 16), (32, 26), (0, 5)),
    ((20, 31), (16, 16), (16, 25), (0, 4)),
    ((48, 32), (48, 32), (48, 32), (0, 0)),
    ((49, 32), (48, 32), (49, 32), (0, 0)),
    ((51, 32), (48, 32), (51, 32), (1, 0)),
]


@pytest.mark.parametrize(("size", "frame", "inner", "corner"), CROPS)
def test_cropping_scales_to_cover_and_cuts_the_centre(size: tuple, frame: tuple, inner: tuple, corner: tuple):
    image = noise(1, 3, size[1], size[0])
    fitted, placement = fit(image, *frame, "crop")
    (left, top), (width, height) = corner, frame
    expected = scaled(image, *inner)[:, :, top : top + height, left : left + width]
    torch.testing.assert_close(fitted, expected, atol=2e-6, rtol=0)
    assert placement == Placement(*frame, 0, 0, *frame) and not placement.padded


@pytest.mark.parametrize("upright", [False, True])
def test_long_pictures_are_trimmed_to_what_the_kernel_reaches(upright: bool):
    image = noise(1, 3, 24, 400)
    # 24 columns are seen; 2 * ceil(24 / 16) + 2 = 6 more on each side: columns 182 to 217, scaled to 24.
    expected = scaled(image[..., 182:218], 24, 16)[..., 4:20]
    if upright:
        image, expected = image.mT, expected.mT
    torch.testing.assert_close(fit(image, 16, 16, "crop")[0], expected, atol=2e-6, rtol=0)


def test_trimming_does_not_change_what_is_seen():
    """The columns that the kernel of the visible ones reaches are all kept, so the result is that of the whole."""
    image = noise(1, 3, 32, 320)
    fitted, _ = fit(image, 64, 64, "crop")
    whole = scaled(image, 640, 64)[..., 288:352]
    # The overshoot is clamped to the range of what is left, which is narrower by up to 1e-4 here.
    torch.testing.assert_close(fitted, whole, atol=2e-4, rtol=0)


def test_stretching_scales_each_side_on_its_own():
    image = noise(2, 3, 20, 30)
    fitted, placement = fit(image, 64, 16, "stretch")
    torch.testing.assert_close(fitted[:1], scaled(image[:1], 64, 16), atol=1e-6, rtol=0)
    assert placement == Placement(64, 16, 0, 0, 64, 16)


def test_cropping_is_the_default():
    image = noise(1, 3, 20, 30)
    assert torch.equal(fit(image, 16, 16)[0], fit(image, 16, 16, "crop")[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_resizing_keeps_the_type_and_the_range(dtype: torch.dtype):
    image = noise(1, 3, 9, 7).to(dtype)
    found = resize(image, 20, 24)
    assert found.dtype == dtype and found.shape == (1, 3, 24, 20)
    assert found.amin() >= image.amin() and found.amax() <= image.amax()
    assert resize(image, 7, 9) is image


@pytest.mark.parametrize(
    ("placement", "size", "expected"),
    [
        (Placement(96, 64, 28, 0, 38, 64), (96, 64), (slice(0, 64), slice(28, 66))),
        (Placement(96, 64, 28, 0, 38, 64), (384, 256), (slice(0, 256), slice(112, 264))),
        (Placement(96, 64, 0, 24, 96, 16), (48, 32), (slice(12, 20), slice(0, 48))),
        (Placement(96, 64, 0, 24, 96, 16), (96, 96), (slice(36, 60), slice(0, 96))),
        (Placement(64, 64, 10, 6, 44, 52), (33, 31), (slice(3, 28), slice(5, 28))),
        (Placement(64, 64, 0, 0, 64, 64), (33, 31), (slice(0, 31), slice(0, 33))),
    ],
)
def test_undo_crops_in_proportion(placement: Placement, size: tuple, expected: tuple):
    width, height = size
    frames = torch.arange(2.0 * height * width).reshape(2, height, width, 1)
    assert torch.equal(placement.undo(frames), frames[:, expected[0], expected[1]])


def test_frames_without_borders_are_returned_as_they_are():
    frames = torch.rand(2, 32, 48, 3)
    assert Placement(48, 32, 0, 0, 48, 32).undo(frames) is frames


@pytest.mark.parametrize("shape", [(3, 20, 30), (0, 3, 20, 30), (1, 3, 0, 30), (1, 3, 20, 0)])
def test_shapes_that_are_no_batch_are_refused(shape: tuple):
    with pytest.raises(
        ValueError, match=rf"\[{', '.join(map(str, shape))}\]; give \[pictures, channels, height, width\]"
    ):
        fit(torch.zeros(shape), 16, 16)


def test_the_distance_of_the_blend_is_counted_from_the_edge_pixel():
    """One row beyond the picture of a frame of 64 x 64: the blur counts 1 / 16."""
    image = noise(1, 1, 40, 64)
    fitted, placement = fit(image, 64, 64, "pad")
    top = placement.top
    assert top == 12 and torch.equal(fitted[..., top, :], image[..., 0, :])
    blurred = scaled(
        scaled(torch.cat([image[..., :12, :].flip(2), image, image[..., -12:, :].flip(2)], 2), 2, 2), 64, 64
    )
    expected = image[..., 0, :] + (blurred[..., top - 1, :] - image[..., 0, :]) / 16
    torch.testing.assert_close(fitted[..., top - 1, :], expected, atol=1e-6, rtol=0)
    assert math.isclose(float(fitted.mean()), float(image.mean()), abs_tol=0.02)

"""Frames on sheets: sizes, levels and which frames are picked."""

import pytest
import torch
from PIL import Image

from svd_core.pictures.sheets import as_image, small_picture, spread, to_picture


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [
        (25, 3, [0, 12, 24]),
        (25, 1, [24]),
        (1, 3, [0]),
        (1, 1, [0]),
        (2, 3, [0, 1]),
        (3, 2, [0, 2]),
        (14, 6, [0, 3, 5, 8, 10, 13]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_frames_are_spread_from_the_first_to_the_last(count: int, wanted: int, expected: list):
    assert spread(count, wanted) == expected


def test_a_frame_becomes_levels_rounded_and_clamped():
    frame = torch.tensor([-0.1, 0.4 / 255, 0.6 / 255, 0.5, 254.6 / 255, 1.2]).view(1, 2, 3)
    picture = small_picture(frame, 2, 1)
    assert [picture.getpixel((x, 0)) for x in range(2)] == [(0, 0, 1), (128, 255, 255)]
    assert small_picture(torch.rand(6, 9, 3), 5, 7).size == (5, 7)


def test_half_precision_and_gradients_are_accepted():
    assert (
        small_picture(torch.ones(1, 1, 3, dtype=torch.float16, requires_grad=True), 1, 1).getpixel((0, 0)) == (255,) * 3
    )


def test_sheets_come_back_as_they_were():
    picture = Image.new("RGB", (4, 3), (255, 51, 0))
    image = as_image(picture)
    assert image.shape == (1, 3, 4, 3) and image.dtype == torch.float32
    assert image[0, 2, 3].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert to_picture(image).size == (4, 3) and to_picture(image).getpixel((3, 2)) == (255, 51, 0)

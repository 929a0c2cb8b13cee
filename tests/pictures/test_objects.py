"""Preparing the picture of an object: its source, its position in the square, and refused input."""

import pytest
import torch

from svd_core.pictures.objects import object_mask, prepare_object

RED, GREY = (0.8, 0.1, 0.1), (0.5, 0.5, 0.5)


def canvas(ground, box=(10, 20, 30, 60), height=80, width=100, colour=RED):
    """A picture with one rectangle (left, top, right, bottom) on a plain ground."""
    picture = torch.tensor(ground).expand(height, width, 3).clone()
    left, top, right, bottom = box
    picture[top:bottom, left:right] = torch.tensor(colour)
    return picture


def box_of(mask):
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize("source", ["white ground", "alpha", "mask"])
def test_the_object_is_centred_and_fills_its_share_of_the_frame(source):
    picture, mask = canvas((1.0, 1.0, 1.0) if source == "white ground" else GREY), None
    where = torch.zeros(80, 100)
    where[20:60, 10:30] = 1
    if source == "alpha":
        picture = torch.cat([picture, where[..., None]], -1)
    elif source == "mask":
        mask = where
    made = prepare_object(picture, mask, ratio=0.5, size=160)
    assert made.shape == (160, 160, 3) and made.is_contiguous()
    left, top, right, bottom = box_of(object_mask(made[None])[0] > 0)
    # The object is 20x40: 40 / 0.5 = 80 pixels of side, so it is doubled in 160; Lanczos reaches 6 pixels.
    for value, wanted in zip((left, top, right, bottom), (60, 40, 100, 120), strict=True):
        assert abs(value - wanted) <= 6
    assert made[80, 80].tolist() == pytest.approx(RED, abs=1 / 255)
    assert made[2, 2].tolist() == [1, 1, 1]


def test_the_mask_wins_over_alpha():
    alpha = torch.ones(80, 100, 1)
    mask = torch.zeros(80, 100)
    mask[20:60, 10:30] = 1
    made = prepare_object(torch.cat([canvas(GREY), alpha], -1), mask, ratio=0.5, size=160)
    assert made[2, 2].tolist() == [1, 1, 1]


def test_without_a_ratio_the_scale_of_the_picture_is_kept_and_wide_objects_fit():
    made = prepare_object(canvas((1.0, 1.0, 1.0), box=(0, 30, 100, 50)), ratio=None, size=200)
    left, _, right, _ = box_of(object_mask(made[None])[0] > 0)
    assert (left, right) == (0, 200)  # 100 wide in a picture 80 high: the square grows to 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ratio": 0.0}, r"above 0 and at most 1 \(got 0\); use 0.85"),
        ({"ratio": 1.5}, r"got 1.5"),
        ({"ratio": float("nan")}, r"got nan"),
        ({"size": 100}, r"multiple of 8 .*got 100.*use 576"),
        ({"mask": torch.ones(4, 5)}, r"100x80 .*got 5x4.*resize"),
        ({"mask": torch.zeros(80, 100)}, r"no object.*mask"),
        ({"picture": torch.ones(80, 100, 3)}, r"no object.*white"),
        ({"picture": torch.ones(80, 100, 2)}, r"channels.*\[80, 100, 2\]"),
    ],
)
def test_what_cannot_be_prepared_is_refused_with_the_remedy(change, words):
    given = {"picture": canvas((1.0, 1.0, 1.0)), **change}
    with pytest.raises(ValueError, match=words):
        prepare_object(**given)


def test_object_mask_is_the_ground_of_the_orbit():
    frames = torch.ones(2, 4, 4, 3)
    frames[0, 1, 2] = 0.3
    mask = object_mask(frames)
    assert mask.shape == (2, 4, 4) and mask.sum() == 1 and mask[0, 1, 2] == 1


@pytest.mark.parametrize(("shape", "box"), [((80, 100), (60, 40, 100, 120)), ((100, 80), (64, 48, 96, 112))])
def test_without_a_ratio_the_square_is_as_high_as_the_picture(shape, box):
    height, width = shape
    picture = canvas((1.0, 1.0, 1.0), height=height, width=width, colour=(0.0, 0.0, 0.0))
    made = prepare_object(picture, ratio=None, size=160)
    # Lanczos spreads an edge over up to 6 pixels; half of the full contrast is at the edge itself.
    left, top, right, bottom = box_of(made.mean(-1) < 0.5)
    assert all(abs(found - wanted) <= 1 for found, wanted in zip((left, top, right, bottom), box, strict=True))


def test_an_object_on_white_is_opaque():
    assert prepare_object(canvas((1.0, 1.0, 1.0), colour=(0.0, 0.0, 0.0)), ratio=0.5, size=160)[80, 80].max() == 0


@pytest.mark.parametrize(("level", "found"), [(250, True), (251, False)])
def test_the_ground_is_what_is_brighter_than_250_of_255(level, found):
    frames = torch.ones(1, 4, 4, 3)
    frames[0, 1, 1] = level / 255
    assert bool(object_mask(frames).any()) is found
    if found:
        assert prepare_object(frames[0], size=16).min() < 1
    else:
        with pytest.raises(ValueError, match="no object"):
            prepare_object(frames[0], size=16)


@pytest.mark.parametrize("size", [16, 24])
def test_the_smallest_sizes_are_prepared(size):
    assert prepare_object(canvas((1.0, 1.0, 1.0)), ratio=1.0, size=size).shape == (size, size, 3)


def test_by_default_the_object_takes_85_hundredths_of_576_pixels():
    made = prepare_object(canvas((1.0, 1.0, 1.0), colour=(0.0, 0.0, 0.0)))
    _, top, _, bottom = box_of(made.mean(-1) < 0.5)
    assert made.shape == (576, 576, 3) and bottom - top == pytest.approx(0.85 * 576, abs=4)

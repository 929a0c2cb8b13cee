"""The report measures known pans, zooms and rolls, even with objects moving in front of them."""

import math
from statistics import fmean

import pytest
import torch

from svd_core.report import ClipReport, measure
from tests.helpers.report_clips import moving, with_blob, with_noise

SIZES = [(64, 64), (128, 128), (144, 256)]  # height, width
MOTIONS = [
    {"pan": (0.3, 0.1)},
    {"pan": (-2.4, 1.3)},
    {"pan": (0.0, -0.5)},
    {"zoom": 1.03},
    {"zoom": 0.97},
    {"zoom": 1.2},
    {"roll": 2.0},
    {"roll": -0.4},
    {"roll": 12.0},
    {"pan": (1.5, -0.7), "zoom": 1.02, "roll": -1.5},
]
# Of a clean clip. A twentieth of a pixel is what interpolation and 3x3 samples per pixel leave uncertain; zoom and roll
# depend on the edges, half a picture away, where a tenth of a pixel is 0.003 and 0.18 degrees at 64 pixels.
PAN, ZOOM, ROLL = 0.05, 0.002, 0.1

every_size = pytest.mark.parametrize(("height", "width"), SIZES, ids=lambda value: str(value))
every_motion = pytest.mark.parametrize("motion", MOTIONS, ids=str)


def differences(report: ClipReport, motion: dict) -> tuple[float, float, float]:
    """Return the errors of pan (pixels), zoom and roll (degrees) of the first pair."""
    pan_x, pan_y = motion.get("pan", (0.0, 0.0))
    pan = math.hypot(report.pan_x[0] - pan_x, report.pan_y[0] - pan_y)
    return pan, abs(report.zoom[0] - motion.get("zoom", 1.0)), abs(report.roll[0] - motion.get("roll", 0.0))


def within(report: ClipReport, motion: dict, slack: float = 1.0) -> bool:
    """Whether the shared motion of the first pair is the asked one; `slack` widens the tolerances."""
    allowed = (PAN, ZOOM, ROLL)
    return all(error < slack * limit for error, limit in zip(differences(report, motion), allowed, strict=True))


@every_size
@every_motion
def test_shared_motion_is_the_one_that_was_made(height: int, width: int, motion: dict) -> None:
    report = measure(moving(height, width, **motion))
    assert within(report, motion), differences(report, motion)
    assert report.rigid[0] > 0.7


@every_size
@every_motion
def test_noise_hardly_changes_the_shared_motion(height: int, width: int, motion: dict) -> None:
    report = measure(with_noise(moving(height, width, **motion), 0.03))
    # Noise adds about a pixel's worth of error over the square root of the thousands of pixels that are averaged.
    assert within(report, motion, slack=2), differences(report, motion)


@every_size
@every_motion
def test_a_moving_foreground_hardly_changes_the_shared_motion(height: int, width: int, motion: dict) -> None:
    size = height * 2 // 5  # up to a sixth of the picture
    report = measure(with_blob(moving(height, width, **motion), size, step=(-4, 3)))
    assert within(report, motion, slack=2), differences(report, motion)


@every_size
@pytest.mark.parametrize("share", [0.05, 0.12, -0.2, 0.28])
def test_large_pans_are_followed(height: int, width: int, share: float) -> None:
    pan = (share * width, 0.05 * height)
    report = measure(moving(height, width, pan=pan))
    assert within(report, {"pan": pan}), differences(report, {"pan": pan})
    assert report.summary()["pan_x_percent"] == pytest.approx(100 * share, abs=0.1)
    # Areas that leave the picture are assumed to move like their surroundings.
    assert report.motion[0] == pytest.approx(math.hypot(*pan), rel=0.05)


@pytest.mark.parametrize(("gain", "bias"), [(0.8, 0.1), (0.5, 0.3), (0.6, 0.0), (1.0, -0.15)])
def test_a_change_of_light_is_not_taken_for_motion(gain: float, bias: float) -> None:
    clip = 0.15 + 0.7 * moving(96, 96, pan=(1.2, 0.0), zoom=1.01)
    before = measure(clip)
    clip[1] = gain * clip[1] + bias
    report = measure(clip)
    assert within(report, {"pan": (1.2, 0.0), "zoom": 1.01})
    assert report.motion[0] == pytest.approx(before.motion[0], rel=0.1)


def test_motion_is_told_in_pixels_of_the_clip_however_large_it_is() -> None:
    report = measure(moving(288, 512, pan=(6.3, -2.1)))  # estimated at 256x144
    assert (report.pan_x[0], report.pan_y[0]) == pytest.approx((6.3, -2.1), abs=2 * PAN)
    assert report.motion[0] == pytest.approx(math.hypot(6.3, 2.1), rel=0.1)


def test_summary_holds_the_motion_of_the_whole_clip() -> None:
    report = measure(moving(96, 96, pan=(0.8, -0.4), zoom=1.01, roll=0.5, frames=8))
    total = report.summary()
    assert total["pan_x"] == pytest.approx(0.8, abs=PAN)
    assert total["pan_y"] == pytest.approx(-0.4, abs=PAN)
    assert total["zoom"] == pytest.approx(1.01, abs=ZOOM)
    assert total["roll"] == pytest.approx(0.5, abs=ROLL)


def test_a_cut_hardly_changes_the_motion_of_the_clip() -> None:
    parts = [moving(96, 96, pan=(1.5, 0.0), frames=6, seed=seed) for seed in (1, 2)]
    report = measure(torch.cat(parts), seams=(6,))
    assert report.summary()["pan_x"] == pytest.approx(1.5, abs=0.2)
    assert report.seams[0].score > 3


@pytest.mark.parametrize("pan", [(0.5, 0.0), (0.0, -2.0), (3.0, 2.0)])
def test_dense_motion_of_a_pan_is_its_length(pan: tuple[float, float]) -> None:
    report = measure(moving(128, 128, pan=pan))
    # Windows of ten pixels know their motion to about a tenth of a pixel, and strays add to the mean length.
    assert report.motion[0] == pytest.approx(math.hypot(*pan), abs=0.1, rel=0.1)
    assert report.fast_motion[0] >= report.motion[0]


@pytest.mark.parametrize("kind", ["pan", "zoom", "roll"])
def test_more_motion_measures_as_more_motion(kind: str) -> None:
    made = {"pan": [(amount, 0.0) for amount in (0, 0.5, 1, 2, 4, 8)], "zoom": [1, 1.01, 1.02, 1.05, 1.1]}
    made["roll"] = [0, 1, 2, 4, 8]
    reports = [measure(moving(96, 128, **{kind: amount})) for amount in made[kind]]
    for name in ("motion", "fast_motion", "step"):
        amounts = [getattr(report, name)[0] for report in reports]
        assert amounts == sorted(amounts) and amounts[0] == pytest.approx(0, abs=1e-4), name


def test_a_mask_tells_what_moves_from_what_stays() -> None:
    clip = moving(128, 128, pan=(2.0, 1.0), frames=3)
    mask = torch.zeros(128, 128)
    mask[32:96, 32:96] = 1
    clip = torch.where(mask[None, :, :, None] > 0, clip[:1], clip)  # frozen within the mask
    report = measure(clip, mask=mask)
    assert fmean(report.motion_outside) == pytest.approx(math.hypot(2, 1), rel=0.1)
    assert report.frozen_share < 0.1
    assert measure(clip, mask=1 - mask).frozen_share > 10
    smaller = measure(clip, mask=mask[None, ::2, ::2])
    assert smaller.motion_inside == pytest.approx(report.motion_inside, abs=0.1)
    per_frame = measure(clip, mask=mask.expand(3, 128, 128))
    assert per_frame == report


# At the edges of what stands still, windows see both motions; fast pans leave strays there.
@pytest.mark.parametrize(("pan", "fastest"), [((2.0, 1.0), 1.15), ((10.0, 3.0), 1.25), ((16.0, 0.0), 1.6)])
def test_what_stands_still_in_front_of_a_fast_pan_is_seen_to(pan: tuple[float, float], fastest: float) -> None:
    clip = moving(128, 128, pan=pan)
    mask = torch.zeros(128, 128)
    mask[40:88, 40:88] = 1
    report = measure(torch.where(mask[None, :, :, None] > 0, clip[:1], clip), mask=mask)
    assert report.frozen_share < 0.1
    assert report.motion_outside[0] == pytest.approx(math.hypot(*pan), rel=0.1)
    assert report.fast_motion[0] < fastest * math.hypot(*pan)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_plain_sky_goes_with_its_surroundings_more_than_not(noise: float) -> None:
    clip = moving(128, 128, pan=(3.0, 1.0))
    clip[:, :48] = 0.5
    mask = torch.zeros(128, 128)
    mask[:44] = 1
    report = measure(with_noise(clip, noise), mask=mask)
    assert report.frozen_share > 0.7
    assert report.pan_x[0] == pytest.approx(3, abs=0.1)


def test_rigid_tells_how_much_follows_the_shared_motion() -> None:
    clip = moving(128, 128, pan=(1.0, 0.0))
    whole, part = measure(clip), measure(with_blob(clip, 64, step=(-4, 3)))
    assert whole.rigid[0] > 0.9
    # The square covers a quarter, and half as much around it has both motions in its windows.
    assert 0.55 < part.rigid[0] < 0.75

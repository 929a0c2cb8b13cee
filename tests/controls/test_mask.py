"""Masks of motion and the still picture below them: limits, feathers and overlays by numbers."""

import pytest
import torch

from svd_core.controls.brush import MotionBrush, motion_brush
from svd_core.controls.mask import FEATHER, StillOverlay, feather_pixels, feathered, fit_masks, still_overlay
from tests.helpers.runs import SCALE, SIDE, level, run_of


@pytest.mark.parametrize(
    ("per_cent", "height", "width", "pixels"),
    [
        (0, 100, 100, 0),
        (3, 576, 1024, 23),
        (25, 100, 100, 25),
        (10, 25, 100, 5),
        (0.4, 100, 100, 0),
        (1.6, 100, 100, 2),
    ],
)
def test_feathers_are_parts_of_the_mean_side(per_cent: float, height: int, width: int, pixels: int) -> None:
    assert feather_pixels(per_cent, height, width) == pixels and FEATHER == 3


@pytest.mark.parametrize("per_cent", [-0.1, 25.1, float("nan"), float("inf")])
def test_other_feathers_are_refused(per_cent: float) -> None:
    with pytest.raises(ValueError, match=rf"0 to 25 % \(got {per_cent:g}\); use 2 to 5"):
        feather_pixels(per_cent, 100, 100)


@pytest.mark.parametrize(
    ("value", "fitted"),
    [
        (0.0, 0.0),
        (0.0199, 0.0),
        (0.021, 0.021),
        (0.5, 0.5),
        (0.979, 0.979),
        (0.9801, 1.0),
        (1.0, 1.0),
        (-0.009, 0.0),
        (1.009, 1.0),
    ],
)
def test_values_close_to_the_ends_are_the_ends(value: float, fitted: float) -> None:
    masks = fit_masks(torch.full((2, 16, 16), value), (16, 16), 16, 16, "crop")
    assert masks.shape == (2, 1, 16, 16)
    assert torch.allclose(masks, torch.tensor(fitted))


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_values_outside_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"outside 0..1; give values from 0"):
        fit_masks(torch.full((16, 16), value), (16, 16), 16, 16, "crop")
    with pytest.raises(ValueError, match="mask is empty"):
        fit_masks(torch.zeros(0, 16, 16), (16, 16), 16, 16, "crop")


def test_a_feather_is_a_ramp_inside_the_moving_part() -> None:
    mask = torch.zeros(1, 1, 1, 16)
    mask[..., 4:] = 1.0
    # An erosion by 2 pixels, averaged over 5: it starts at the edge and is full 4 pixels further in.
    assert feathered(mask.repeat(1, 1, 9, 1), 2)[0, 0, 4].tolist() == pytest.approx(
        [0] * 4 + [0.2, 0.4, 0.6, 0.8] + [1] * 8
    )


def test_nothing_painted_keeps_its_feather() -> None:
    assert not feathered(torch.zeros(1, 1, 8, 8), 3).any()


def test_an_overlay_fades_along_a_smooth_step_outside_what_moves() -> None:
    mask = torch.zeros(1, 1, 9, 16)
    mask[..., 4:] = 0.3  # any paint moves
    overlay = still_overlay(torch.full((1, 3, 9, 16), 0.5), mask, 2)
    ramp = torch.tensor([0.2, 0.4, 0.6, 0.8])
    expected = torch.cat([torch.ones(4), 1 - ramp**2 * (3 - 2 * ramp), torch.zeros(8)])
    torch.testing.assert_close(overlay.share[0, 0, 4], expected)
    assert torch.allclose(overlay.picture, torch.tensor(0.75))
    assert float(still_overlay(torch.full((1, 3, 4, 4), 3.0), torch.zeros(1, 1, 4, 4), 0).picture.max()) == 1


def test_the_share_of_a_frame_serves_all_later_frames() -> None:
    share = torch.tensor([1.0, 0.25]).reshape(2, 1, 1, 1).expand(2, 1, 4, 4)
    frames = torch.zeros(4, 4, 4, 3)
    out = StillOverlay(torch.ones(1, 3, 4, 4), share).over(frames)
    assert out[:, 0, 0, 0].tolist() == pytest.approx([1.0, 0.25, 0.25, 0.25])


@pytest.mark.parametrize(
    ("motion", "sigma", "held"),
    [
        (0.0, 0.011 * SCALE, True), (0.0, 0.009 * SCALE, False),
        (1.0, 699.0, False), (1.0, 700.0, False), (0.5, 0.68, True), (0.5, 0.65, False),
    ],
)  # fmt: skip
def test_cells_are_held_down_to_a_level_of_their_own(motion: float, sigma: float, held: bool) -> None:
    # Half way between 700 and 0.01 / 16 in the logarithm is 0.661.
    brush = MotionBrush(level(motion, 1, 1), latent=level(5.0, 1))
    estimate = level(1.0)
    got = brush.edit_estimate(run_of(), estimate, sigma, estimate)
    assert torch.equal(got, level(5.0 if held else 1.0))


@pytest.mark.parametrize("shape", [(2, 1, SIDE, SIDE), (1, 1, SIDE, 5), (1, 1, 5, SIDE), (5, 1, SIDE, SIDE)])
def test_a_mask_of_another_clip_is_refused_before_the_first_step(shape: tuple) -> None:
    with pytest.raises(ValueError, match=rf"{shape[0]} frames of {8 * shape[3]}x{8 * shape[2]} .* 4 of 48x48; make"):
        MotionBrush(torch.ones(shape)).begin(run_of(), None)
    assert MotionBrush(torch.ones(4, 1, SIDE, SIDE)).begin(run_of(), "start") == "start"


@pytest.mark.parametrize(("keep", "overlay"), [(True, True), (False, False)])
def test_a_brush_is_made_of_a_picture_and_masks(keep: bool, overlay: bool) -> None:
    masks = torch.zeros(1, 1, 48, 48)
    masks[..., 24:] = 1.0
    brush = motion_brush(
        lambda picture: picture[:, :1, ::8, ::8] + 1, torch.full((1, 3, 48, 48), 0.5), masks, keep_still=keep
    )
    # 3 % of 48 pixels is 1, so the feather has a radius of 1 pixel: a third and two thirds at the edge.
    assert brush.motion[0, 0, 0].tolist() == pytest.approx([0, 0, 0, (1 / 3 + 2 / 3 + 6) / 8, 1, 1])
    assert torch.allclose(brush.latent, torch.tensor(1.5 * 0.18215))
    assert (brush.overlay is not None) == overlay == brush.edits_frames
    assert (brush.strength, brush.sigma, brush.still_bucket, brush.moving_bucket) == (1, 0.01, None, None)
    soft = motion_brush(lambda picture: picture, torch.zeros(1, 3, 48, 48), masks, feather=9.0, keep_still=False)
    assert soft.motion[0, 0, 0].tolist() == pytest.approx([0, 0, 0, (0.2 + 0.4 + 0.6 + 0.8 + 4) / 8, 1, 1])


@pytest.mark.parametrize(("strength", "active"), [(0.0, False), (1e-6, True), (1.0, True)])
def test_a_brush_without_strength_takes_no_part(strength: float, active: bool) -> None:
    brush = MotionBrush(level(1.0, 1, 1), strength)
    assert brush.active == active and not brush.edits_frames
    frames = torch.rand(2, 4, 4, 3)
    assert brush.edit_frames(frames) is frames

"""The motion brush and its masks, on models known in closed form and with the embedded one."""

import pytest
import torch

import svd_core as svd
from svd_core.controls.amount import BUCKET, with_scalar
from svd_core.controls.brush import MotionBrush, motion_brush
from svd_core.controls.drag import drag_frames, parse_drag, parse_drags
from svd_core.controls.mask import StillOverlay, feathered, fit_masks
from svd_core.pictures import fit
from svd_core.report.measuring import measure
from tests.helpers.motion_models import Counted, H, W, condition, run, still


def left(value=1.0):
    return torch.cat([torch.full((1, 1, H, W // 2), value), torch.zeros(1, 1, H, W - W // 2)], dim=3)


def test_still_cells_are_the_picture_and_moving_ones_what_they_were():
    plain, held = run(steps=10), run([MotionBrush(left())], steps=10)
    # Let go at a low level, a still cell moves by about that sigma; a free one by the spread of the clips, 0.5.
    assert (held[..., W // 2 :] - still()[..., W // 2 :]).abs().mean() < 0.12
    assert (plain[..., W // 2 :] - still()[..., W // 2 :]).abs().mean() > 0.3
    torch.testing.assert_close(held[..., : W // 2], plain[..., : W // 2])


def test_grey_is_held_for_less_long_than_black_and_longer_than_white():
    far = [
        (run([MotionBrush(torch.full((1, 1, H, W), value))], steps=20) - still()).abs().mean().item()
        for value in (0.0, 0.3, 0.6, 1.0)
    ]
    assert far == sorted(far) and far[3] > 3 * far[0]


def test_a_mask_of_ones_without_buckets_changes_nothing():
    assert torch.equal(run([MotionBrush(torch.ones(1, 1, H, W))]), run())


@pytest.mark.parametrize(("strength", "sigma"), [(0.5, 0.3), (1.0, 3.0)])
def test_a_lower_strength_or_a_higher_sigma_lets_go_earlier(strength, sigma):
    tight, loose = (run([MotionBrush(left(0.0), s, q)], steps=20) for s, q in ((1.0, 0.3), (strength, sigma)))
    assert (loose - still()).abs().mean() > 1.3 * (tight - still()).abs().mean()


def test_both_branches_are_told_the_buckets_of_both_sides():
    model = Counted()
    run([MotionBrush(left(), still_bucket=1.0, moving_bucket=200.0)], model=model, steps=2)
    wanted = with_scalar(condition(), BUCKET, torch.tensor([200.0])).vector
    calm = with_scalar(condition(), BUCKET, torch.tensor([1.0])).vector
    assert len(model.conditions) == 4
    for given in model.conditions:
        assert torch.equal(given.vector, wanted) and torch.equal(given.region.vector, calm)
        assert torch.equal(given.region.share, 1 - left())
    model = Counted()
    run([MotionBrush(left())], model=model, steps=2)
    assert all(given.region is None for given in model.conditions)


def test_feathers_lie_inside_what_moves_and_thin_paint_survives():
    mask = torch.zeros(1, 1, 40, 60)
    mask[..., 20:] = 1.0
    soft = feathered(mask, 4)
    assert not soft[..., :20].any() and bool((soft[..., 28:] == 1).all())
    assert bool((soft[..., 1:] >= soft[..., :-1]).all()) and 0 < soft[0, 0, 20, 24] < 1
    assert torch.equal(feathered(mask, 0), mask)
    line = torch.zeros(1, 1, 40, 60)
    line[..., 30:33] = 1.0
    assert feathered(line, 8).max() == 1


def test_kept_pixels_are_exact_and_edges_are_seamless():
    picture = torch.rand(1, 3, 8, 30, generator=torch.Generator().manual_seed(0))
    share = torch.cat([torch.ones(10), torch.linspace(1, 0, 10), torch.zeros(10)]).expand(1, 1, 8, 30)
    frames = picture.movedim(1, -1).expand(3, -1, -1, -1) + 0.1
    out = StillOverlay(picture, share).over(frames)
    assert torch.equal(out[:, :, :10], picture.movedim(1, -1).expand(3, -1, -1, -1)[:, :, :10])
    assert torch.equal(out[:, :, 20:], frames[:, :, 20:])
    difference = (out - picture.movedim(1, -1))[0, 0, :, 0]
    assert (difference[1:] - difference[:-1]).abs().max() < 0.02, "a step of 0.1 is spread over ten pixels"


REFUSED = [
    (lambda: MotionBrush(left(), strength=-1), r"got -1\); use 1"),
    (lambda: MotionBrush(left(), sigma=0), r"above 0 \(got 0\); use 0.01"),
    (lambda: MotionBrush(left()[0]), r"\[1, 18, 32\]; give"),
    (lambda: MotionBrush(left(), still_bucket=-3), r"still bucket .*got -3\); use"),
    (lambda: run([MotionBrush(torch.ones(1, 1, 4, 4))]), "1 frames of 32x32 pixels, the clip has 5 of 256x144; make"),
    (lambda: run([MotionBrush(torch.ones(3, 1, H, W))]), "3 frames of 256x144 pixels, the clip has 5"),
    (lambda: fit_masks(torch.full((4, 4), float("nan")), (4, 4), 16, 16, "crop"), r"outside 0..1; give"),
    (lambda: parse_drag("0.1,0.2,0.3; 1,1"), "3 numbers; write x,y"),
    (lambda: parse_drag("0,0; 1,1", easing="bounce"), "easing 'bounce' is unknown"),
    (lambda: parse_drag("0,0; 1,1").places(1), r"at least 2 frames \(got 1\); use"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message[:24] for _, message in REFUSED])
def test_bad_input_is_answered_with_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_drag_path_runs_evenly_along_its_lines_with_size_and_turn():
    places = parse_drag("0.2,0.2; 0.5,0.2; 0.5,0.3", "2, 1", "90").places(9)
    assert places[0].tolist() == [0, 0, 1, 0] and places[-1].tolist() == pytest.approx([0.3, 0.1, 1, 90])
    steps = (places[1:, :2] - places[:-1, :2]).norm(dim=1)
    torch.testing.assert_close(steps, torch.full((8,), 0.05, dtype=torch.float64))
    assert places[4, 2] == 2 and [len(path.points) for path in parse_drags("0,0; 1,1\n0,0; 0,1; 1,1")] == [2, 3]


def test_a_dragged_object_turns_clockwise_and_grows_about_its_own_middle():
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 28:36, 20:44] = 1.0  # a lying bar
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 26:38, 18:46] = 1.0
    warped, there = drag_frames(picture, [(mask, parse_drag("0,0; 0,0.0001", "1.5", "90"))], 3)
    end = warped.frames[-1, 0]
    assert end[32, 32] > 0.9 and end[16, 32] > 0.9 and end[32, 16] < 0.3, "it stands, and is longer"
    assert there[-1, 0, 14, 32] > 0.5 and torch.equal(warped.frames[0], picture[0])


@pytest.mark.parametrize("seed", [1, 2])
def test_nano_moves_where_it_is_painted_and_nowhere_else(seed):
    model = svd.load_model("nano")
    width, height = model.config.width, model.config.height
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    texture = torch.stack([(11 * x + seed).sin() * (7 * y).cos(), (9 * x * y).sin(), (5 * x - 6 * y).cos()])
    picture, _ = fit((0.6 * texture + 0.3 * x)[None].clamp(-1, 1), width, height)
    masks = torch.zeros(1, 1, height, width)
    masks[..., : width // 2] = 1.0
    brush = motion_brush(model.encode_latent, picture, masks)
    settings = svd.AnimateSettings(frames=4, steps=6, motion_bucket=255, seed=seed)
    clip = svd.animate(model, picture, settings, controls=[brush])
    frozen, moving = clip[:, :, width // 2 :], clip[:, :, : width // 2]
    assert torch.equal(frozen, ((picture + 1) / 2).movedim(1, -1)[:, :, width // 2 :].expand(4, -1, -1, -1))
    assert measure(moving.contiguous()).summary()["motion"] > 0.1

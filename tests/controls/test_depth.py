"""Holes of a warp are filled, and distances come from depth maps or from a foreground."""

import pytest
import torch

from svd_core.controls.camera.depth import depth_from_foreground, depth_from_map
from svd_core.controls.camera.moves import parse_path
from svd_core.controls.camera.warping import fill_beyond, fill_holes, shrink, warp

W, H = 160, 96


@pytest.mark.parametrize("shape", [(96, 160), (7, 33), (64, 64), (1, 5)])
def test_every_hole_is_filled_with_something_between_what_is_known(shape):
    picture = torch.rand(2, 3, *shape)
    valid = (torch.rand(2, 1, *shape) > 0.7).float()
    valid[..., -1] = 1.0
    filled = fill_holes(picture * valid + 99 * (1 - valid), valid)
    assert torch.equal(filled * valid, picture * valid)
    for t in range(2):
        known = picture[t][:, valid[t, 0] > 0]
        assert filled[t].min() >= known.min() - 1e-5 and filled[t].max() <= known.max() + 1e-5


def test_holes_take_the_colour_of_their_surroundings():
    picture = torch.cat([torch.full((1, 1, 32, 32), -1.0), torch.full((1, 1, 32, 32), 1.0)], dim=-1)
    valid = torch.ones(1, 1, 32, 64)
    valid[..., 10:20, 5:15] = valid[..., 10:20, 50:60] = 0.0
    filled = fill_holes(picture * valid, valid)
    assert filled[..., 10:20, 5:15].max() < -0.9 and filled[..., 10:20, 50:60].min() > 0.9


def test_a_picture_without_anything_known_becomes_grey():
    assert torch.equal(fill_holes(torch.full((1, 3, 8, 8), 7.0), torch.zeros(1, 1, 8, 8)), torch.zeros(1, 3, 8, 8))


def test_shrinking_moves_edges_of_holes_but_not_the_border():
    valid = torch.ones(1, 1, 9, 9)
    valid[..., 4, 4] = 0.0
    shrunk = shrink(valid, 1)
    assert shrunk.sum() == 81 - 9 and shrunk[..., 0, :].all()
    assert torch.equal(shrink(valid, 0), valid)


def test_depth_maps_are_bright_where_near_and_one_at_the_centre():
    brightness = torch.linspace(0.2, 0.8, W).reshape(1, 1, 1, W).expand(1, 1, H, W)
    depth = depth_from_map(brightness, far_to_near=5.0)
    assert depth[..., 0].max() / depth[..., -1].min() == pytest.approx(5.0)
    assert depth[..., H // 2, W // 2].item() == pytest.approx(1.0, rel=0.02)
    assert torch.equal(depth_from_map(torch.full((1, 1, H, W), 0.4)), torch.ones(1, 1, H, W))


def test_a_foreground_moves_in_one_piece_in_front_of_a_plain():
    mask = torch.zeros(1, 1, H, W)
    mask[..., 20:80, 60:90] = 1.0
    depth = depth_from_foreground(mask)
    assert (depth[mask > 0] - 1).abs().max() < 1e-6
    ground = depth[0, 0, :, 10]
    assert bool((ground.diff() <= 1e-6).all()) and ground[0] == ground[30] and ground[79].item() == pytest.approx(1.0)
    jagged = depth_from_map(torch.rand(1, 1, H, W), mask)
    assert (jagged[mask > 0] - 1).abs().max() < 1e-6


def striped_left_half() -> tuple[torch.Tensor, torch.Tensor]:
    """A picture whose right half is beyond its border: mirrored fine stripes on a bright half, and what is known."""
    x = torch.arange(64.0)
    stripes = torch.where(x.remainder(2) < 1, 0.2, -0.2) + torch.where((x >= 20) & (x < 44), 0.6, -0.6)
    picture = stripes.expand(1, 1, 64, 64).clone()
    valid = torch.ones(1, 1, 64, 64)
    valid[..., 32:] = 0.0
    return picture, valid


def test_what_comes_into_view_has_the_mirrored_fine_detail_on_smooth_colours():
    mirrored, valid = striped_left_half()
    filled = fill_beyond(mirrored, valid)
    assert torch.equal(filled[..., :32], mirrored[..., :32])
    assert mirrored.amin() <= filled.min() and filled.max() <= mirrored.amax()

    def contrast(picture):
        """Mean step between neighbours well inside the fill and away from the mirrored edge."""
        return (picture[..., 53:62] - picture[..., 52:61]).abs().mean()

    assert contrast(fill_holes(mirrored, valid)) < 0.01  # it alone is smooth
    assert contrast(filled) > 0.9 * contrast(mirrored)
    # The bright form ends at column 44 of the mirrored picture; only its edge, not its size, shows in the fill.
    far = filled[..., 54:].mean() - fill_holes(mirrored, valid)[..., 54:].mean()
    assert far.abs() < 0.05


def test_the_outline_of_an_object_is_not_mirrored_as_its_ghost():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    grain = torch.randn(64, 64, generator=torch.Generator().manual_seed(2)) * 0.01
    ring = torch.where(((x - 46).hypot(y - 32) - 12).abs() < 1.5, 1.0, 0.0)
    mirrored, valid = (ring + grain)[None, None], torch.ones(1, 1, 64, 64)
    valid[..., 32:] = 0.0
    ghost = fill_beyond(mirrored, valid) - fill_holes(mirrored, valid)
    assert ghost[..., 34:].abs().mean() > 0.004 and ghost[..., 34:].abs().max() < 0.1


def test_a_frame_without_anything_new_is_untouched():
    mirrored, valid = striped_left_half()
    assert fill_beyond(mirrored, torch.ones_like(valid)) is mirrored


@pytest.mark.parametrize("path", ["pan right 0.2", "tilt up 0.2", "zoom out 1.3", "roll cw 12"])
def test_a_camera_over_an_even_texture_keeps_its_sharpness_to_the_border(path):
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    frames, valid = warp(picture, parse_path(path).poses(4))
    fresh = valid[-1, 0] < 0.5
    assert fresh.float().mean() > 0.05

    def spread(frame):
        return frame.std(correction=0)

    assert spread(frames[-1][:, fresh]) > 0.6 * spread(frames[-1][:, ~fresh])

"""Line drawings: white where the picture changes, black elsewhere, and steady from frame to frame."""

import pytest
import torch

from svd_core.controls.lines import line_drawing


def disc(shift=0.0, side=64):
    y, x = torch.meshgrid(torch.arange(side) - side / 2, torch.arange(side) - side / 2 - shift, indexing="ij")
    return torch.sigmoid(2 * (18 - torch.hypot(x, y)))[None, ..., None].expand(-1, -1, -1, 3) * 0.8 + 0.1


def test_lines_lie_on_the_edge_and_nowhere_else():
    lines = line_drawing(disc())[0, ..., 0]
    y, x = torch.meshgrid(torch.arange(64) - 32.0, torch.arange(64) - 32.0, indexing="ij")
    distance = (torch.hypot(x, y) - 18).abs()
    assert lines[distance < 0.7].mean() > 0.6 and lines[distance > 3].max() < 1e-3


def test_all_frames_share_one_scale():
    faint = disc() * 0.2
    together = line_drawing(torch.cat([disc(), faint]))
    assert together[1].max() < 0.5 < together[0].max()
    assert line_drawing(faint).max() > 0.9


def test_lines_move_with_the_picture():
    still, moved = line_drawing(disc())[0, 2:-2], line_drawing(disc(4.0))[0, 2:-2]
    assert torch.allclose(still[:, 2:-6], moved[:, 6:-2], atol=0.05)


def test_flat_and_grey_frames_are_fine():
    assert not line_drawing(torch.full((2, 16, 16, 3), 0.5)).any()
    assert line_drawing(disc()[..., :1]).shape == (1, 64, 64, 3)


def test_more_detail_draws_fainter_edges():
    both = torch.cat([disc(), disc() * 0.3])
    assert line_drawing(both, detail=3.0)[1].sum() > 2 * line_drawing(both, detail=1.0)[1].sum()


@pytest.mark.parametrize(("shape", "detail"), [((16, 16, 3), 1.0), ((1, 16, 16, 2), 1.0), ((1, 16, 16, 3), 0.0)])
def test_what_cannot_be_is_refused(shape, detail):
    with pytest.raises(ValueError, match="got"):
        line_drawing(torch.zeros(shape), detail=detail)

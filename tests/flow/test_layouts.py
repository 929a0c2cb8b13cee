"""Optical flow does not depend on how planes lie in memory: the same values give the same bits in any strides."""

import pytest
import torch

from svd_core.flow.dense import dense_flow, enlarge, visible, warp_back
from svd_core.flow.pairs import measure_pairs
from svd_core.flow.planes import blur, luminance, pyramid, resize
from svd_core.flow.shared import fit_similarity
from tests.helpers.layouts import other_layouts
from tests.helpers.report_clips import moving


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """Three frames [3, 40, 56, 3] that pan."""
    return moving(40, 56, pan=(1.5, -0.5), frames=3)


def planes(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pairs of grey planes [2, 1, 40, 56]: earlier and later."""
    grey = luminance(frames)[:, None]
    return grey[:2], grey[1:]


def strided(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensor in other strides, among them one whose axes of length 1 have strides of their own."""
    views = list(other_layouts(tensor).values())
    unit = [stride + (size == 1) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
    return [*views, tensor.as_strided(tensor.shape, unit)]


def test_luminance_is_the_same_bits(frames):
    assert all(torch.equal(luminance(view), luminance(frames)) for view in strided(frames))


@pytest.mark.parametrize(
    "stage",
    [
        lambda first, second: [blur(first, 1.3)],
        lambda first, second: [resize(first, (17, 23))],
        lambda first, second: pyramid(resize(first, (40, 56)), 8),
        lambda first, second: [getattr(fit_similarity(first, second), name) for name in ("scale", "shift", "gain")],
        lambda first, second: [dense_flow(first, second, fit_similarity(first, second))],
        lambda first, second: measure_pairs(torch.cat([first, second]), None, (40, 56))["flicker"],
    ],
    ids=["blur", "resize", "pyramid", "similarity", "dense flow", "pairs"],
)
def test_planes_in_other_strides_give_the_same_bits(frames, stage):
    first, second = planes(frames)
    expected = stage(first, second)
    for one, two in zip(strided(first), strided(second), strict=True):
        found = stage(one, two)
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(found, expected, strict=True))


def test_flows_in_other_strides_give_the_same_bits(frames):
    first, second = planes(frames)
    shared = fit_similarity(first, second)
    forward, backward = dense_flow(first, second, shared), dense_flow(second, first, shared.inverse())
    expected = visible(forward, backward), *warp_back(second, forward), enlarge(forward, (50, 60))
    for one, two in zip(strided(forward), strided(backward), strict=True):
        found = visible(one, two), *warp_back(strided(second)[0], one), enlarge(one, (50, 60))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

"""Layers between two pictures: an object that goes far is found and moved whole, before a ground that stays or pans."""

import math
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F

from svd_core.flow.between import frames_between
from svd_core.flow.layers import Layer, find_layers, frame_of_layers, share_of
from tests.helpers.layouts import other_layouts

HEIGHT, WIDTH = 96, 144
RADIUS = 0.28  # of the object, in halves of the height
JOURNEYS = {
    "a shift": ((-0.55, -0.2), (0.55, 0.2), 0.0, 0.0),
    "a turn": ((-0.5, 0.1), (0.4, -0.1), 30.0, 0.0),
    "a ground that pans": ((-0.4, 0.0), (0.5, 0.1), 0.0, 12.0),
}  # the object's place in halves of the height at both ends, its turn in degrees, and the pan of the ground in pixels


def texture(seed: int, height: int, width: int, cells: int) -> torch.Tensor:
    """A smooth random picture [1, 3, height, width] in 0..1."""
    coarse = torch.rand(1, 3, cells, cells * 3 // 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)


def scene(journey: str, time: float) -> torch.Tensor:
    """The scene [HEIGHT, WIDTH, 3] at `time`: a colourful square before a pale ground."""
    start, end, turn, pan = JOURNEYS[journey]
    ground = 0.6 + 0.4 * texture(1, HEIGHT, WIDTH + 24, 10)
    left = round(pan * time)
    frame = ground[..., left : left + WIDTH]
    x, y = (a + (b - a) * time for a, b in zip(start, end, strict=True))
    c, s = math.cos(math.radians(turn) * time) / RADIUS, math.sin(math.radians(turn) * time) / RADIUS
    ratio = WIDTH / HEIGHT
    theta = torch.tensor([[[c * ratio, s, -(c * x + s * y)], [-s * ratio, c, -(c * y - s * x)]]])
    grid = F.affine_grid(theta, [1, 3, HEIGHT, WIDTH], align_corners=False)
    toy = torch.cat([0.6 * texture(2, 48, 48, 5), torch.ones(1, 1, 48, 48)], 1)
    toy = F.grid_sample(toy, grid, mode="bilinear", align_corners=False)
    return (frame * (1 - toy[:, 3:]) + toy[:, :3])[0].movedim(0, -1).contiguous()


@lru_cache
def ends(journey: str) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[Layer, ...]]:
    """Both ends of a scene, and the layers between them."""
    frames = (scene(journey, 0.0), scene(journey, 1.0))
    return frames, find_layers(*frames)


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(-10 * (one - other).square().mean().log10())


@pytest.fixture(params=JOURNEYS)
def journey(request) -> str:
    return request.param


def test_an_object_that_goes_far_is_on_its_way_in_the_middle(journey):
    frames, layers = ends(journey)
    middle, truth = frame_of_layers(frames, layers, 0.5), scene(journey, 0.5)
    (flow,) = frames_between(*frames, [0.5])
    # Measured 25 to 30 dB; flow alone and a cross-fade have 15 to 18.
    assert psnr(middle, truth) > psnr(flow, truth) + 6
    assert psnr(middle, truth) > psnr((frames[0] + frames[1]) / 2, truth) + 6


def test_most_of_such_a_scene_is_found_again(journey):
    assert share_of(*ends(journey)) > 0.5


def test_a_layer_has_the_motion_of_its_object():
    _, (_, toy) = ends("a turn")
    assert float(torch.rad2deg(toy.motion.scale.angle())) == pytest.approx(30, abs=4)
    assert float(toy.motion.scale.abs()) == pytest.approx(1, abs=0.04)
    places = [complex(place[0]) for place in (toy.centre, toy.motion.scale * toy.centre + toy.motion.shift)]
    ratio = HEIGHT / WIDTH
    for found, (x, y) in zip(places, JOURNEYS["a turn"][:2], strict=True):
        assert found.real == pytest.approx(x * ratio, abs=0.03)
        assert found.imag == pytest.approx(y * ratio, abs=0.03)


def test_the_ends_are_the_pictures_themselves(journey):
    frames, layers = ends(journey)
    for time, frame in zip((0.0, 1.0), frames, strict=True):
        inner = (slice(4, -4), slice(4, -16))  # beside what a pan leaves
        assert psnr(frame_of_layers(frames, layers, time)[inner], frame[inner]) > 35


def test_unrelated_pictures_have_little_in_common():
    frames = tuple(texture(seed, HEIGHT, WIDTH, 10)[0].movedim(0, -1).contiguous() for seed in (5, 6))
    assert share_of(frames, find_layers(*frames)) < 0.1  # measured 0.01


def test_equal_pictures_have_one_layer_at_rest():
    frame = scene("a shift", 0.0)
    (ground,) = find_layers(frame, frame)
    assert complex(ground.motion.scale[0]) == 1
    assert complex(ground.motion.shift[0]) == 0
    assert share_of((frame, frame), [ground]) == pytest.approx(1, abs=1e-3)


def test_layers_do_not_depend_on_the_layout():
    frames, layers = ends("a shift")
    wanted = frame_of_layers(frames, layers, 0.4)
    for first, second in zip(*(other_layouts(frame).values() for frame in frames), strict=True):
        assert torch.equal(frame_of_layers((first, second), find_layers(first, second), 0.4), wanted)

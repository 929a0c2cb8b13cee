"""Photographs over which a camera moves: directions, holes, speeds, both ways, and adapters that learn them."""

import math

import pytest
import torch

from svd_core.pictures import as_batch
from svd_core.report import measure
from svd_core.training.adapters import adapted, set_strength
from svd_core.training.data.cutting import ClipPlan, CutReport
from svd_core.training.data.labels import measured_speed, speed_of_camera
from svd_core.training.data.samples import ClipSource
from svd_core.training.data.sources import find_sources, stills_of_batch
from svd_core.training.data.stills import check_move, move_still
from tests.helpers.training_films import FRAMES, PLAN, encode, save_pictures, texture


@pytest.mark.parametrize("move", ["pan left", "tilt up", "zoom in", "roll cw"])
def test_the_speed_told_by_the_camera_is_the_measured_one(move):
    plan = ClipPlan(64, 64, FRAMES)
    for seed in range(2):
        moved = move_still(
            as_batch(texture(160, 200)), check_move(move, FRAMES), plan, 7.0, torch.Generator().manual_seed(seed)
        )
        assert measured_speed(moved.frames, 7.0) == pytest.approx(moved.speed, rel=0.3)


@pytest.mark.parametrize(
    ("move", "name", "sign"),
    [("pan left", "pan_x", 1), ("pan right", "pan_x", -1), ("tilt up", "pan_y", 1), ("roll cw", "roll", -1)],
)
def test_a_camera_over_a_photograph_moves_it_the_way_camera_paths_do(move, name, sign):
    plan = ClipPlan(64, 48, 5)
    for seed in range(3):
        moved = move_still(
            as_batch(texture(128, 160)), check_move(move, 5), plan, 7.0, torch.Generator().manual_seed(seed)
        )
        assert moved.frames.shape == (5, 3, 48, 64)
        values = getattr(measure((moved.frames.movedim(1, -1) + 1) / 2), name)
        assert sign * sum(values) > 0.2


@pytest.mark.parametrize("move", ["pan left", "zoom out", "roll cw 20", "tilt down 0.3, pan right 0.3"])
def test_clips_of_photographs_have_no_holes(move):
    # What is no picture is filled from its edge; an edge of another colour would show.
    picture = torch.ones(1, 3, 120, 160)
    picture[..., :3, :] = picture[..., -3:, :] = picture[..., :3] = picture[..., -3:] = -1
    for seed in range(4):
        moved = move_still(
            picture[..., 3:-3, 3:-3] * 0 + 0.5, check_move(move, 5), PLAN, 7.0, torch.Generator().manual_seed(seed)
        )
        assert float((moved.frames - 0.5).abs().max()) < 0.1
        edged = move_still(picture, check_move(move, 5), PLAN, 7.0, torch.Generator().manual_seed(seed))
        assert float((edged.frames < -0.9).float().mean(dim=(1, 2, 3)).max()) < 0.25


@pytest.mark.parametrize("move", ["static", "pan left 0", "hold 4"])
def test_a_camera_that_stands_still_teaches_nothing(move):
    with pytest.raises(ValueError, match="does not move; use pan left|not a move"):
        check_move(move, FRAMES)


@pytest.mark.parametrize("count", [-2, 2.5, math.nan, math.inf])
def test_numbers_of_clips_that_cannot_be_made_are_refused(tmp_path, count):
    save_pictures(tmp_path / "photos", texture(64, 64))
    for make in (
        lambda: stills_of_batch(texture(64, 64), "pan left", count),
        lambda: find_sources(tmp_path / "photos", move="pan left", stills_count=count),
        lambda: find_sources(tmp_path / "photos", stills_count=count),  # even where no camera moves
    ):
        with pytest.raises(ValueError, match="clips per photograph must be 1 or more .*or 0 for about 64"):
            make()


def test_the_speed_of_a_pan_is_known_from_its_path():
    poses = check_move("pan right 0.3", 4).poses(4)
    speed = speed_of_camera(poses, (100, 100), (0, 0, 100, 100), 7.0)
    # 10 pixels a frame in the middle, some more towards the sides.
    assert 100 * 7 * 10 / math.hypot(100, 100) < speed < 1.2 * 100 * 7 * 10 / math.hypot(100, 100)


def test_photographs_are_seen_both_ways_with_opposite_strengths(tmp_path):
    plan = ClipPlan(64, 64, FRAMES)
    (source,) = stills_of_batch(texture(160, 200), "pan left, zoom in 1.2", 4)
    for clip in source.clips(plan, CutReport("still")):
        told = measure((clip.frames.movedim(1, -1) + 1) / 2)
        assert clip.strength * sum(told.pan_x) > 0 and clip.strength * (sum(told.zoom) / 3 - 1) > 0
    clips = encode([source], tmp_path, plan)
    both, one = ClipSource(clips), ClipSource(clips, both_ways=False)
    generator = torch.Generator().manual_seed(0)
    assert [[s.strength for s in both.batch(step, 2, generator)] for step in range(2)] == [[1, 1], [-1, -1]]
    assert len(both) == 4 and len(one) == 2 and not hasattr(one, "batch")


def test_adapters_act_with_the_strength_of_the_clip():
    base = torch.nn.Sequential(torch.nn.Linear(6, 5))
    x = torch.randn(3, 6)
    plain = base(x)
    with adapted(base, {"0": (torch.randn(2, 6), torch.randn(5, 2), 2.0)}):
        forth = base(x)
        set_strength(base, -1.0)
        back, weight = base(x), base[0].weight
    assert torch.allclose(forth + back, 2 * plain, atol=1e-5) and not torch.allclose(forth, back)
    assert torch.allclose(x @ weight.T + base[0].bias, back, atol=1e-5)

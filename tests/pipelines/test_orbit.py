"""Orbits: the path of angles, settings, and the pipeline on a tiny model with random weights."""

import json
import math

import pytest
import torch

import svd_core as svd
from svd_core.model.orbit import OrbitPath, orbit_vector
from svd_core.networks.config import SVDConfig
from svd_core.pipelines.orbit import Orbit, OrbitSettings, in_direction, orbit
from tests.helpers.family_golden import load_rule_model, read_golden
from tests.helpers.golden_rule import DATA

SMALL = {"size": 64, "steps": 2}
SV3D_P = SVDConfig(variant="sv3d_p", frames=21, width=576, height=576)
SV3D_U = SVDConfig(variant="sv3d_u", frames=21, width=576, height=576)


@pytest.fixture(scope="module", params=["sv3d_u", "sv3d_p"])
def model(request) -> svd.SVDModel:
    golden = read_golden(DATA / "family" / f"{request.param}_tiny.safetensors")
    return load_rule_model(golden, **{"svd.variant": request.param, "svd.frames": 5, "svd.width": 64, "svd.height": 64})


def thing():
    picture = torch.ones(60, 50, 3)
    picture[10:50, 15:35] = torch.tensor([0.2, 0.4, 0.7])
    return picture


def test_the_official_orbit_starts_one_step_on_and_ends_at_the_picture():
    path = OrbitPath.level()
    vectors = json.loads((DATA / "vectors.json").read_text())["sv3d_static_orbit"]
    assert path.frames == 21 and path.elevations == (10.0,) * 21
    assert path.azimuths[0] == pytest.approx(360 / 21) and path.azimuths[-1] == 0
    assert math.degrees(float(path.azimuth_radians()[0])) == pytest.approx(17.142857, abs=1e-4)
    assert float(path.azimuth_radians()[-1]) == 0
    assert vectors  # the numbers themselves are compared by tests/pipelines/test_family_golden.py


def test_azimuths_count_from_the_last_one():
    path = OrbitPath((0, 0, 5), (20, 100, 345))
    assert [round(math.degrees(value), 3) for value in path.azimuth_radians().tolist()] == [35, 115, 0]
    assert path.table().splitlines()[1:] == ["1,0.000,35.000", "2,0.000,115.000", "3,5.000,0.000"]


def test_a_rising_orbit_ends_at_the_elevation_of_the_picture():
    path = OrbitPath.rising(-20, 20, 5)
    assert path.elevations == (-20, -10, 0, 10, 20)


def test_a_waving_orbit_is_made_of_its_seed_alone_and_stays_in_reach():
    one, again, other = (OrbitPath.waving(seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert one.azimuths[-1] == 0 and list(one.azimuths[:-1]) == sorted(one.azimuths[:-1])
    assert max(map(abs, one.elevations)) <= 90
    assert one.elevations[-1] == pytest.approx(10)


@pytest.mark.parametrize(
    ("elevations", "azimuths", "words"),
    [
        ((0, 0), (1, 2, 3), "2 and 3"),
        ((), (), "0 and 0"),
        ((0, 91), (0, 10), r"elevation 2 .*-90 to 90.*91"),
        ((0, float("nan")), (0, 10), r"elevation 2 .*nan"),
        ((0, 0), (0, 361), r"azimuth 2 .*0 to 360.*361"),
        ((0, 0, 0), (0, 20, 10), r"azimuth 3 goes back from 20 to 10"),
    ],
)
def test_an_orbit_that_cannot_be_is_refused(elevations, azimuths, words):
    with pytest.raises(ValueError, match=words):
        OrbitPath(elevations, azimuths)


def test_only_sv3d_p_is_conditioned_on_angles():
    path = OrbitPath.level(frames=5)
    assert orbit_vector("sv3d_u", path, 1e-5).shape == (1, 256)
    rows = orbit_vector("sv3d_p", path, 1e-5)
    assert rows.shape == (5, 1280)
    assert not torch.equal(rows[0], rows[1]) and torch.equal(rows[0, :256], rows[1, :256])


@pytest.mark.parametrize(
    ("config", "change", "words"),
    [
        (SVDConfig(variant="svd_xt"), {}, "svd_xt does not make orbits.*sv3d"),
        (SV3D_U, {"elevation": 20.0}, "elevation needs sv3d_p"),
        (SV3D_U, {"azimuths": (0.0,) * 21}, "azimuths needs sv3d_p"),
        (SV3D_P, {"elevations": (0.0,) * 4, "frames": 21}, "one value per frame .*4 for 21"),
        (SV3D_P, {"size": 100}, "multiple of 8"),
        (SV3D_P, {"size": 4096}, "2048"),
        (SV3D_P, {"steps": 0}, "steps must be 1 to .*use 50"),
        (SV3D_P, {"solver": "best"}, "solver 'best' is unknown"),
        (SV3D_P, {"max_guidance": float("inf")}, "max_guidance"),
        (SV3D_P, {"seed": -1}, "seed"),
    ],
)
def test_settings_that_cannot_be_are_refused(config, change, words):
    with pytest.raises(ValueError, match=words):
        OrbitSettings(**change).resolve(config)


def test_defaults_are_the_official_ones():
    found = OrbitSettings().resolve(SV3D_P)
    assert (found.frames, found.size, found.steps, found.min_guidance, found.max_guidance) == (21, 576, 50, 1.0, 2.5)
    assert (found.augmentation, found.seed, found.elevation) == (1e-5, 23, 10.0)


def test_an_orbit_ends_with_the_prepared_picture_and_has_a_mask(model):
    steps = []
    made = orbit(model, thing(), OrbitSettings(**SMALL), on_step=steps.append)
    assert isinstance(made, Orbit)
    assert made.frames.shape == (5, 64, 64, 3) and made.mask.shape == (5, 64, 64)
    assert torch.equal(made.frames[-1], made.picture)
    assert len(steps) == 2
    kept = orbit(model, thing(), OrbitSettings(**SMALL, keep_picture=False))
    assert torch.equal(kept.frames[:-1], made.frames[:-1]) and not torch.equal(kept.frames[-1], made.picture)


def test_reverse_turns_the_other_way_and_still_ends_at_the_picture(model):
    there = orbit(model, thing(), OrbitSettings(**SMALL)).frames
    back = orbit(model, thing(), OrbitSettings(**SMALL, reverse=True)).frames
    assert torch.equal(back, in_direction(there, True))
    assert torch.equal(back[-1], there[-1]) and torch.equal(back[0], there[-2])


def test_angles_change_the_orbit_of_sv3d_p():
    golden = read_golden(DATA / "family" / "sv3d_p_tiny.safetensors")
    model = load_rule_model(golden, **{"svd.variant": "sv3d_p", "svd.frames": 5, "svd.width": 64, "svd.height": 64})
    level = orbit(model, thing(), OrbitSettings(**SMALL)).frames
    above = orbit(model, thing(), OrbitSettings(**SMALL, elevation=60.0)).frames
    assert not torch.equal(level[0], above[0])


def test_another_number_of_frames_than_in_training_is_warned_of(model, caplog):
    assert len(orbit(model, thing(), OrbitSettings(**SMALL, frames=3)).frames) == 3
    assert "3 frames" in caplog.text and "trained on 5" in caplog.text


def test_a_prepared_picture_is_taken_as_it_is(model):
    prepared = orbit(model, thing(), OrbitSettings(**SMALL)).picture
    again = orbit(model, prepared, OrbitSettings(**SMALL, prepared=True))
    assert torch.equal(again.picture, prepared)

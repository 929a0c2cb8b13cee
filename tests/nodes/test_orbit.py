"""The nodes of SV3D: the same orbit as the pipeline's, and a sentence wherever SV3D does not fit."""

import re

import pytest
import torch
from safetensors.torch import save_file

import svd_core as svd
from svd_core.pipelines.orbit import OrbitSettings, orbit
from tests.helpers.family_golden import read_golden
from tests.helpers.golden_rule import DATA, fill_by_rule
from tests.helpers.nodes_pack import part, run

FILE = "sv3d_p_tiny.safetensors"
QUICK = {"steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    golden = read_golden(DATA / "family" / FILE)
    path = tmp_path_factory.mktemp("models") / FILE
    sizes = {"frames": 5, "width": 64, "height": 64, "head_channels": 16, "clip_head_channels": 16}
    metadata = {"svd.variant": "sv3d_p"} | {f"svd.{name}": str(value) for name, value in sizes.items()}
    save_file(fill_by_rule(golden.shapes, int(golden.settings["seed"])), path, metadata)
    return path


@pytest.fixture(scope="module")
def model(checkpoint):
    host, patch = part("nodes.host.comfy"), pytest.MonkeyPatch()
    patch.setattr(host, "model_files", lambda folder: [FILE] if folder == "svd" else [])
    patch.setattr(host, "model_path", lambda folder, name: str(checkpoint) if name == FILE else None)
    yield run("SVDReelLoadModel", model_name=FILE)[0]
    patch.undo()


@pytest.fixture(scope="module")
def object_on_white():
    picture = torch.ones(1, 60, 50, 3)
    picture[:, 10:50, 15:35] = torch.tensor([0.2, 0.4, 0.7])
    return picture


def test_the_node_makes_the_orbit_of_the_pipeline(model, checkpoint, object_on_white):
    frames, mask, angles, fps = run("SVDReelOrbit", model=model, image=object_on_white, elevation_start=30.0, **QUICK)
    settings = OrbitSettings(elevation_start=30.0, **QUICK)
    made = orbit(svd.load_model(checkpoint), object_on_white[0], settings)
    assert torch.equal(frames, made.frames) and torch.equal(mask, made.mask)
    assert angles == made.path.table() and angles.splitlines()[1].startswith("1,30.000,72.000")
    assert frames.shape == (5, 64, 64, 3) and fps == 7


def test_lists_of_angles_and_direction_reach_the_path(model, object_on_white):
    given = {"elevations": "10, 14, 18, 12, 10", "azimuths": "20 65 110 170 345", "reverse": True}
    angles = run("SVDReelOrbit", model=model, image=object_on_white, **given, **QUICK)[2]
    assert angles.splitlines()[1:] == [
        "1,12.000,185.000", "2,18.000,125.000", "3,14.000,80.000", "4,10.000,35.000", "5,10.000,0.000"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="elevations.*numbers"):
        run("SVDReelOrbit", model=model, image=object_on_white, elevations="high", **QUICK)


def test_a_prepared_picture_gives_the_same_orbit_as_preparing_it_inside(model, object_on_white):
    prepared, mask = run("SVDReelPrepareObject", image=object_on_white, size=64)
    assert prepared.shape == (1, 64, 64, 3) and mask.shape == (1, 64, 64)
    inside = run("SVDReelOrbit", model=model, image=object_on_white, **QUICK)[0]
    before = run("SVDReelOrbit", model=model, image=prepared, prepared=True, **QUICK)[0]
    assert torch.equal(inside, before)


def test_a_mask_decides_what_the_object_is():
    grey = torch.full((1, 40, 40, 3), 0.5)
    mask = torch.zeros(1, 40, 40)
    mask[:, 5:15, 5:25] = 1
    prepared, found = run("SVDReelPrepareObject", image=grey, mask=mask, object_ratio=0.5, size=64)
    assert found.sum() == pytest.approx(32 * 16, rel=0.25), "20x10 pixels take half of 64, with a soft edge"
    assert torch.equal(prepared[0, 0, 0], torch.ones(3))


@pytest.mark.parametrize(
    ("node", "given"),
    [
        ("SVDReelAnimate", {}),
        ("SVDReelCondition", {}),
        ("SVDReelSweep", {}),
        ("SVDReelStoryboard", {}),
    ],
)
def test_every_other_maker_of_clips_names_the_orbit_node(model, object_on_white, node, given):
    images = {"images": object_on_white} if node == "SVDReelStoryboard" else {"image": object_on_white}
    with pytest.raises(ValueError, match=re.compile("sv3d_p.*orbit", re.IGNORECASE)):
        run(node, model=model, **images, **given)


def test_the_sampler_refuses_sv3d_under_any_control(model, object_on_white):
    """Camera controls, loops and windows all end in the sampler."""
    nano = run("SVDReelLoadModel", model_name="nano (embedded)")[0]
    positive, negative, latent = run("SVDReelCondition", model=nano, image=object_on_white, frames=4)
    control = run("SVDReelReuseFeatures")[0]
    with pytest.raises(ValueError, match="sv3d_p.*camera controls, loops or windows"):
        run("SVDReelSampler", model=model, positive=positive, negative=negative, latent=latent, control=control,
            sigmas=torch.tensor([5.0, 0.0]))  # fmt: skip


def test_an_orbit_needs_an_orbital_model(object_on_white):
    nano = run("SVDReelLoadModel", model_name="nano (embedded)")[0]
    with pytest.raises(ValueError, match="nano.*sv3d_u.safetensors"):
        run("SVDReelOrbit", model=nano, image=object_on_white)


def test_memory_and_time_of_an_orbit_are_planned(model):
    report = run("SVDReelPlan", model=model, steps=20, measure_time=False)[0]
    assert "5 frames of 64x64" in report
    with pytest.raises(ValueError, match="square.*128x64"):
        run("SVDReelPlan", model=model, width=128, height=64, measure_time=False)

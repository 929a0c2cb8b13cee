"""The documented effects of controls, on a photograph and the embedded model with few steps (see recipes/control)."""

import math
from pathlib import Path

import pytest

import svd_core as svd
from svd_core.pictures import open_picture
from svd_core.report.measuring import measure

ASSETS = Path(svd.__file__).parent / "assets"


@pytest.fixture(scope="module")
def nano():
    """The embedded model."""
    if not (ASSETS / "nano.safetensors").exists():
        pytest.skip("the embedded model is not there")
    return svd.load_model("nano")


def clip(nano, steps=4, **settings):
    return svd.animate(nano, open_picture(ASSETS / "demo.png"), svd.AnimateSettings(steps=steps, seed=5, **settings))


def moved(kind, frames):
    """Pan and tilt over the clip in widths, roll in degrees, and the logarithm of the zoom, as the camera goes."""
    total = measure(frames).summary()
    return {
        "pan": total["camera_right"] / 100,
        "tilt": total["camera_up"] / 100,
        "zoom": math.log(total["camera_zoom"]),
        "roll": total["camera_roll"],
    }[kind]


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("pan right 0.15, tilt up 0.15", "pan left 0.15, tilt down 0.15", {"pan": 0.3, "tilt": 0.3}),
        ("zoom in 1.3, roll cw 12", "zoom out 1.3, roll ccw 12", {"zoom": 0.52, "roll": 24.0}),
    ],
    ids=["pan and tilt", "zoom and roll"],
)
def test_the_picture_moves_the_way_the_camera_is_told(nano, one, other, apart):
    """At the default strength and bucket: what is asked, within a fifth, and each half of it the right way."""
    clips = [clip(nano, camera=path) for path in (one, other)]
    for kind, asked in apart.items():
        found = [moved(kind, frames) for frames in clips]
        assert 0.8 * asked < found[0] - found[1] < 1.2 * asked, (kind, found)
        assert found[0] > 0.25 * asked and found[1] < -0.25 * asked, (kind, found)


def test_colour_and_contrast_stay_over_four_clips(nano):
    length, overlap = nano.config.frames, 4
    frames = clip(nano, steps=4, extend=3 * (length - overlap), extend_overlap=overlap)
    assert len(frames) == length + 3 * (length - overlap)
    first, last = frames[:length], frames[-length:]
    assert (last.mean((0, 1, 2)) - first.mean((0, 1, 2))).abs().max() < 0.03
    assert abs(last.mean(-1).std((1, 2)).mean() / first.mean(-1).std((1, 2)).mean() - 1) < 0.03

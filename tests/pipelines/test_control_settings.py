"""Settings of the finer controls: each reaches the control that it is for, and bad ones are found before any work."""

import math

import pytest
import torch

from svd_core.checkpoints import inspect_checkpoint
from svd_core.pipelines.batch import sampling_of
from svd_core.pipelines.control_settings import camera_options, extension_of, own_controls
from svd_core.pipelines.settings import AnimateSettings, guidance_of, settings_metadata, sigmas_of, window_controls
from svd_core.sampling.guidance import Guidance

CONFIG = inspect_checkpoint("nano").config


def resolved(**given: object) -> AnimateSettings:
    return AnimateSettings(**given).resolve(CONFIG)


@pytest.mark.parametrize(
    ("given", "control", "values"),
    [
        ({"rescale": 0.5}, "SteadyGuidance", {"rescale": 0.5, "parallel": 1.0}),
        ({"keep_parallel": 0.2}, "SteadyGuidance", {"parallel": 0.2}),
        ({"guidance_limit": 0.06, "momentum": -0.5}, "SteadyGuidance", {"limit": 0.06, "momentum": -0.5}),
        ({"first_frame": 0.7, "first_frame_sigma": 2.0}, "FirstFrame", {"strength": 0.7, "sigma": 2.0}),
        (
            {"colour_anchor": 0.3, "anchor_sigma": 4.0, "anchor_regions": 3},
            "ColourAnchor",
            {"strength": 0.3, "sigma": 4.0, "regions": 3},
        ),
        ({"start_sigma": 120.0, "blur": 4.0}, "LowPassStart", {"sigma": 120.0, "blur": 4.0}),
        ({"bucket_curve": "0:60, 1:127"}, "MotionCurves", {"bucket": ((0.0, 60.0), (1.0, 127.0)), "fps": ()}),
        ({"fps_curve": "7, 14"}, "MotionCurves", {"fps": ((0.0, 7.0), (1.0, 14.0))}),
        ({"compare_bucket": 0}, "BucketGuidance", {"bucket": 0, "picture": False}),
        (
            {"compare_bucket": 5, "compare_with": "the start picture"},
            "BucketGuidance",
            {"bucket": 5, "picture": True},
        ),
        (
            {"match_colours": 0.5, "match_method": "linear", "match_ramp": 2, "match_smoothing": 0.5},
            "ColourMatch",
            {"strength": 0.5, "method": "linear", "ramp": 2, "smoothing": 0.5},
        ),
    ],
)
def test_a_setting_makes_its_control(given: dict, control: str, values: dict) -> None:
    (made,) = own_controls(resolved(**given))
    assert type(made).__name__ == control
    assert {name: getattr(made, name) for name in values} == values


def test_without_settings_there_are_no_controls() -> None:
    assert own_controls(resolved()) == () and isinstance(guidance_of(resolved()), torch.Tensor)


def test_windows_and_extensions_get_all_their_settings() -> None:
    (windows,) = window_controls(resolved(frames=14, windows=8, window_rolling=9.0, window_ends="closed loop",
                                          window_noise="repeated and shuffled", window_weights="linear",
                                          window_borders="stay in place"))  # fmt: skip
    assert (windows.size, windows.rolling, windows.closed) == (8, 9.0, True)
    assert (windows.freenoise, windows.weights, windows.shift) == (True, "linear", False)
    (usual,) = window_controls(resolved(frames=14, windows=8))
    assert (usual.rolling, usual.closed, usual.freenoise, usual.weights, usual.shift) == (
        0,
        False,
        False,
        "pyramid",
        True,
    )
    given = {"extend_anchor": 0.1, "extend_colour_lock": 0.2, "extend_detail": 0.3, "extend_repeats": 2}
    extension = extension_of(resolved(extend=3, extend_overlap=2, extend_chunk_frames=7, **given), 5)
    assert (extension.frames, extension.overlap, extension.repeats) == (7, 2, 2)
    assert (extension.anchor, extension.colour_lock, extension.detail) == (0.1, 0.2, 0.3)
    assert extension_of(resolved(extend=3), 5).frames == 5


def test_the_camera_mode_gets_its_own_settings_only() -> None:
    given = {"camera": "zoom in 1.1", "camera_sigma": 10.0}
    more = {"camera_repeats": 3, "camera_keep": 0.8, "camera_last_weight": 0.6, "camera_refine": 2}
    assert camera_options(resolved(**given)) == {"sigma": 10.0}
    assert camera_options(resolved(camera="zoom in 1.1")) == {}
    strict = camera_options(resolved(**given, **more, camera_mode="replace estimate"))
    assert strict == {"sigma": 10.0, "repeats": 3, "keep": 0.8, "last": 0.6, "refine": 2}
    double = camera_options(resolved(**given, camera_mode="dual clock"))
    assert double["sigma_weak"] / double["sigma"] == pytest.approx(75 / 31)


def test_sampling_gets_noise_levels_points_and_churn() -> None:
    settings = resolved(sigmas="700, 10, 0", guidance_points="1, 3", frames=3, churn=2.0, solver="euler")
    assert sigmas_of(settings).tolist() == [700, 10, 0] and sampling_of(settings).churn == 2
    assert guidance_of(settings).tolist() == [1, 2, 3]
    limited = guidance_of(resolved(guidance_sigma_high=100, guidance_sigma_low=1, guidance_points="2"))
    assert isinstance(limited, Guidance) and (limited.sigma_low, limited.sigma_high) == (1, 100)
    assert guidance_of(resolved(guidance_sigma_low=1, guidance_points="2")).sigma_high == math.inf


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rescale": 1.5}, "rescale must be 0 to 1 .got 1.5.; use 0.5"),
        ({"momentum": 1.0}, "momentum must be between -1 and 1 .got 1"),
        ({"first_frame_sigma": 2.0}, "first_frame_sigma has no effect without first_frame; add that"),
        ({"window_noise": "repeated and shuffled"}, "window_noise has no effect without windows"),
        ({"camera_repeats": 2}, "camera_repeats has no effect without camera"),
        ({"camera": "zoom in 1.1", "camera_keep": 0.0}, "camera_keep must be 0.05 to 1"),
        ({"bucket_curve": "fast"}, "bucket_curve cannot be read .got 'fast'.; write positions and values"),
        ({"guidance_points": "x"}, "guidance_points must be numbers separated by commas"),
        ({"sigmas": "1, 2"}, "decreas"),
        ({"compare_with": "nothing"}, "compare_with 'nothing' is unknown; use one of"),
    ],
)
def test_bad_settings_are_found_before_anything_is_computed(given: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolved(**given)


def test_metadata_hold_finer_controls_only_where_they_are_used() -> None:
    usual, used = settings_metadata(resolved()), settings_metadata(resolved(rescale=0.5))
    assert used == usual | {"rescale": 0.5} and {"width", "seed", "camera"} <= set(usual)

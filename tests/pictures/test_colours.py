"""Matched colours: known drifts are undone, and the corrections are weighted, ramped and limited as documented."""

import itertools
import math

import pytest
import torch

from svd_core.pictures.colours import FLOOR, LIMIT, METHODS, match_colours


def clip_of(colours, frames=6, seed=3):
    """A colourful clip [T, 24, 32, 3] whose frame t has been through `colours(frame, t)`."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.tensor([[0.1, 0.03, 0.0], [0.03, 0.08, 0.02], [0.0, 0.02, 0.12]])
    pixels = 0.45 + torch.randn(24, 32, 3, generator=generator).clamp(-2.5, 2.5) @ mixing
    return torch.stack([colours(pixels, t) for t in range(frames)])


TINTS = {
    "brightness": lambda frame, t: frame + 0.01 * t,
    "contrast": lambda frame, t: 0.45 + (frame - 0.45) * (1 - 0.05 * t),
    "tint": lambda frame, t: frame * torch.tensor([1 + 0.02 * t, 1.0, 1 - 0.03 * t]),
}
MIXED = torch.tensor([[1.0, 0.1, 0.0], [0.1, 0.9, 0.05], [0.0, 0.05, 1.1]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", TINTS)
def test_drifting_colours_return_to_those_of_the_first_frame(name, method):
    clip = clip_of(TINTS[name])
    matched = match_colours(clip, strength=1.0, method=method)
    # The floor under deviations of about 0.1 costs (0.01 / 0.1)^2 = 1 % of the contrast's change, 0.25 at most.
    torch.testing.assert_close(matched, clip[:1].expand_as(clip), atol=2e-3, rtol=0)
    half = match_colours(clip, strength=0.5, method=method)
    torch.testing.assert_close(half, (clip + matched) / 2, atol=1e-5, rtol=0)


def test_only_the_linear_method_undoes_mixed_channels():
    clip = clip_of(lambda frame, t: frame if t == 0 else ((frame - 0.45) @ MIXED + 0.45))
    errors = [(match_colours(clip, strength=1.0, method=m) - clip[:1]).abs().max().item() for m in METHODS]
    assert errors[1] < 4e-3 < 5 * errors[1] < errors[0]


def test_another_picture_of_another_size_can_be_the_reference():
    clip, reference = clip_of(TINTS["tint"]), clip_of(TINTS["brightness"], 1, seed=9)[:, :12] * 0.8
    matched = match_colours(clip, reference, strength=1.0)
    for frame in matched:
        torch.testing.assert_close(frame.mean((0, 1)), reference[0].mean((0, 1)), atol=3e-3, rtol=0)
        torch.testing.assert_close(frame.std((0, 1)), reference[0].std((0, 1)), atol=3e-3, rtol=0)


def test_no_strength_returns_the_very_input():
    clip = clip_of(TINTS["tint"])
    assert match_colours(clip, strength=0.0, method="linear", ramp=3, smoothing=0.5) is clip


def test_the_first_frame_stays_whatever_the_smoothing():
    clip = clip_of(TINTS["tint"])
    for method, smoothing in itertools.product(METHODS, (0.0, 0.8)):
        matched = match_colours(clip, strength=1.0, method=method, smoothing=smoothing)
        torch.testing.assert_close(matched[0], clip[0], atol=1e-5, rtol=0)


def test_the_ramp_grows_evenly_from_the_first_frame():
    clip = clip_of(TINTS["brightness"])
    reference = clip[:1] + 0.2
    gained = match_colours(clip, reference, strength=1.0, ramp=4).mean((1, 2, 3)) - clip.mean((1, 2, 3))
    full = match_colours(clip, reference, strength=1.0).mean((1, 2, 3)) - clip.mean((1, 2, 3))
    torch.testing.assert_close(gained, full * torch.tensor([0, 0.25, 0.5, 0.75, 1, 1]), atol=1e-4, rtol=0)


def test_smoothing_keeps_single_flashes_and_corrects_even_drift():
    drift = clip_of(TINTS["brightness"], frames=11)
    smoothed = match_colours(drift, strength=1.0, smoothing=0.8)
    torch.testing.assert_close(smoothed, drift[:1].expand_as(drift), atol=2e-3, rtol=0)
    flash = clip_of(lambda frame, t: frame + 0.1 * (t == 5), frames=11)
    left = [match_colours(flash, strength=1.0, smoothing=s)[5].mean() - flash[0].mean() for s in (0.0, 0.8)]
    assert abs(left[0].item()) < 1e-3 and left[1].item() > 0.07


def test_a_plain_frame_is_not_blown_up_to_noise():
    clip = clip_of(TINTS["brightness"])
    clip[3] = 0.02 + 0.02 * torch.rand(24, 32, 3, generator=torch.Generator().manual_seed(1))
    for method in METHODS:
        assert match_colours(clip, strength=1.0, method=method)[3].std().item() < 2.1 * clip[3].std().item() + 1e-3


def level_clip(*levels: float) -> torch.Tensor:
    """[T, 4, 4, 3]: frames of equal contrast around these grey levels."""
    pattern = torch.linspace(-0.1, 0.1, 16).reshape(4, 4, 1).expand(4, 4, 3)
    return torch.stack([pattern + level for level in levels])


# Each row: corrections of 3 or 4 frames, the smoothing, and the smoothed corrections by hand.
SMOOTHED = [
    ((0.0, 0.1, 0.0), 0.5, (0.0, 0.02, 0.0)),
    ((0.0, 0.1, 0.3), 0.5, (0.0, 0.14, 0.3)),
    ((0.0, 0.0, 0.15, 0.0), 0.0, (0.0, 0.0, 0.15, 0.0)),
    ((0.0, 0.1, 0.2), 0.9, (0.0, 0.1, 0.2)),
]


@pytest.mark.parametrize(("corrections", "smoothing", "expected"), SMOOTHED)
def test_smoothing_weighs_neighbours_by_powers_with_ends_reflected_through_their_point(
    corrections, smoothing, expected
):
    clip = level_clip(*(0.4 - value for value in corrections))
    matched = match_colours(clip, level_clip(0.4), strength=1.0, smoothing=smoothing)
    assert (matched - clip).mean((1, 2, 3)).tolist() == pytest.approx(list(expected), abs=1e-6)


@pytest.mark.parametrize(("ramp", "shares"), [(0, [1, 1, 1, 1]), (1, [0, 1, 1, 1]), (2, [0, 0.5, 1, 1])])
def test_the_ramp_is_counted_in_frames(ramp: int, shares: list):
    clip = level_clip(0.4, 0.4, 0.4, 0.4)
    gained = (match_colours(clip, level_clip(0.5), strength=0.8, ramp=ramp) - clip).mean((1, 2, 3))
    assert gained.tolist() == pytest.approx([0.08 * share for share in shares], abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("contrast", "gain"), [(0.1, LIMIT), (1 / 1.5, 1.5), (10.0, 1 / LIMIT), (1.5, 1 / 1.5)])
def test_gains_stay_within_the_limit(method: str, contrast: float, gain: float):
    generator = torch.Generator().manual_seed(4)
    pixels = 0.5 + 0.04 * torch.randn(1, 32, 32, 3, generator=generator)
    clip = 0.5 + (pixels - 0.5) * contrast
    matched = match_colours(clip, pixels, strength=1.0, method=method)
    found = (matched - matched.mean()).square().mean().sqrt() / (clip - clip.mean()).square().mean().sqrt()
    spread = 0.04**2
    exact = math.sqrt((spread + FLOOR**2) / (spread * contrast**2 + FLOOR**2))
    wanted = gain if gain in (LIMIT, 1 / LIMIT) else exact
    assert float(found) == pytest.approx(wanted, rel=0.02)


def test_the_defaults_are_half_strength_by_mean_and_contrast_from_the_first_frame():
    clip = level_clip(0.4, 0.6)
    expected = match_colours(clip, clip[:1], strength=0.5, method="mean and contrast", ramp=0, smoothing=0.0)
    assert torch.equal(match_colours(clip), expected)
    assert (expected[1] - clip[1]).mean().item() == pytest.approx(-0.1, abs=1e-6)


def test_results_are_clamped_to_the_range():
    matched = match_colours(level_clip(0.02, 0.98), level_clip(1.0), strength=1.0)
    assert float(matched.max()) == 1.0
    assert float(match_colours(level_clip(0.5), level_clip(0.0), strength=1.0).min()) == 0.0


CLIP = torch.zeros(2, 4, 4, 3)
BAD = [
    ("method", {"method": "magic"}, "'magic' is unknown; use mean and contrast or linear"),
    ("strength", {"strength": 1.1}, "0 to 1 .*1.1.*; use 0.5"),
    ("negative strength", {"strength": -0.1}, "0 to 1 .*-0.1"),
    ("ramp", {"ramp": -1}, "ramp .*0 or more .*-1.*; use 0 to 4"),
    ("smoothing", {"smoothing": 1.0}, "below 1 .*got 1.*; use 0 to 0.8"),
    ("negative smoothing", {"smoothing": -0.1}, "smoothing .*-0.1"),
    ("grey", {"frames": CLIP[..., :1]}, r"frames .*\[2, 4, 4, 1\]; give"),
    ("one frame", {"frames": CLIP[0]}, r"frames .*\[4, 4, 3\]; give"),
    ("no frames", {"frames": CLIP[:0]}, r"frames .*\[0, 4, 4, 3\]; give"),
    ("grey reference", {"reference": CLIP[..., :1]}, r"reference .*\[2, 4, 4, 1\]"),
    ("NaN", {"reference": CLIP / 0}, "reference .*NaN"),
    ("infinite", {"frames": CLIP + math.inf}, "frames .*infinite"),
]


@pytest.mark.parametrize(("given", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_refused_with_value_limit_and_remedy(given: dict, words: str):
    with pytest.raises(ValueError, match=words):
        match_colours(**{"frames": CLIP, **given})

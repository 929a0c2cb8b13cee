"""The report's other measures: flicker, drift, first frame, loops, seams, similarity, and refused input."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from svd_core.report import ClipReport, measure, plot
from tests.helpers.report_clips import moving, with_noise

PAN = {"pan": (1.3, -0.6)}


@pytest.fixture(scope="module")
def pan() -> torch.Tensor:
    """Eight frames of 96x96 that pan evenly."""
    return moving(96, 96, frames=8, **PAN)


def numbers(report: ClipReport) -> list[float]:
    """Every number of a report."""

    def walk(value: object) -> list[float]:
        if isinstance(value, dict):
            return [number for entry in value.values() for number in walk(entry)]
        if isinstance(value, list):
            return [number for entry in value for number in walk(entry)]
        return [] if value is None else [float(value)]

    return walk(json.loads(report.to_json()))


def test_a_pan_does_not_flicker_and_jitter_of_brightness_does(pan: torch.Tensor):
    jitter = torch.tensor([0.0, 0.04] * 4)[:, None, None, None]
    still, pans, jitters = measure(pan[:1].repeat(8, 1, 1, 1)), measure(pan), measure(0.9 * pan + jitter)
    assert still.summary()["flicker"] < 1e-4
    # Interpolation between pixels leaves a trace of sharp detail.
    assert pans.summary()["flicker"] < 0.3
    assert jitters.summary()["flicker"] == pytest.approx(4, rel=0.1)
    assert jitters.summary()["pan_x"] == pytest.approx(1.3, abs=0.05)


def test_a_pan_by_whole_pixels_leaves_no_flicker_at_all():
    wide = moving(64, 96, frames=1)[0]
    report = measure(torch.stack([wide[:, shift : shift + 64] for shift in (8, 6, 4, 2)]))
    assert report.pan_x == pytest.approx([2, 2, 2], abs=0.02)
    assert report.summary()["flicker"] < 0.05


def test_more_jitter_is_more_flicker(pan: torch.Tensor):
    amounts = []
    for size in (0.0, 0.01, 0.03, 0.1):
        jitter = size * torch.tensor([0.0, 1.0] * 4)[:, None, None, None]
        amounts.append(measure(0.9 * pan + jitter).summary()["flicker"])
    assert amounts == sorted(amounts) and amounts[1] > 2 * amounts[0]


def test_drift_of_colour_contrast_and_sharpness_is_told_against_frame_0(pan: torch.Tensor):
    still = 0.25 + 0.5 * pan[:1].repeat(5, 1, 1, 1)
    warm = still + torch.linspace(0, 0.08, 5)[:, None, None, None] * torch.tensor([1.0, 0.0, 0.0])
    assert measure(warm).colour == pytest.approx([8 * share / 4 / math.sqrt(3) for share in range(5)], abs=1e-3)
    middle = still.mean()
    flat = torch.stack([middle + (1 - 0.1 * index) * (frame - middle) for index, frame in enumerate(still)])
    report = measure(flat)
    assert report.contrast == pytest.approx([1, 0.9, 0.8, 0.7, 0.6], abs=1e-3)
    assert report.sharpness_slope == pytest.approx(-10, abs=0.1)
    assert report.summary()["contrast_drift"] == pytest.approx(-40, abs=0.1)
    assert measure(still).sharpness_slope == pytest.approx(0, abs=1e-3)


def test_first_frame_is_compared_as_scikit_image_does(pan: torch.Tensor):
    start = with_noise(pan[:1], 0.05)
    report = measure(pan, image=start)
    a, b = pan[0].numpy(), start[0].numpy()
    expected = structural_similarity(
        a, b, data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert report.psnr == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-3)
    assert report.ssim == pytest.approx(expected, abs=1e-4)
    assert measure(pan).psnr is None and "PSNR" not in measure(pan).text()


def test_the_start_image_is_fitted_to_the_clip():
    photograph = moving(200, 300, frames=1)
    exact = measure(photograph[:, :, 50:250], image=photograph)
    assert (exact.psnr, exact.ssim) == (100.0, pytest.approx(1.0))
    smaller = torch.nn.functional.interpolate(photograph[:, :, 50:250].movedim(-1, 1), (100, 100), mode="area")
    assert measure(smaller.movedim(1, -1), image=photograph).psnr > 30
    grey_with_alpha = torch.cat([photograph, torch.ones(1, 200, 300, 1)], dim=-1)[0]
    assert measure(photograph, image=grey_with_alpha).psnr == 100.0


def test_loop_score_is_low_for_a_clip_that_returns_and_high_for_one_that_does_not(pan: torch.Tensor):
    there_and_back = torch.cat([pan, pan[1:-1].flip(0)])
    assert measure(there_and_back).loop_score == pytest.approx(1, abs=0.1)
    assert measure(pan).loop_score > 2


def test_seams_tell_a_join_from_an_even_step(pan: torch.Tensor):
    even = measure(pan, seams=[4])
    assert even.seams[0].score == pytest.approx(1, abs=0.1) and even.seams[0].speed < 0.1
    jump = measure(torch.cat([pan[:4], pan[6:]]), seams=[4]).seams[0]
    assert jump.step > 1.5 and jump.speed == pytest.approx(2 * math.hypot(1.3, 0.6), rel=0.1)
    brighter = torch.cat([0.9 * pan[:4], 0.9 * pan[4:] + 0.05])
    assert measure(brighter, seams=[4]).seams[0].flicker > 5
    assert "seam at frame 4" in measure(brighter, seams=[4]).text()


def test_likeness_uses_the_models_encoder_on_pictures_in_its_range(pan: torch.Tensor):
    seen = []

    def encode(image: torch.Tensor) -> torch.Tensor:
        seen.append(image)
        return torch.nn.functional.adaptive_avg_pool2d(image, 4).flatten(1)[:, None]

    model = SimpleNamespace(encode_image=encode)
    report = measure(pan, model=model)
    assert len(report.similarity) == 8 and report.similarity[0] == pytest.approx(1)
    assert report.similarity[-1] < report.similarity[1]
    assert all(image.shape[1:] == (3, 96, 96) and image.min() < -0.2 for image in seen)
    other = measure(pan, model=model, image=1 - pan[:1])
    assert max(other.similarity) < 0


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_plain_clip_gives_zeros_and_no_nan(value: float):
    report = measure(
        torch.full((4, 64, 64, 3), value), seams=[2], mask=torch.zeros(64, 64), image=torch.ones(64, 64, 3)
    )
    total = report.summary()
    for name in ("pan_x", "pan_y", "roll", "motion", "fast_motion", "flicker", "step", "colour_drift", "loop_score"):
        assert total[name] == 0, name
    assert total["zoom"] == 1 and total["sharpness_slope"] == 0 and total["contrast_drift"] == 0
    assert total["seam_score"] == 0 and total["frozen_share"] is None
    assert all(math.isfinite(number) for number in numbers(report))


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("size", [(16, 16), (16, 40), (65, 33), (40, 300)])
def test_short_and_small_clips_are_measured(frames: int, size: tuple[int, int]):
    report = measure(moving(*size, frames=frames, **PAN), image=torch.rand(50, 70, 3), mask=torch.rand(7, 9))
    assert len(report.pan_x) == len(report.motion_inside) == frames - 1
    assert len(report.colour) == frames
    assert report.loop_score == (0 if frames == 1 else pytest.approx(1))
    assert all(math.isfinite(number) for number in numbers(report))
    assert f"{frames} frame" in report.text()


@pytest.mark.parametrize("kind", ["noise", "cut", "flash"])
def test_clips_without_any_order_give_numbers_too(kind: str):
    noise = torch.rand(4, 48, 48, 3, generator=torch.Generator().manual_seed(0))
    clip = {"noise": noise, "cut": torch.cat([noise[:2] * 0, noise[2:] * 0 + 1]), "flash": noise * 0}[kind]
    if kind == "flash":
        clip[2] = 1
    report = measure(clip, seams=[2])
    assert all(math.isfinite(number) for number in numbers(report))
    assert torch.isfinite(plot(report)).all()


def test_the_clip_is_left_as_it_is_and_half_precision_is_taken(pan: torch.Tensor):
    before = pan.clone()
    report = measure(pan, image=pan[:1], mask=torch.ones(96, 96))
    assert torch.equal(pan, before)
    half = measure(pan.half())
    assert half.pan_x == pytest.approx(report.pan_x, abs=0.02)


def test_a_long_clip_measures_as_its_parts_do(monkeypatch: pytest.MonkeyPatch, pan: torch.Tensor):
    whole = measure(pan)
    monkeypatch.setattr("svd_core.flow.pairs.PIXELS_AT_ONCE", 3 * 96 * 96)
    parts = measure(pan)
    assert parts.pan_x == pytest.approx(whole.pan_x, abs=1e-4)
    assert parts.motion == pytest.approx(whole.motion, abs=1e-3)


def test_json_holds_every_number_and_the_summary(pan: torch.Tensor):
    report = measure(pan, image=pan[:1], seams=[3])
    read = json.loads(report.to_json())
    assert read["frames"] == 8 and read["pan_x"] == pytest.approx(report.pan_x, rel=1e-4)
    assert read["seams"][0]["frame"] == 3
    total = report.summary()
    assert read["summary"].keys() == total.keys()
    for name, value in total.items():
        assert read["summary"][name] == (None if value is None else pytest.approx(value, rel=1e-4)), name


GOOD = torch.rand(3, 32, 48, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"clip": GOOD[0]}, r"shape \[32, 48, 3\]; give \[frames"),
        ({"clip": GOOD[..., :1]}, r"\[3, 32, 48, 1\]; give"),
        ({"clip": GOOD[:0]}, r"\[0, 32, 48, 3\]; give"),
        ({"clip": GOOD[:, :8]}, r"16x16 pixels \(got 48x8\); enlarge"),
        ({"clip": (GOOD * 255).byte()}, r"got torch.uint8\); convert"),
        ({"clip": GOOD.numpy()}, r"got ndarray\); convert"),
        ({"clip": GOOD * 255}, r"0 to 1 \(got 0.* to 25\d.*\); divide"),
        ({"clip": GOOD.where(GOOD > 0.5, torch.nan)}, r"\d+ values that are NaN"),
        ({"clip": GOOD.where(GOOD > 0.5, torch.inf)}, r"\d+ values that are NaN"),
        ({"image": torch.rand(2, 32, 48, 3)}, r"batch of 2\); give"),
        ({"image": torch.rand(32, 48, 3) * torch.nan}, "image has 4608 values that are NaN"),
        ({"image": torch.rand(32, 48)}, "image has 2 axes"),
        ({"mask": torch.rand(2, 32, 48)}, r"mask has shape \[2, 32, 48\]"),
        ({"mask": torch.rand(32, 48) * torch.nan}, "mask has values that are NaN"),
        ({"mask": torch.ones(32, 48, dtype=torch.int64)}, "mask has shape .* give floats"),
        ({"seams": [0]}, r"got 0 of 3 frames\); use 1 to 2"),
        ({"seams": [3]}, r"got 3 of 3 frames\); use 1 to 2"),
        ({"seams": [1.5]}, "got 1.5 of 3"),
        ({"clip": GOOD[:1], "seams": [1]}, r"got 1 of 1 frames\); leave"),
    ],
)
def test_bad_input_is_answered_with_a_sentence(given: dict, words: str):
    with pytest.raises(ValueError, match=words) as caught:
        measure(**{"clip": GOOD, **given})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_the_page_shows_numbers_of_any_clip():
    clip = moving(64, 64, frames=3, **PAN)
    pages = [plot(measure(clip[:count], seams=range(1, count))) for count in (1, 2, 3)]
    for page in pages:
        assert page.shape[0] == 1 and page.shape[-1] == 3 and page.dtype == torch.float32
        assert 0 <= page.min() < 0.3 and page.max() == 1
    assert not torch.equal(pages[1][0, -200:], pages[2][0, -200:])

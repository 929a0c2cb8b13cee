"""Overlapping windows in time, on denoisers whose answer is known in closed form."""

import itertools

import pytest
import torch

from svd_core.condition import Condition
from svd_core.controls.signal import PartialRenoise, Signal
from svd_core.controls.windows import WEIGHTS, Windows, freenoise_order
from svd_core.memory import PeakMemory
from svd_core.networks.config import UNetConfig
from svd_core.networks.unet import UNet
from svd_core.sampling.controls import Control, Inputs, Run
from svd_core.sampling.denoiser import denoise_with
from svd_core.sampling.guidance import Guidance, guided_estimate, linear_guidance
from svd_core.sampling.noise import start_noise
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import karras_sigmas
from svd_core.sampling.solvers import SOLVERS

SCALE = 0.18215
H, W = 6, 8


def condition(frames=1, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Condition(
        torch.randn(frames, 1, 5, generator=draw),
        torch.randn(frames, 4, H, W, generator=draw),
        torch.randn(frames, 7, generator=draw),
    )


def mixing_model(x, sigma, condition):
    """A model whose every frame depends on all it is shown: state, neighbours, place and condition."""
    row = condition.over_frames(len(x))
    place = torch.arange(len(x), dtype=x.dtype).reshape(-1, 1, 1, 1)
    told = row.latent + row.token.mean((1, 2)).reshape(-1, 1, 1, 1) + row.vector.mean(1).reshape(-1, 1, 1, 1)
    return (x + x.mean(0) + told.to(x)) / (1 + sigma**2) + 0.1 * place


def run(frames, controls=(), model=mixing_model, steps=5, guidance=None, **changes):
    given = {"condition": condition(), "sigmas": karras_sigmas(steps), "seed": 3} | changes
    guidance = linear_guidance(1.0, 2.5, frames) if guidance is None else guidance
    return sample(model, start_noise(frames, H, W, 7), guidance=guidance, controls=controls, **given)


def evaluate_once(control, frames, model, *, sigma=1.0, guidance=None, told=None, x=None):
    """One evaluation of `model(x, sigma, inputs)` through the windows."""
    noise = torch.zeros(frames, 4, H, W) if x is None else x
    inputs = Inputs(told, None, Guidance(torch.ones(1)) if guidance is None else Guidance(guidance))
    asked = Run(noise, (sigma, 0.0), inputs, lambda: noise)
    return control.wrap(asked, model)(noise, sigma, inputs)


SHAPES = [(14, 14, 4), (60, 14, 4), (60, 14, 0), (15, 14, 13), (33, 8, 3), (41, 25, 12), (7, 1, 0), (9, 2, 1)]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(
    ("frames", "size", "overlap", "closed"),
    [(*shape, closed) for shape in SHAPES for closed in (False, True) if not closed or shape[0] > shape[1]],
)
def test_shares_sum_to_one_in_every_frame_wherever_the_windows_are(frames, size, overlap, closed, weights):
    control = Windows(size, overlap, weights=weights, closed=closed)
    for offset in range(size - overlap):
        total = torch.zeros(frames, dtype=torch.float64)
        for window, share in control.shares(frames, offset):
            assert len(window) == size == len(set(window.tolist()))
            assert bool((share > 0).all())
            total.index_add_(0, window, share)
        torch.testing.assert_close(total, torch.ones(frames, dtype=torch.float64), rtol=0, atol=1e-15)


def test_open_windows_are_inside_the_clip_in_order_and_overlap_as_asked():
    control = Windows(14, 4)
    assert control.starts(60) == [0, 10, 20, 30, 40, 46]
    assert control.starts(60, 3) == [0, 7, 17, 27, 37, 46]
    assert control.starts(14, 3) == [0]
    assert Windows(8, 3, closed=True).starts(20, 2) == [18, 3, 8, 13]
    assert control.passes(60) == 7 and Windows(14, 4, shift=False).passes(60) == 6


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("options", [{}, {"weights": "linear"}, {"rolling": 1000.0}, {"freenoise": True}])
def test_a_clip_of_exactly_one_window_is_bit_equal_to_no_windows(solver, options):
    assert torch.equal(run(9, [Windows(9, 4, **options)], solver=solver), run(9, solver=solver))


def test_a_model_of_single_frames_gives_the_same_clip_with_windows():
    def pointwise(x, sigma, condition):
        return x / (1 + sigma**2)

    plain = run(30, model=pointwise, guidance=1.0)
    torch.testing.assert_close(run(30, [Windows(8, 3)], model=pointwise, guidance=1.0), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0, 77.0])
def test_everything_that_belongs_to_a_frame_comes_with_its_window(sigma, closed):
    frames = 23
    place = torch.arange(frames, dtype=torch.float32)
    told = Condition(place.reshape(-1, 1, 1), place.reshape(-1, 1, 1, 1).expand(-1, 4, H, W), torch.zeros(1, 7))
    seen = []

    def model(x, sigma, inputs):
        here = x[:, 0, 0, 0]
        seen.append(here.tolist())
        assert len(x) == 8
        assert torch.equal(inputs.guidance.scale, here)
        assert torch.equal(inputs.condition.token[:, 0, 0], here)
        assert torch.equal(inputs.condition.latent[:, 0, 0, 0], here)
        assert len(inputs.condition.vector) == 1, "what is given once stays so"
        return x

    x = place.reshape(-1, 1, 1, 1).expand(-1, 4, H, W).contiguous()
    fused = evaluate_once(Windows(8, 3, closed=closed), frames, model, sigma=sigma, guidance=place, told=told, x=x)
    torch.testing.assert_close(fused, x, rtol=0, atol=1e-5)
    for window in seen:
        assert [(window[0] + i) % frames for i in range(8)] == window
    assert any(window[0] > window[-1] for window in seen) == closed


def test_estimates_fade_from_window_to_window():
    """A model that answers with the number of its window: mixed where two windows meet."""
    for weights, expected in (("linear", [1 / 4, 2 / 4, 3 / 4]), ("pyramid", [1 / 4, 2 / 4, 3 / 4])):
        counter = itertools.count()

        def model(x, sigma, inputs, counter=counter):
            return torch.full_like(x, float(next(counter)))

        fused = evaluate_once(Windows(8, 3, weights=weights, shift=False), 13, model)[:, 0, 0, 0]
        torch.testing.assert_close(fused, torch.tensor([0.0] * 5 + expected + [1.0] * 5))


def test_windows_move_with_sigma_and_only_with_it():
    control = Windows(14, 4)
    sigmas = karras_sigmas(25)[:-1].tolist()
    offsets = [control.offset(sigma) for sigma in sigmas]
    assert offsets == [control.offset(sigma) for sigma in reversed(sigmas)][::-1]
    # As even as chance: 25 draws of ten leave out one or two.
    assert set(offsets) <= set(range(10)) and len(set(offsets)) >= 8
    assert sum(a == b for a, b in itertools.pairwise(offsets)) <= 4, "neighbouring steps rarely share borders"
    assert {Windows(14, 4, shift=False).offset(sigma) for sigma in sigmas} == {0}


def test_later_windows_start_from_the_estimate_of_their_first_frame_below_the_sigma():
    frames, still = 20, torch.full((1, 4, H, W), 5.0)
    told = Condition(torch.zeros(1, 1, 5), still, torch.zeros(1, 7))

    def model(x, sigma, inputs):
        """Motion by 1 per frame, away from the condition's picture."""
        assert len(inputs.condition.latent) == 1
        return inputs.condition.latent * SCALE + torch.arange(len(x)).reshape(-1, 1, 1, 1)

    run_scale = (H * W) ** 0.5 / 96
    control = Windows(8, 3, rolling=20.0)
    rolled = evaluate_once(control, frames, model, sigma=19.0 * run_scale, told=told)
    expected = 5 * SCALE + torch.arange(frames, dtype=torch.float32)
    torch.testing.assert_close(rolled[:, 0, 0, 0], expected, rtol=1e-5, atol=1e-5)
    above = evaluate_once(control, frames, model, sigma=21.0 * run_scale, told=told)
    assert above[-1, 0, 0, 0] < 8 + 5 * SCALE, "above it every window starts from the still"


def test_freenoise_repeats_the_first_windows_noise_in_shuffled_blocks():
    order = freenoise_order(60, 14, seed=1)
    assert torch.equal(order[:14], torch.arange(14))
    for block in range(14, 58, 4):
        assert sorted(order[block : block + 4].tolist()) == sorted(order[block - 14 : block - 10].tolist())
    assert not torch.equal(order[14:28], order[:14])
    assert torch.equal(order, freenoise_order(60, 14, seed=1))
    assert not torch.equal(order, freenoise_order(60, 14, seed=2))

    noises = []

    class Noting(Control):
        def begin(self, run, start):
            noises.append((run.noise, start.x))
            return start

    run(60, [Windows(14, 4, freenoise=True), Noting()], sigmas=[3.0, 1.0, 0.0])
    noise, x = noises[0]
    assert torch.equal(noise, start_noise(60, H, W, 7)[freenoise_order(60, 14, seed=3)])
    torch.testing.assert_close(x, noise * 10**0.5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_sixty_frames_run_and_the_seed_alone_decides(solver):
    control = Windows(14, 4, rolling=20.0, freenoise=True)
    clip = run(60, [control], solver=solver)
    assert clip.shape == (60, 4, H, W) and bool(torch.isfinite(clip).all())
    assert torch.equal(clip, run(60, [Windows(14, 4, rolling=20.0, freenoise=True)], solver=solver))
    assert torch.equal(clip, run(60, [control], solver=solver)), "a control keeps nothing of a run"


def test_other_controls_see_the_whole_clip_before_and_after_the_windows():
    class Whole(Control):
        def wrap(self, run, evaluate):
            def wrapped(x, sigma, inputs):
                assert len(x) == 30
                return evaluate(x.flip(0), sigma, inputs).flip(0)

            return wrapped

    windows = Windows(8, 3)
    signal = Signal(torch.randn(30, 4, H, W, generator=torch.Generator().manual_seed(1)), torch.ones(30, 1, H, W))
    clips = [run(30, order) for order in itertools.permutations([windows, Whole(), PartialRenoise(signal)])]
    assert all(torch.equal(clip, clips[0]) for clip in clips)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: run(9, [Windows(10, 4)]), r"10 frames .*got 9\); use windows of at most 9"),
        (lambda: run(9, [Windows(9, 4, closed=True)]), r"got 9 frames.*; use smaller windows"),
        (lambda: Windows(8, 8), r"0 to 7 \(got 8\); use about 2"),
        (lambda: Windows(8, -1), r"0 to 7 \(got -1\); use"),
        (lambda: Windows(0, 0), r"at least 1 frame \(got 0\); use"),
        (lambda: Windows(8, 3, weights="round"), "'round' are unknown; use one of pyramid, linear"),
        (lambda: Windows(8, 3, rolling=float("nan")), r"0 or above \(got nan\); use"),
        (lambda: Windows(8, 0, rolling=20.0), r"at least 1 \(got 0\).*; use about 2"),
    ],
)
def test_impossible_windows_are_answered_with_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def peak_bytes(frames, controls=()):
    """Peak activation bytes of one guided evaluation of a small UNet on the meta device."""
    config = UNetConfig(
        model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(0, 1), head_channels=32
    )
    unet = UNet(config, device="meta")
    told = Condition(
        *(
            torch.empty(1, *size, device="meta")
            for size in ((1, config.context_channels), (4, 16, 16), (config.vector_channels,))
        )
    )

    def evaluate(x, sigma, inputs):
        network = lambda state, level, told: denoise_with(unet, state, level, told)  # noqa: E731
        return guided_estimate(network, x, sigma, inputs.condition, inputs.guidance)

    noise = torch.empty(frames, 4, 16, 16, device="meta")
    inputs = Inputs(told, None, Guidance(linear_guidance(1, 2.5, frames)))
    for control in controls:
        evaluate = control.wrap(Run(noise, (1.0, 0.0), inputs, lambda: noise), evaluate)
    with torch.no_grad(), PeakMemory() as memory:
        evaluate(noise, 1.0, inputs)
    return memory.peak, noise.numel() * noise.element_size()


def test_sixty_frames_take_the_memory_of_one_window_and_latents():
    one, _ = peak_bytes(14)
    long, latents = peak_bytes(60, [Windows(14, 4)])
    whole, _ = peak_bytes(60)
    # The fused estimate is one clip of latents; a window's own slices are a few frames more.
    assert one < long <= one + 2 * latents
    assert whole > 4 * one, "or there would be nothing to save"

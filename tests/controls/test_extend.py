"""Clips continued from their end, with denoisers whose answer is known in closed form."""

import math

import pytest
import torch

from svd_core.condition import Condition
from svd_core.controls.colour_lock import (
    DETAIL_LIMIT,
    LookLock,
    keep_detail,
    lock_colour,
    look_of,
    match_overlap,
    mean_look,
)
from svd_core.controls.extend import Extension, HoldFrames, blend_tokens, chunk_condition
from svd_core.pipelines.extend import extend_clip
from svd_core.sampling.controls import finish_frames
from svd_core.sampling.noise import start_noise
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import karras_sigmas
from svd_core.sampling.solvers import SOLVERS

SCALE = 0.18215
H, W = 8, 8
FRAMES, OVERLAP = 8, 3
STILL = torch.randn(1, 4, H, W, generator=torch.Generator().manual_seed(5))
VELOCITY = torch.randn(1, 4, H, W, generator=torch.Generator().manual_seed(6)) * 0.1
VELOCITY -= VELOCITY.mean((2, 3), keepdim=True)  # motion, not brightness
CONDITION = Condition(torch.randn(1, 1, 6), STILL / SCALE, torch.zeros(1, 5))
PLAIN = {"anchor": 1.0, "colour_lock": 0.0}


def moving(x, sigma, condition):
    """A model in which every clip moves away from the condition's picture at one velocity."""
    time = torch.arange(len(x), dtype=x.dtype).reshape(-1, 1, 1, 1)
    return (condition.latent * SCALE).to(x) + time * VELOCITY.to(x)


def true_clip(frames):
    return STILL + torch.arange(frames).reshape(-1, 1, 1, 1) * VELOCITY


def biased(bias, gain=1.0):
    """A model of still clips that shifts the colour and scales the contrast after the first frame."""

    def model(x, sigma, condition):
        told = (condition.latent * SCALE).to(x).expand(len(x), -1, -1, -1)
        mean = told.mean((2, 3), keepdim=True)
        return torch.cat([told[:1], (mean + gain * (told - mean) + bias)[1:]])

    return model


def extended(model, clip, new_frames, *, steps=6, guidance=1.0, extension=None, **changes):
    given = {"condition": CONDITION, "sigmas": karras_sigmas(steps), "seed": 4} | changes
    extension = extension or Extension(FRAMES, OVERLAP, **PLAIN)
    return extend_clip(model, clip, guidance=guidance, new_frames=new_frames, extension=extension, **given)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("new_frames", [1, 4, 5, 6, 20])
def test_the_motion_goes_on_where_it_ended_with_no_frame_twice(new_frames, solver):
    start = true_clip(FRAMES)
    long = extended(moving, start, new_frames, solver=solver)
    assert torch.equal(long[: FRAMES - OVERLAP], start[: FRAMES - OVERLAP]), "what is before the join stays"
    # Every chunk adds a rounding of its own scale change, by 0.18215 and back.
    torch.testing.assert_close(long, true_clip(FRAMES + new_frames), rtol=1e-5, atol=2e-5)


def test_a_clip_is_extended_by_the_same_frames_in_one_go_or_in_two():
    once = extended(moving, true_clip(FRAMES), 10)
    twice = extended(moving, extended(moving, true_clip(FRAMES), 5), 5, seed=5)
    assert torch.equal(once, twice)


def test_the_overlap_fades_along_a_cosine_from_the_clip_to_the_chunk():
    """A model that answers black; nothing is held, so the chunk is black and the fade itself is seen."""
    clip = torch.ones(FRAMES, 4, H, W)
    free = Extension(FRAMES, 4, hold=1e9, release=1e9, **PLAIN)
    long = extended(lambda x, sigma, condition: torch.zeros_like(x), clip, 4, extension=free)[:, 0, 0, 0]
    fade = [0.5 + 0.5 * math.cos(math.pi * i / 4) for i in range(4)]
    torch.testing.assert_close(long, torch.tensor([1.0] * 4 + fade + [0.0] * 4))


@pytest.mark.parametrize("solver", SOLVERS)
def test_held_frames_reach_the_end_of_the_sampling(solver):
    known = torch.randn(OVERLAP, 4, H, W, generator=torch.Generator().manual_seed(8))

    def timid(x, sigma, condition=None):
        """The perfect denoiser of standard normal clips: it believes what it sees once there is little noise."""
        return x / (1 + sigma**2)

    noise, sigmas = start_noise(FRAMES, H, W, 1), karras_sigmas(20)

    def off(**options):
        """Return the distance of each known frame from the value it was held at."""
        held = sample(timid, noise, sigmas, 1.0, None, solver=solver, controls=[HoldFrames(known, **options)])
        return (held[:OVERLAP] - known).flatten(1).abs().amax(1).tolist()

    assert max(off(sigma=0.0, release=0.0)) < 1e-5
    assert max(off(release=0.3)) < 0.15
    first, middle, last = off()
    assert first < 0.15 and first < middle < last, "late frames are released earlier"


def test_repeats_evaluate_the_middle_of_the_schedule_again():
    levels = []

    def counting(x, sigma, condition):
        levels.append(sigma)
        return moving(x, sigma, condition)

    scale = (H * W) ** 0.5 / 96
    sigmas = torch.tensor([100.0, 30.0, 10.0, 1.0]) * scale
    repeated = Extension(FRAMES, OVERLAP, repeats=3, **PLAIN)
    long = extended(counting, true_clip(FRAMES), 5, sigmas=[*sigmas.tolist(), 0.0], extension=repeated)
    factors = [round(sigma / scale) for sigma in levels]
    assert factors == [100, 30, 30, 30, 10, 10, 10, 1], "the step to 30 is followed by two more evaluations there"
    torch.testing.assert_close(long, true_clip(FRAMES + 5), rtol=1e-5, atol=1e-5)


BIAS = torch.tensor([0.2, -0.1, 0.05, 0.3]).reshape(1, 4, 1, 1)


def drift(long):
    """How far the last chunk is from the first clip: largest change of a mean, and of a spread as a factor."""
    first, last = mean_look(long[: FRAMES - OVERLAP]), mean_look(long[OVERLAP - FRAMES :])
    return float((last.mean - first.mean).abs().max()), float((last.spread / first.spread - 1).abs().max())


@pytest.mark.parametrize("chunks", [2, 4, 12])
def test_colour_and_contrast_do_not_drift_with_a_model_that_drifts(chunks):
    still, gain = STILL.expand(FRAMES, -1, -1, -1), 1.04
    new = chunks * (FRAMES - OVERLAP)

    def run(lock):
        extension = Extension(FRAMES, OVERLAP, anchor=1.0, colour_lock=lock)
        return drift(extended(biased(BIAS, gain), still, new, extension=extension))

    free, half, most, locked = (run(lock) for lock in (0.0, 0.5, 0.7, 1.0))
    # Each chunk adds the bias; the lock takes its share away, so drift stays below what a geometric series sums up to.
    assert free[0] == pytest.approx(0.3 * chunks, rel=0.01) and free[1] == pytest.approx(gain**chunks - 1, rel=0.01)
    ramp = 1.5  # the first frames of a chunk are on the way from the model's look to the locked one
    for drifted, share in ((half, 0.5), (most, 0.7)):
        assert drifted[0] < ramp * 0.3 * (1 - share) / share + 0.01
        assert drifted[1] < ramp * (gain - 1) * (1 - share) / share + 0.01
    assert locked[0] < free[0] / chunks and locked[1] < free[1] / chunks


def test_a_model_that_does_not_drift_is_left_alone_by_the_lock():
    still = STILL.expand(FRAMES, -1, -1, -1)
    long = extended(biased(0.0), still, 20, extension=Extension(FRAMES, OVERLAP, anchor=1.0, colour_lock=1.0))
    torch.testing.assert_close(long, STILL.expand(28, -1, -1, -1), rtol=1e-4, atol=1e-4)


def test_the_lock_leaves_flicker_and_makes_no_step_at_the_join():
    draw = torch.Generator().manual_seed(2)
    flicker = torch.randn(12, 1, 1, 1, generator=draw) * 0.1
    anchor = mean_look(STILL)
    locked = lock_colour(STILL + 0.5 + flicker, anchor, 1.0, ramp=4)
    moved = (locked - (STILL + 0.5 + flicker)).mean((1, 2, 3))
    steps = moved.diff().abs()
    assert moved[0].abs() <= 0.5 / 4 and float(steps.max()) < 0.5 / 4, "no frame jumps by more than a part of it"
    assert float(look_of(locked).mean[4:].mean(1).std()) > 0.08, "the flicker is still there"
    torch.testing.assert_close(mean_look(locked[5:]).mean, anchor.mean, rtol=0, atol=0.05)


def test_detail_is_raised_to_that_of_the_first_clip_and_never_lowered():
    anchor, mean = mean_look(STILL), STILL.mean((2, 3), keepdim=True)
    soft = (mean + (STILL - mean) * 0.8).expand(6, -1, -1, -1)
    kept = look_of(keep_detail(soft, anchor, 1.0, ramp=2))
    expected = 0.8 * (1 / 0.8) ** torch.tensor([1 / 3, 2 / 3, 1, 1, 1, 1], dtype=torch.float64)
    # What is added to the fine part is not all fine itself.
    torch.testing.assert_close((kept.detail / anchor.detail).mean(1), expected, rtol=0.04, atol=0)
    torch.testing.assert_close(kept.mean, look_of(soft).mean, rtol=0, atol=0.02)
    sharp = STILL * 1.3
    assert torch.allclose(keep_detail(sharp, anchor, 1.0, 0), sharp, atol=1e-6)
    flat = keep_detail(STILL * 0.01, anchor, 1.0, 0)
    assert float(flat.abs().max()) <= 0.01 * DETAIL_LIMIT**2 * float(STILL.abs().max()), "the gain has a limit"
    assert keep_detail(soft, anchor, 0.0, 2) is soft


def test_strength_zero_of_the_lock_is_off_bit_for_bit():
    clip = true_clip(5)
    assert lock_colour(clip, mean_look(STILL + 3), 0.0, 3) is clip
    assert torch.equal(match_overlap(clip, clip[:3] * 1.05, 0.0), clip) or torch.allclose(
        match_overlap(clip, clip[:3] * 1.05, 0.0), clip, atol=1e-6
    )


def drifting_frames(frames=40, first=8):
    """Frames [T, H, W, 3] whose colour, contrast and texture wander off behind the first, with flicker on top."""
    late = (torch.arange(frames) - first + 1).clamp(min=0) / frames
    texture = torch.rand(frames, 16, 16, 1, generator=torch.Generator().manual_seed(2)).expand(-1, -1, -1, 3) - 0.5
    gain = (1 + 0.3 * late).reshape(-1, 1, 1, 1)
    tint = late.reshape(-1, 1, 1, 1) * torch.tensor([0.15, -0.1, 0.05])
    flicker = 0.01 * torch.tensor([1.0, -1.0]).repeat(frames // 2).reshape(-1, 1, 1, 1)
    return 0.45 + 0.4 * gain * texture + tint + flicker


@pytest.mark.parametrize(("strength", "most"), [(1.0, 1.0), (0.9, 3.0)])
def test_the_look_of_decoded_frames_is_that_of_the_first_clip(strength, most):
    """Per cent of colour and contrast that the last clip of several has drifted by; 3 is the most there may be."""
    clip = drifting_frames()

    def drift(frames):
        first, last = frames[:8], frames[-8:]
        colour = (last.mean((0, 1, 2)) - first.mean((0, 1, 2))).abs().max()
        return 100 * colour, 100 * abs(last.mean(-1).std((1, 2)).mean() / first.mean(-1).std((1, 2)).mean() - 1)

    assert min(drift(clip)) > 8
    locked = LookLock(8, strength).edit_frames(clip)
    assert max(drift(locked)) < most and torch.equal(locked[:8], clip[:8])
    assert (locked[8] - clip[8]).abs().mean() < 0.01, "no step at the join"
    flicker = [(part[1::2].mean() - part[::2].mean()).abs() for part in (clip[-12:], locked[-12:])]
    assert flicker[1] > 0.7 * flicker[0], "what is short stays"


def test_clips_that_were_not_extended_or_are_not_locked_stay_bit_for_bit():
    clip = drifting_frames()
    assert torch.equal(LookLock(40).edit_frames(clip), clip)
    assert torch.equal(finish_frames(clip, [LookLock(8, 0.0)]), clip)
    assert not Extension(8, 3, colour_lock=0.0).look().active and Extension(8, 3).look().frames == 8


def test_the_overlap_tells_gain_and_offset_of_the_chunk():
    clip = true_clip(6)
    changed = clip * 1.05 + BIAS
    torch.testing.assert_close(match_overlap(changed, clip[:3], 1.0), clip, rtol=0, atol=2e-3)
    dark = match_overlap(clip * 0.5, clip[:3], 1.0)
    assert float(look_of(dark).spread.mean() / look_of(clip).spread.mean()) < 0.56, "the gain has a limit"
    black = torch.zeros_like(clip)
    torch.testing.assert_close(match_overlap(black, clip[:3] * 0 + 1, 1.0), black + 1), "no contrast, no gain"


def test_a_chunk_starts_from_the_clips_own_frame_with_a_token_between_both_pictures():
    place = torch.arange(FRAMES, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 4, H, W)
    first = torch.tensor([[[1.0, 0.0]]])
    condition = Condition(first, place / SCALE, torch.arange(FRAMES)[:, None].float())
    asked = []

    def token_of(latent):
        asked.append(latent)
        return torch.tensor([[[0.0, 2.0]]])

    handed = chunk_condition(condition, place[5:6], token_of, 0.25)
    torch.testing.assert_close(handed.latent, place[5:6] / SCALE)
    assert torch.equal(handed.vector, torch.tensor([[7.0]])), "a curve over the clip stays at its end"
    assert torch.equal(asked[0], place[5:6])
    torch.testing.assert_close(handed.token.norm(), torch.tensor(0.25 * 1 + 0.75 * 2))
    torch.testing.assert_close(handed.token[0, 0, 0] / handed.token[0, 0, 1], torch.tensor(0.25 / 1.5))
    assert torch.equal(blend_tokens(first, 5 * first, 1.0), first)
    assert torch.equal(chunk_condition(condition, place[5:6], token_of, 1.0).token, first) and len(asked) == 1


def test_guidance_and_both_branches_reach_the_model_and_steps_are_counted_over_all_chunks():
    other = Condition(CONDITION.token * 0 + 9, CONDITION.latent, CONDITION.vector)
    told, steps = [], []

    def model(x, sigma, condition):
        told.append((len(x), float(condition.token.mean()) == 9))
        return moving(x, sigma, condition)

    guidance = torch.linspace(1, 2.5, FRAMES)
    extended(model, true_clip(9), 9, guidance=guidance, unconditional=other, on_step=steps.append, steps=3)
    assert told == [(FRAMES, True), (FRAMES, False)] * 6
    assert [(step.index, step.steps) for step in steps] == [(i, 6) for i in range(6)]


def test_the_seed_alone_decides_and_every_chunk_has_its_own():
    seen = []

    def noisy(x, sigma, condition):
        if sigma == 700.0:
            seen.append(x[OVERLAP:])
        return 0.9 * x / (1 + sigma**2)

    first, again, other = (extended(noisy, true_clip(FRAMES), 9, seed=seed) for seed in (2**64 - 1, 2**64 - 1, 9))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(seen[0], seen[1])
    torch.testing.assert_close(seen[0], start_noise(FRAMES, H, W, 0)[OVERLAP:] * (1 + 700.0**2) ** 0.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Extension(8, 8), r"1 to 7 \(got 8\); use about 2"),
        (lambda: Extension(8, 0), r"1 to 7 \(got 0\); use"),
        (lambda: Extension(8, 3, anchor=1.5), r"anchor .*got 1.5\); use"),
        (lambda: Extension(8, 3, colour_lock=-0.1), r"colour_lock .*got -0.1\); use"),
        (lambda: Extension(8, 3, detail=2.0), r"detail .*got 2\); use"),
        (lambda: LookLock(8, 1.5), r"LookLock .*got 1.5\); use 0.9"),
        (lambda: LookLock(0), r"frames >= 1 and ramp >= 0 \(got 0 and 4\); pass"),
        (lambda: Extension(8, 3, hold=float("inf")), r"sigma inf and 30\); use 0.3"),
        (lambda: Extension(8, 3, hold=40.0), r"sigma 40 and 30\); use 0.3"),
        (lambda: Extension(8, 3, repeats=0), r"1 to 10 \(got 0\); use"),
        (lambda: extended(moving, true_clip(8), 0), r"at least 1 frame \(got 0\); use"),
        (
            lambda: extended(moving, true_clip(2), 5),
            "overlap is 3 frames, but the clip has 2; use an overlap of at most 2",
        ),
        (lambda: extended(moving, true_clip(8) * float("nan"), 5), "not finite"),
        (lambda: extended(moving, true_clip(8), 5, extension=Extension(8, 3)), "pass token_of"),
        (
            lambda: sample(
                moving, start_noise(2, H, W, 1), [1.0, 0.0], 1.0, CONDITION, controls=[HoldFrames(true_clip(3))]
            ),
            "hold fewer frames",
        ),
    ],
)
def test_impossible_extensions_are_answered_with_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()

"""Milder guidance, repaired first frames and anchored colours, on models with a closed-form answer."""

import itertools
import math

import pytest
import torch

from svd_core.controls.amount import BucketGuidance, LowPassStart, MotionCurves
from svd_core.controls.steady import ColourAnchor, FirstFrame, SteadyGuidance
from svd_core.sampling.controls import Control, Inputs, Run
from svd_core.sampling.guidance import Guidance
from svd_core.sampling.noise import start_noise
from svd_core.sampling.solvers import SOLVERS
from tests.helpers.motion_models import FRAMES, Counted, H, W, condition, obedient_model, run, still

NEUTRAL = [SteadyGuidance(), FirstFrame(0.0), ColourAnchor(0.0)]
SCALE = 0.25  # of sigmas on this grid
ACTIVE = {
    "low-pass start": LowPassStart(100.0),
    "curves": MotionCurves(bucket=((0.0, 60.0), (1.0, 180.0)), fps=((0.0, 7.0), (1.0, 9.0))),
    "other bucket": BucketGuidance(0.0),
    "rescale": SteadyGuidance(rescale=0.7),
    "projection": SteadyGuidance(parallel=0.0, limit=0.06, momentum=-0.5),
    "first frame": FirstFrame(1.0),
    "anchor": ColourAnchor(0.3),
}


def told(sigmas=(10.0, 1.0, 0.0)):
    noise = start_noise(FRAMES, H, W, 1)
    return Run(noise, tuple(sigmas), Inputs(condition(), None, Guidance(torch.full((1,), 3.0))), lambda: noise)


def estimates(control, scale=3.0, sigmas=(10.0,), seed=0):
    """Return both estimates and the control's result, [n, T, 4, h, w] each, with new estimates at every sigma."""
    generator = torch.Generator().manual_seed(seed)
    made = []

    def evaluate(x, sigma, inputs):
        without, given = made[-1]
        return without + inputs.guidance.scale.reshape(-1, 1, 1, 1) * (given - without)

    wrapped = control.wrap(told(), evaluate)
    inputs = told().inputs._replace(guidance=Guidance(torch.as_tensor(scale)))
    answers = []
    for sigma in sigmas:
        made.append(torch.randn(2, FRAMES, 4, H, W, generator=generator) + 0.5)
        answers.append(wrapped(torch.randn(FRAMES, 4, H, W, generator=generator) * sigma, sigma, inputs))
    return torch.stack([m[0] for m in made]), torch.stack([m[1] for m in made]), torch.stack(answers)


def frame_dot(a, b):
    return (a * b).sum((-3, -2, -1))


@pytest.mark.parametrize("solver", SOLVERS)
def test_controls_that_are_off_leave_the_clip_bit_equal(solver):
    assert torch.equal(run(NEUTRAL, solver=solver), run(solver=solver))


@pytest.mark.parametrize(
    "control", [SteadyGuidance(rescale=0.7), SteadyGuidance(parallel=0.0, limit=0.05, momentum=-0.5)]
)
@pytest.mark.parametrize(
    ("guidance", "passes"),
    [(1.0, 1), (0.0, 1), (3.0, 2), (Guidance(3.0, sigma_high=0.1), 1), (Guidance([1.0, 1, 2, 2, 3]), 2)],
)
def test_corrected_guidance_takes_no_more_passes_and_none_where_there_is_no_guidance(control, guidance, passes):
    model, plain = Counted(), Counted()
    clip = run([control], model, sigmas=[5.0, 1.0], guidance=guidance)
    expected = run([], plain, sigmas=[5.0, 1.0], guidance=guidance)
    assert len(model.conditions) == len(plain.conditions) == passes
    assert torch.equal(clip, expected) == (passes == 1)


def test_frames_with_guidance_one_keep_their_own_estimate():
    for control in (SteadyGuidance(rescale=0.7), SteadyGuidance(parallel=0.0, limit=0.01, momentum=-0.5)):
        _, given, answer = estimates(control, [1.0, 1.0, 2.0, 2.0, 3.0])
        torch.testing.assert_close(answer[0, :2], given[0, :2])
        assert (answer[0, 2:] - given[0, 2:]).abs().amax((1, 2, 3)).min() > 0.01


@pytest.mark.parametrize("sigma", [0.3, 5.0, 700.0])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_rescale_is_that_of_the_velocity(share, sigma):
    # The paper's formula on v in float64, back to D.
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(FRAMES, 4, H, W, generator=generator, dtype=torch.float64) * math.sqrt(1 + sigma**2)
    without, given = torch.randn(2, FRAMES, 4, H, W, generator=generator, dtype=torch.float64)

    def velocity(estimate):
        return (x / (sigma**2 + 1) - estimate) * math.sqrt(sigma**2 + 1) / sigma

    guided = velocity(without + 3 * (given - without))
    ratio = velocity(given).std((1, 2, 3), keepdim=True) / guided.std((1, 2, 3), keepdim=True)
    wanted = x / (sigma**2 + 1) - (share * ratio + 1 - share) * guided * sigma / math.sqrt(sigma**2 + 1)

    def evaluate(x, sigma, inputs):
        return without + inputs.guidance.scale.reshape(-1, 1, 1, 1) * (given - without)

    answer = SteadyGuidance(rescale=share).wrap(told(), evaluate)(x, sigma, told().inputs)
    torch.testing.assert_close(answer, wanted)


def test_projection_keeps_the_chosen_share_of_what_only_scales_the_picture():
    for share in (0.0, 0.3):
        without, given, answer = estimates(SteadyGuidance(parallel=share))
        update, kept = given - without, (answer - given) / 2
        ratio = frame_dot(kept, given) / frame_dot(update, given)
        torch.testing.assert_close(ratio, torch.full_like(ratio, share), atol=1e-4, rtol=1e-4)
        across = [
            g - frame_dot(g, given)[..., None, None, None] / frame_dot(given, given)[..., None, None, None] * given
            for g in (update, kept)
        ]
        torch.testing.assert_close(*across, atol=1e-4, rtol=1e-4)


def test_guidance_is_limited_frame_by_frame():
    without, given, answer = estimates(SteadyGuidance(limit=0.06))
    kept = (answer - given) / 2
    torch.testing.assert_close(kept.pow(2).mean((-3, -2, -1)).sqrt(), torch.full((1, FRAMES), 0.06))
    _, _, loose = estimates(SteadyGuidance(limit=50.0))
    torch.testing.assert_close(loose, without + 3 * (given - without), atol=1e-4, rtol=1e-4)


def test_momentum_sums_the_updates_of_earlier_sigmas():
    without, given, answer = estimates(SteadyGuidance(momentum=-0.5), sigmas=(10.0, 5.0, 1.0))
    updates, kept = given - without, (answer - given) / 2
    total = torch.zeros_like(updates[0])
    for update, got in zip(updates, kept, strict=True):
        total = update - 0.5 * total
        torch.testing.assert_close(got, total, atol=1e-4, rtol=1e-4)


def test_evaluations_at_one_sigma_keep_their_momenta_apart():
    _, given, answer = estimates(SteadyGuidance(momentum=-0.5), sigmas=(10.0, 10.0, 5.0, 5.0))
    without, _, _ = estimates(SteadyGuidance(momentum=-0.5), sigmas=(10.0, 10.0, 5.0, 5.0))
    updates, kept = given - without, (answer - given) / 2
    torch.testing.assert_close(kept[:2], updates[:2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(kept[2:], updates[2:] - 0.5 * updates[:2], atol=1e-4, rtol=1e-4)


def test_a_clip_starts_without_momentum_whatever_the_control_served_before():
    control = SteadyGuidance(momentum=-0.5)
    assert torch.equal(run([control]), run([control]))


def test_steadier_guidance_burns_less():
    # The model's two estimates differ by the whole picture: at guidance 6 the clip is six times as bright.
    burnt = run(guidance=6.0).std()
    for control in (SteadyGuidance(rescale=0.7), SteadyGuidance(parallel=0.0), SteadyGuidance(limit=0.06)):
        assert run([control], guidance=6.0).std() < 0.5 * burnt


@pytest.mark.parametrize(
    ("sigma", "weight"), [(100.0, 0.8), (4 * SCALE, 0.8), (2 * SCALE, 0.6), (1 * SCALE, 0.5), (0.001, 0.4)]
)
@pytest.mark.parametrize("given", [False, True], ids=["of the condition", "handed over"])
def test_first_frame_is_held_above_its_sigma_and_eased_below(sigma, weight, given):
    picture = still(seed=8) if given else None
    control = FirstFrame(0.8, sigma=4.0, latent=picture)
    estimate = torch.zeros(FRAMES, 4, H, W)
    got = control.edit_estimate(told(), estimate, sigma, estimate)
    torch.testing.assert_close(got[0], weight * (still() if picture is None else picture)[0], atol=1e-3, rtol=1e-3)
    assert not got[1:].any() and not estimate.any(), "other frames, and the model's own answer, stay"


def test_first_frame_is_repaired_in_the_clip():
    # Guidance 3 makes the model's picture three times too strong.
    repaired, plain = run([FirstFrame()]), run()
    errors = [(clip[0] - still()[0]).pow(2).mean().sqrt() for clip in (repaired, plain)]
    assert errors[0] < 0.55 * errors[1]
    assert torch.equal(repaired[1:], plain[1:]), "this model keeps its frames apart"


def test_anchor_moves_channel_means_by_a_ramp_and_nothing_else():
    generator = torch.Generator().manual_seed(2)
    estimate = torch.randn(FRAMES, 4, H, W, generator=generator) + torch.arange(FRAMES).reshape(-1, 1, 1, 1)
    control = ColourAnchor(0.4, sigma=2.0)
    assert torch.equal(control.edit_estimate(told(), estimate, 2.0 * SCALE, estimate), estimate)
    got = control.edit_estimate(told(), estimate, 1.9 * SCALE, estimate)
    before, after = estimate.mean((2, 3)), got.mean((2, 3))
    ramp = torch.linspace(0, 0.4, FRAMES)[:, None]
    torch.testing.assert_close(after, before + ramp * (before[:1] - before), atol=1e-5, rtol=1e-5)
    centred = [clip - clip.mean((2, 3), keepdim=True) for clip in (estimate, got)]
    torch.testing.assert_close(*centred, atol=1e-5, rtol=1e-5)


def test_regions_of_the_anchor_even_out_a_local_tint():
    estimate = torch.zeros(FRAMES, 4, H, W)
    estimate[1:, 0, :, : W // 2] = 1.0
    whole, local = (
        ColourAnchor(1.0, regions=regions).edit_estimate(told(), estimate, 0.1, estimate)[-1, 0] for regions in (1, 4)
    )
    assert whole[:, :8].mean().item() == pytest.approx(0.5) and whole[:, -8:].mean().item() == pytest.approx(-0.5)
    assert abs(local[:, :8].mean().item()) < 1e-5 and abs(local[:, -8:].mean().item()) < 1e-5


def drifting_model(x, sigma, given):
    """Later frames are brighter."""
    return obedient_model(x, sigma, given) + 0.2 * torch.arange(FRAMES).reshape(-1, 1, 1, 1)


def test_anchor_takes_drift_out_of_the_clip():
    drifts = [
        (clip.mean((2, 3))[-1] - clip.mean((2, 3))[0]).mean().item()
        for clip in (run(controls, drifting_model, steps=25) for controls in ([], [ColourAnchor(0.3)]))
    ]
    assert drifts[0] > 0.7 and drifts[1] < 0.75 * drifts[0]


class Nothing(Control):
    """The neutral element, so that the table of pairs has every control alone."""


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize(("first", "second"), list(itertools.product(ACTIVE, ["nothing", *ACTIVE])))
def test_every_two_controls_run_together(first, second, guidance):
    controls = [ACTIVE[first], ACTIVE.get(second, Nothing())]
    clip = run(controls, steps=4, guidance=guidance)
    assert torch.isfinite(clip).all() and clip.std() < 4
    only_guided = {"other bucket", "rescale", "projection"}
    changed = guidance != 1 or not {first, second} <= {*only_guided, "nothing"}
    assert torch.equal(clip, run(steps=4, guidance=guidance)) != changed


@pytest.mark.parametrize("name", ACTIVE)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_control_suits_every_solver(name, solver):
    # An edit that a second-order step divides by a small sigma would blow the clip up; plain clips deviate by 2.4.
    assert run([ACTIVE[name]], solver=solver, steps=10).std() < 3


BAD = [
    ("rescale", lambda: SteadyGuidance(rescale=1.5), r"rescale .*got 1.5\); use"),
    ("parallel", lambda: SteadyGuidance(parallel=-0.1), r"parallel .*got -0.1\); use"),
    ("limit", lambda: SteadyGuidance(limit=math.nan), r"limit of guidance .*got nan\); use"),
    ("momentum", lambda: SteadyGuidance(momentum=-1.0), r"momentum .*got -1\); use"),
    ("first frame", lambda: FirstFrame(2.0), r"first frame.*got 2\); use"),
    ("pin sigma", lambda: FirstFrame(1.0, 0.0), r"first frame.*got 0\); use"),
    ("no picture", lambda: run([FirstFrame()], condition=condition().unconditional()), "condition holds none; use"),
    (
        "picture size",
        lambda: run([FirstFrame(latent=still(9, 9))]),
        r"\[1, 4, 9, 9\].*; encode the picture at the size of the clip",
    ),
    ("anchor", lambda: ColourAnchor(-0.5), r"colour anchor .*got -0.5\); use"),
    ("anchor sigma", lambda: ColourAnchor(0.2, -1.0), r"colour anchor .*got -1\); use"),
    ("regions", lambda: ColourAnchor(0.2, 2.0, 0), r"1 to 64 regions per side \(got 0\); use"),
]


@pytest.mark.parametrize(("call", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_says_value_limit_and_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()

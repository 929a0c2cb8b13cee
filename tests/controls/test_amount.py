"""Lower starts, curves of the motion numbers and guidance between buckets, on models known in closed form."""

import math

import pytest
import torch

from svd_core.condition import Condition
from svd_core.controls.amount import PRESETS, BucketGuidance, LowPassStart, MotionCurves, with_scalar
from svd_core.flow.planes import blur
from svd_core.model.conditioning import motion_vector
from svd_core.sampling.controls import Control, Start
from svd_core.sampling.noise import start_noise
from svd_core.sampling.sampler import sample
from svd_core.sampling.schedules import karras_sigmas
from svd_core.sampling.solvers import SOLVERS
from tests.helpers.motion_models import FRAMES, SPREAD, Counted, H, W, condition, obedient_model, run, still

NEUTRAL = [LowPassStart(0.0), MotionCurves(), BucketGuidance(None)]


@pytest.mark.parametrize("solver", SOLVERS)
def test_controls_that_are_off_leave_the_clip_bit_equal(solver):
    assert torch.equal(run(NEUTRAL, solver=solver), run(solver=solver))


@pytest.mark.parametrize(
    ("height", "width", "factor"), [(72, 128, 1.0), (18, 32, 0.25), (64, 64, 2 / 3), (8, 8, 1 / 12)]
)
def test_low_pass_start_follows_the_size_and_starts_about_the_blurred_picture(height, width, factor):
    picture, noise = still(height, width), start_noise(2, height, width, 1)
    model = Counted()
    given = condition(picture=picture)
    sample(model, noise, karras_sigmas(25), 1.0, given, controls=[LowPassStart(100.0, blur=12.0)])
    start = 100 * factor
    assert model.sigmas[0] == pytest.approx(start)
    assert model.sigmas[1:] == [s for s in karras_sigmas(25).tolist() if 0 < s < start * 0.97]
    mean = blur(picture, 12 * factor)
    spread = (picture - mean).pow(2).mean().item()
    assert spread > 0.01
    torch.testing.assert_close(model.states[0], mean + noise * math.sqrt(start**2 + spread), rtol=1e-5, atol=1e-4)


def test_low_pass_start_gives_the_mean_and_spread_of_the_clips_that_the_model_knows():
    # Clips normal about the picture, spread 0.5: the path of each start is known, x_0 - m = (x_M - m) r with
    # r = 0.5 / sqrt(0.25 + M^2). A start about 0 at a low M is r m too low; about the picture it is right.
    picture = torch.full((1, 4, H, W), 2.0)
    low = {"sigmas": karras_sigmas(60, sigma_max=1.0), "guidance": 1.0, "condition": condition(0, 0, 0.0, picture)}
    mean = obedient_model(torch.zeros(1), 1e9, low["condition"]).mean().item()
    assert mean == pytest.approx(2.2, abs=0.01)
    about_zero, about_picture = run(**low), run([LowPassStart(4.0)], **low)
    r = SPREAD / math.sqrt(SPREAD**2 + 1)
    assert about_zero.mean().item() == pytest.approx(mean * (1 - r), abs=0.02)
    assert about_picture.mean().item() == pytest.approx(mean - 0.2 * r, abs=0.02)  # the blur lacks the token's shift
    assert about_picture.std().item() == pytest.approx(r, abs=0.01)


class Elsewhere(Control):
    """Sets another start."""

    def begin(self, run, start):
        return Start(run.noise * 40.0, [40.0, *(s for s in start.sigmas if s < 40)])


def test_a_start_that_something_else_has_set_is_left_alone():
    low = LowPassStart(400.0)
    assert torch.equal(run([Elsewhere(), low]), run([Elsewhere()]))
    clip = still().expand(FRAMES, -1, -1, -1)
    assert torch.equal(run([low], latent=clip), run(latent=clip))
    assert not torch.equal(run([low]), run())


def test_a_schedule_that_starts_below_keeps_its_levels():
    model = Counted()
    run([LowPassStart(400.0, blur=0.0)], model, sigmas=[50.0, 5.0, 0.0])
    assert model.sigmas[::2] == [50.0, 5.0]
    torch.testing.assert_close(model.states[0], still() + 50 * start_noise(FRAMES, H, W, 1))


CURVES = [
    ("bucket", {"bucket": ((0.0, 60.0), (0.5, 180.0), (1.0, 127.0))}, [60.0, 120.0, 180.0, 153.5, 127.0], [6.0] * 5),
    ("fps", {"fps": ((0.0, 7.0), (1.0, 15.0))}, [127.0] * 5, [6.0, 8.0, 10.0, 12.0, 14.0]),
    ("both", {"bucket": ((0.25, 10.0), (0.5, 50.0)), "fps": ((0.0, 5.0),)}, [10.0, 10.0, 50.0, 50.0, 50.0], [4.0] * 5),
]


@pytest.mark.parametrize(("curves", "buckets", "fps_ids"), [c[1:] for c in CURVES], ids=[c[0] for c in CURVES])
@pytest.mark.parametrize("explicit", [False, True], ids=["derived branch", "given branch"])
def test_curves_reach_every_frame_of_both_branches(curves, buckets, fps_ids, explicit):
    model = Counted()
    other = condition().unconditional() if explicit else None
    run([MotionCurves(**curves)], model, steps=2, unconditional=other)
    wanted = motion_vector(torch.tensor(fps_ids), torch.tensor(buckets), 0.02)
    assert len(model.conditions) == 4
    for number, given in enumerate(model.conditions):
        assert torch.equal(given.vector.expand(FRAMES, -1), wanted)
        assert bool(given.latent.any()) == (number % 2 == 1), "the picture stays in its branch"


def test_a_level_curve_is_bit_equal_to_the_number():
    level = MotionCurves(bucket=((0.0, 127.0),), fps=((0.0, 7.0), (1.0, 7.0)))
    assert torch.equal(run([level]), run())
    assert not torch.equal(run([MotionCurves(bucket=((0.0, 60.0),))]), run())


@pytest.mark.parametrize("order", [1, -1])
def test_curves_leave_a_branch_with_its_own_bucket_alone_in_any_order(order):
    model = Counted()
    run([MotionCurves(bucket=((0.0, 200.0),)), BucketGuidance(20.0)][::order], model, steps=1)
    assert torch.equal(model.conditions[0].vector[:1], motion_vector(6, 20, 0.02))
    assert torch.equal(model.conditions[1].vector[:1], motion_vector(6, 200, 0.02))


@pytest.mark.parametrize("picture", [False, True])
@pytest.mark.parametrize(("bucket", "sign"), [(0.0, 1), (127.0, 0), (255.0, -1)])
def test_guidance_pushes_away_from_the_other_bucket_without_another_pass(bucket, sign, picture):
    model, plain = Counted(), Counted()
    # One step from a sigma so large that the estimate is the mean: D = D_other + 3 (D - D_other).
    alone = run([BucketGuidance(None)], plain, sigmas=[1e6, 0.0])
    clip = run([BucketGuidance(bucket, picture)], model, sigmas=[1e6, 0.0])
    assert len(model.conditions) == len(plain.conditions) == 2
    other = condition() if picture else condition().unconditional()
    low, high = (
        obedient_model(torch.zeros(1), 1e9, c)
        for c in (Condition(other.token, other.latent, motion_vector(6, bucket, 0.02)), condition())
    )
    torch.testing.assert_close(clip, (low + 3 * (high - low)).expand_as(clip), atol=1e-3, rtol=1e-3)
    if not picture:
        push = (clip - alone).mean().item()
        assert push == pytest.approx(2 * 0.005 * (127 - bucket), abs=0.03) and sign * push >= 0


def test_without_guidance_the_other_bucket_is_not_evaluated_and_the_log_says_so(caplog):
    model = Counted()
    clip = run([BucketGuidance(0.0)], model, guidance=1.0)
    assert torch.equal(clip, run(guidance=1.0)) and len(model.conditions) == 6
    assert "no bucket is compared with" in caplog.text


@pytest.mark.parametrize("name", PRESETS)
def test_presets_lean_the_way_they_are_called(name):
    amount = (run(PRESETS[name]) - run()).mean().item()
    assert (amount > 0.1) if name == "lively" else (amount < -0.1)


def test_a_number_of_the_vector_is_replaced_alone():
    changed = with_scalar(condition(), 2, torch.tensor([0.3]))
    assert torch.equal(changed.vector, motion_vector(6, 127, 0.3))
    assert torch.equal(changed.latent, condition().latent) and torch.equal(changed.token, condition().token)


BAD = [
    ("sigma", lambda: LowPassStart(-1.0), r"sigma .*got -1\); use sigma 50"),
    ("NaN", lambda: LowPassStart(math.nan), r"sigma .*got nan\); use"),
    ("blur", lambda: LowPassStart(100.0, -2.0), r"blur .*got -2\); use"),
    ("late start", lambda: run([LowPassStart(20.0)], sigmas=[700.0, 5.5]), r"got 5 and 5.5\); raise the start sigma"),
    (
        "no picture",
        lambda: run([LowPassStart()], condition=condition().unconditional()),
        "condition holds none; use Prepare Image",
    ),
    (
        "other picture",
        lambda: run([LowPassStart(latent=still(8, 8))]),
        r"\[1, 4, 8, 8\], the clip \[5, 4, 18, 32\]; encode",
    ),
    ("order", lambda: MotionCurves(bucket=((0.5, 1.0), (0.2, 3.0))), r"motion bucket curve .*0 .*1 .*got 0.2\); put"),
    ("position", lambda: MotionCurves(fps=((1.5, 7.0),)), r"fps curve .*got 1.5\); put"),
    ("negative", lambda: MotionCurves(bucket=((0.0, -3.0),)), r"motion bucket .*0 .*got -3\); use"),
    ("fps 0", lambda: MotionCurves(fps=((0.0, 0.0),)), r"fps .*1 .*got 0\); use"),
    ("bucket", lambda: BucketGuidance(math.inf), r"motion bucket .*got inf\); use"),
    (
        "vector",
        lambda: with_scalar(Condition(still()[0], still(), torch.zeros(1, 256)), 1, torch.ones(1)),
        "256 values.*; use a model",
    ),
]


@pytest.mark.parametrize(("call", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_says_value_limit_and_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
